"""The configuration folder: its files, their signatures and content. All of it blocks."""

from collections.abc import Iterable, Mapping
import hashlib
import os
from pathlib import Path
import stat
from typing import Final

_SECRETS: Final = frozenset({"secrets.yaml", "secrets.yml"})
_SUFFIXES: Final = (".yaml", ".yml")
_BYTECODE: Final = "__pycache__"

type Signature = str
"""A text that changes when a file is written or replaced; empty for one that is not there."""


def configuration_names(config_dir: str) -> list[str]:
    """Return the names of the files that may be configurations; raises OSError."""
    with os.scandir(config_dir) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.endswith(_SUFFIXES)
            and not entry.name.startswith(".")
            and entry.name not in _SECRETS
            and not _is_folder(entry)
        )


def has_anything(config_dir: str) -> bool:
    """Return whether there is anything in a folder; an unmounted share leaves an empty one."""
    with os.scandir(config_dir) as entries:
        return next(entries, None) is not None


def signatures(config_dir: str, names: Iterable[str]) -> dict[str, Signature]:
    """Return the present signatures of paths relative to the folder."""
    return {name: _signature(os.path.join(config_dir, name)) for name in names}  # noqa: PTH118


def content_digest(config_dir: str, names: Iterable[str]) -> str:
    """Return a digest of names and contents; of a folder, of the names in it.

    The same wherever the folder is.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode(errors="surrogateescape") + b"\0")
        digest.update(_content(Path(config_dir, name)))
    return digest.hexdigest()


def head(path: Path, limit: int) -> bytes:
    """Return the beginning of a regular file; nothing of what is none, or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def unchanged(before: Mapping[str, Signature], now: Mapping[str, Signature]) -> bool:
    """Return whether all paths have the signature that they had."""
    return all(now.get(path) == signature for path, signature in before.items())


def same_file(one: Signature, other: Signature) -> bool:
    """Return whether two signatures are of one file with one content, which may be renamed."""

    def kept(signature: Signature) -> list[str]:
        size, written, _, inode = signature.split(".")
        return [size, written, inode]

    return bool(one and other) and kept(one) == kept(other)


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            # Python and editors leave files of their own; a build must not look like a change.
            names = (each.name for each in path.iterdir())
            kept = (name for name in names if name != _BYTECODE and not name.startswith("."))
            return "\0".join(sorted(kept)).encode(errors="surrogateescape")
        if not stat.S_ISREG(mode):
            return b"-"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError, ValueError:
        return b"-"


def _signature(path: str) -> Signature:
    try:
        status = os.stat(path)  # noqa: PTH116 thousands of them at each look
    except OSError, ValueError:
        return ""
    return f"{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; the error comes when it is read
        return False
