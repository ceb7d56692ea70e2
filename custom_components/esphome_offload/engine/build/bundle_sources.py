"""The state of the configuration folder, by which a bundle is known to be up to date."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
from typing import Annotated

from ..codec import Number

NAMES_LIMIT = 20_000
"""With more files it is not a configuration folder but a whole disk."""
_SKIPPED = "__pycache__"
LOOK_TIMEOUT = 60.0
"""Seconds; a second for the largest folders, more over a network."""


_Integer = Annotated[int, Number(-(2**63), 2**64)]


@dataclass(frozen=True, slots=True)
class Signature:
    """Values that change when a file is written or replaced; times in nanoseconds."""

    size: _Integer
    modified: _Integer
    changed: _Integer
    inode: _Integer


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of a folder by relative path, without hidden ones and those behind links.

    ``names`` is a digest of all names and of the targets of links: a new file can be used as well
    as a changed one (``!include_dir_list``). None when it is unknown. ``outer``: files behind
    links and outside of the folder, and the folders that they are in.
    """

    names: str | None = None
    files: Mapping[str, Signature] = field(default_factory=dict)
    outer: Mapping[str, Signature] = field(default_factory=dict)


def read_sources(folder: Path) -> Sources:
    """Return the present state of a folder. Blocks."""
    names: list[str] = []
    files: dict[str, Signature] = {}
    try:
        for name, signature in _walk(folder, ""):
            if len(names) >= NAMES_LIMIT:
                return Sources()
            names.append(name)
            if signature is not None:
                files[name] = signature
    except OSError:
        # Not readable, or changed meanwhile.
        return Sources()
    text = "\0".join(sorted(names))
    return Sources(hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(), files)


def signature(path: Path) -> Signature | None:
    """Return the present signature of a file; None when it is not there."""
    try:
        return _signature(path.stat())
    except OSError:
        return None


def outer_signatures(config_dir: Path, names: Iterable[str]) -> dict[str, Signature] | None:
    """Return the present signatures of files that are not in the folder itself, by path. Blocks.

    Also of the folders that they are in, and of those below: a new file there changes them. None
    when one is missing, or when there are too many.
    """
    real = config_dir.resolve()
    folders = dict.fromkeys((config_dir / name).parent for name in names)
    paths = [config_dir / name for name in names]
    for folder in folders:
        # Those around it hold all that Home Assistant has.
        if real.is_relative_to(folder.resolve()):
            continue
        for root, _, _ in folder.walk():
            paths.append(root)
            if len(paths) > NAMES_LIMIT:
                return None
    found = {str(path): signature(path) for path in paths}
    kept = {path: each for path, each in found.items() if each is not None}
    return kept if len(kept) == len(found) else None


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Signature | None]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == _SKIPPED:
                continue
            name = f"{prefix}{entry.name}"
            if entry.is_symlink():
                yield f"{name}\0{Path(entry.path).readlink()}", None
            elif entry.is_dir():
                yield f"{name}/", None
                yield from _walk(Path(entry.path), f"{name}/")
            elif entry.is_file():
                yield name, _signature(entry.stat(follow_symlinks=False))
