"""Packages among the downloaded tools that are damaged: found by what a build said, and thrown away.

All of it was written by builds, which may print what they like and put links where they like. So a
package is named by folders below the tools, each of which is opened as what it is, never a link.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
import json
import os
from pathlib import Path
import re
import stat
from typing import Final
import uuid

from ...regular_file import open_regular
from .layout import CacheLayout
from .removal import open_folder

type Package = tuple[str, ...]
"""The names of the folders below the tools that lead to it."""

_NAME: Final = r"[A-Za-z0-9_][\w@.+-]{0,100}"
_PACKAGE: Final = re.compile(
    rf"platformio/(?:packages|platforms)/{_NAME}|idf/tools/{_NAME}/{_NAME}"
    rf"|(?:idf|sdk-nrf|arduino8266)/(?:frameworks|toolchains|penvs)/{_NAME}"
)
_DAMAGED: Final = re.compile(
    r"error while loading shared libraries|[Ee]xec format error|[Bb]ad interpreter|cannot execute"
    r"|could not execute|is missing the expected|incomplete|but getting error|malformed archive"
    r"|file truncated|file format not recognized|: not found|No such file or directory|posix_spawn"
)
_INCOMPLETE: Final = re.compile(r"is missing the expected|incomplete|[Bb]ad interpreter")
"""What is said of a whole framework; other lines name only a file of it, as the place of an error."""
_INSTALLED: Final = re.compile(
    rf"\btool ({_NAME}) version ({_NAME}) is installed, but getting error"
)
_NO_MANIFEST: Final = re.compile(r"one of '(package|platform)\.json' manifest")
_COMPILER_CACHE: Final = re.compile(r"\bccache: error: ")
_MANIFEST_SIZE: Final = 1024**2
_MOST_NAMES: Final = 1000
"""A build may make any number; all platforms together have some hundred packages."""


def find_damaged(layout: CacheLayout, lines: Iterable[str]) -> tuple[Package, ...]:
    """Return the packages that lines of a failed build name as damaged, or that have no manifest. Blocks."""
    found: dict[Package, None] = {}
    missed: dict[str, None] = {}
    root = f"{layout.tools}/"
    for line in lines:
        if (tool := _INSTALLED.search(line)) is not None:
            found["idf", "tools", tool[1], tool[2]] = None
        if _COMPILER_CACHE.search(line) is not None:
            found["ccache",] = None
        if (manifest := _NO_MANIFEST.search(line)) is not None:
            missed[manifest[1]] = None
        if _DAMAGED.search(line) is None:
            continue
        _, _, rest = line.partition(root)
        if (named := _PACKAGE.match(rest)) is None:
            continue
        package = tuple(named[0].split("/"))
        if package[1] not in ("frameworks", "penvs") or _INCOMPLETE.search(line) is not None:
            found[package] = None
    # Not for each line: a build may say it as often as it likes.
    for kind in missed:
        found.update(dict.fromkeys(_without_manifest(layout, kind)))
    return tuple(found)


def trash_package(layout: CacheLayout, package: Package) -> Path | None:
    """Move a package, if it is there, to where it can be deleted; return its path there. Fast."""
    layout.trash.mkdir(parents=True, exist_ok=True)
    doomed = uuid.uuid4().hex
    try:
        with _folder(layout.tools, *package[:-1]) as parent, _folder(layout.trash) as trash:
            name = package[-1]
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                return None
            os.rename(name, doomed, src_dir_fd=parent, dst_dir_fd=trash)
    except OSError:
        return None
    return layout.trash / doomed


def trash_all(layout: CacheLayout) -> list[Path]:
    """Move all tools to where they can be deleted; return their paths there. Fast.

    They are downloaded again when they are needed. Raises OSError.
    """
    try:
        with _folder(layout.tools) as tools:
            names = _names(tools)
    except FileNotFoundError:
        return []  # evicted
    moved = (trash_package(layout, (name,)) for name in names)
    return [path for path in moved if path is not None]


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _MOST_NAMES)]


def _without_manifest(layout: CacheLayout, kind: str) -> Iterator[Package]:
    """Return PlatformIO's packages of a kind that have no manifest that can be read."""
    where = ("platformio", f"{kind}s")
    try:
        with _folder(layout.tools, *where) as parent:
            for name in _names(parent):
                if re.fullmatch(_NAME, name) is None:
                    continue
                with _folder_in(parent, name) as package:
                    if not _has_manifest(package, f"{kind}.json"):
                        yield (*where, name)
    except OSError:
        return


def _has_manifest(folder: int | None, name: str) -> bool:
    if folder is None:
        return True  # a file or a link, which is no package
    try:
        with open_regular(name, folder) as manifest:
            json.loads(manifest.read(_MANIFEST_SIZE))
    except OSError, ValueError, RecursionError:
        return False
    return True


@contextmanager
def _folder(top: Path, *names: str) -> Iterator[int]:
    """Open a folder below another, no link on the way; raises OSError."""
    handle = open_folder(str(top), None)
    try:
        for name in names:
            inner = open_folder(name, handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _folder_in(parent: int, name: str) -> Iterator[int | None]:
    """Open a folder; None for what is no folder."""
    try:
        handle = open_folder(name, parent)
    except OSError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
