"""The result of a build, as its tree has it.

A guest's build may write anything there, and other builds of that guest may still do so: the result
is copied out of the tree before anything is done with it. No link is followed on the way, a file of
another owner is none of the build's, nothing is opened that could block, and what is read is limited
in size.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import errno
from itertools import islice
import json
import os
from pathlib import Path
from typing import BinaryIO, TypedDict

from ..const import MIB, FailureReason
from ..reason import Reason, ReasonKey
from ..regular_file import open_regular
from .cache.removal import open_folder
from .firmware import IMAGES, BuildResult
from .model import BuildError, BuildInfo

_LARGEST_RECORD = MIB
"""ESPHome's are a few KiB."""
_LARGEST_CONFIGURATION = 32 * MIB
_LONGEST_NAME = 64
_LARGEST_IMAGE = 512 * MIB
"""A program of the host platform takes tens of MiB; a file with holes could claim to be endless."""
_CHUNK = MIB
_MOST_NAMES = 1000
"""A build may make any number; ESPHome makes three."""
_VALIDATED = ("json", "validated.json", "validated.yaml")
"""What ESPHome keeps of a validated configuration, after its name; older versions wrote YAML."""


class _Storage(TypedDict):
    """The fields that are used of ESPHome's StorageJSON."""

    build_path: str | None
    firmware_bin_path: str | None
    esphome_version: str | None
    name: str


def take_result(tree: Path, configuration: str, folder: Path) -> BuildResult:
    """Copy the result of the last build in ``tree`` into ``folder``, which is made.

    Blocks; raises BuildError and OSError.
    """
    (folder / "image").mkdir(parents=True, mode=0o700)
    try:
        storage: _Storage = json.loads(_record(tree, _storage(tree, configuration)))
        if not (storage["build_path"] and storage["firmware_bin_path"]):
            raise _unexpected()
        build, image = Path(storage["build_path"]), Path(storage["firmware_bin_path"])
        ota = folder / "image" / image.name
        _copy(tree, image, ota, _LARGEST_IMAGE)
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unexpected() from error
    return BuildResult(
        ota=ota,
        build_info=_build_info(tree, build / "build_info.json", storage.get("esphome_version")),
        validated=_take_validated(tree, configuration, folder),
        node_name=str(storage.get("name") or "")[:_LONGEST_NAME],
        images=_take_images(tree, image, folder / "images"),
    )


def forget_build_info(tree: Path, configuration: str) -> None:
    """Have ESPHome give the next build a new time. Blocks; raises BuildError and OSError."""
    storage: _Storage = json.loads(_record(tree, _storage(tree, configuration)))
    with _folder_of(tree, Path(storage["build_path"] or "") / "build_info.json") as (parent, name):
        os.unlink(name, dir_fd=parent)


def read_validated(data_dir: Path, configuration: str) -> dict[str, Path]:
    """Return what ESPHome keeps of a validated configuration in its data directory.

    For one that no build writes to. Nothing when it keeps none. Blocks; raises BuildError.
    """
    found: dict[str, Path] = {}
    for name in _VALIDATED:
        path = _storage(data_dir, configuration, name)
        with suppress(FileNotFoundError), _opened(data_dir, path, _LARGEST_CONFIGURATION):
            found[name] = path
    return found if len(found) > 1 else {}


def forget_validated(data_dir: Path, configuration: str) -> None:
    """Remove it, so that what is found after the next call of ESPHome is of that call. Blocks."""
    for name in _VALIDATED[1:]:
        with (
            suppress(FileNotFoundError, BuildError),
            _folder_of(data_dir, _storage(data_dir, configuration, name)) as (parent, file),
        ):
            os.unlink(file, dir_fd=parent)


def built_configurations(trees: Path) -> frozenset[str]:
    """Return the configurations that have been built, by what ESPHome left in their trees. Blocks."""
    return frozenset(
        name.removesuffix(".json")
        for tree in trees.glob("*/")
        for name in _names(tree / "storage")
        if name.endswith(".json") and not name.endswith(".validated.json")
    )


