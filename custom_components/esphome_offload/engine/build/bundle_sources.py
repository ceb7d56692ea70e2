"""The state of the configuration folder, by which a bundle is known to be up to date."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
import re
from typing import Annotated

from ..codec import Number

NAMES_LIMIT = 20_000
"""With more files it is not a configuration folder but a whole disk."""
_SKIPPED = "__pycache__"
_SECRETS = frozenset({"secrets.yaml", "secrets.yml"})
_INCLUDES_SECRETS = re.compile(rb"!include\b[^\n]*secrets\.ya?ml|file:[^\n]*secrets\.ya?ml")


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
    as a changed one (``!include_dir_list``). None when it is unknown.
    """

    names: str | None = None
    files: Mapping[str, Signature] = field(default_factory=dict)


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


def outer_secrets(path: Path, config_dir: Path) -> bool:
    """Return whether a file is the secrets of a folder around the configuration folder.

    As in ``<<: !include ../secrets.yaml``: the values that are used come from the folder's own
    ``secrets.yaml``, which a bundle has with all that it includes.
    """
    inside = config_dir.resolve()
    return path.name in _SECRETS and path.parent != inside and inside.is_relative_to(path.parent)


def includes_secrets(path: Path) -> bool:
    """Return whether a YAML file takes a file of secrets as anything but secrets."""
    try:
        return _INCLUDES_SECRETS.search(path.read_bytes()) is not None
    except OSError:
        return True


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