def _names(storage: Path) -> list[str]:
    with suppress(OSError):
        folder = open_folder(str(storage), None)
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in islice(entries, _MOST_NAMES)]
        finally:
            os.close(folder)
    return []


def _storage(data_dir: Path, configuration: str, name: str = "json") -> Path:
    return data_dir / "storage" / f"{configuration}.{name}"


def _take_validated(tree: Path, configuration: str, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in _VALIDATED:
        path = _storage(tree, configuration, name)
        with suppress(FileNotFoundError):
            _copy(tree, path, folder / name, _LARGEST_CONFIGURATION)
            found[name] = folder / name
    return found if len(found) > 1 else {}


def _take_images(tree: Path, ota: Path, folder: Path) -> tuple[Path, ...]:
    """Copy what ESPHome made beside the OTA image; nothing else needs it, so it may be missing."""
    folder.mkdir(mode=0o700)
    found: list[Path] = []
    for name in IMAGES:
        with suppress(FileNotFoundError, BuildError):
            if name != ota.name:
                _copy(tree, ota.parent / name, folder / name, _LARGEST_IMAGE)
                found.append(folder / name)
    return tuple(found)


def _build_info(tree: Path, path: Path, esphome_version: str | None) -> BuildInfo:
    try:
        content = json.loads(_record(tree, path))
        return BuildInfo(
            esphome_version=str(content["esphome_version"]),
            build_time=str(content["build_time_str"]),
            config_hash=int(content["config_hash"]),
        )
    except FileNotFoundError:
        # ESPHome before 2026 wrote none; then only the version can be compared.
        return BuildInfo(esphome_version=str(esphome_version or ""), build_time="", config_hash=0)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _unexpected() from error


def _record(tree: Path, path: Path) -> bytes:
    """Read a small file; raises FileNotFoundError and BuildError."""
    with _opened(tree, path, _LARGEST_RECORD) as (file, size):
        return file.read(size)


def _copy(tree: Path, path: Path, target: Path, largest: int) -> None:
    with _opened(tree, path, largest) as (file, size), target.open("xb") as copy:
        # Resolved secrets stand in some.
        os.fchmod(copy.fileno(), 0o600)
        left = size
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            left -= copy.write(chunk)


@contextmanager
def _opened(tree: Path, path: Path, largest: int) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file of the tree's owner, and say its size; raises as ``_folder_of``."""
    with _folder_of(tree, path) as (parent, name), _named_errors():
        opened = open_regular(name, parent)
    with opened as file:
        found = os.fstat(file.fileno())
        # A name for a file of somebody else, which only we could read, can be made without that.
        own = found.st_uid == tree.stat().st_uid
        if not own or found.st_size > largest:
            raise _unexpected()
        yield file, found.st_size


@contextmanager
def _folder_of(tree: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Open the folder of a file in the tree, and say the file's name in it.

    Raises FileNotFoundError, and BuildError for all else, as for a path that leaves the tree.
    """
    inside = next((each for each in (tree, tree.resolve()) if path.is_relative_to(each)), None)
    names = () if inside is None else path.relative_to(inside).parts
    if not names or ".." in names:
        raise _outside()
    with _named_errors():
        folder = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            with _named_errors():
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(name, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder, names[-1]
    finally:
        os.close(folder)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Raise FileNotFoundError for what is not there, and else BuildError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # What a link in the place of a file, or of a folder, leads to.
        raise (
            _outside() if error.errno in (errno.ELOOP, errno.ENOTDIR) else _unexpected()
        ) from error


def _outside() -> BuildError:
    return BuildError(FailureReason.CONFIG_INVALID, Reason(ReasonKey.BUILD_PATH_OUTSIDE))


def _unexpected() -> BuildError:
    return BuildError(FailureReason.BUILDER_ENVIRONMENT, Reason(ReasonKey.RESULT_MISSING))
