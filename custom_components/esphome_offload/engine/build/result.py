"""What a build made, found in its tree.

The build wrote all of it, and a guest's may have wanted to harm: nothing is followed out of the
tree, nothing opened that could block, nothing read that has no end. No process of the build is
left by then that could put something else in its place.
"""

import json
from pathlib import Path
import stat
from typing import TypedDict

from ..const import FailureReason
from ..reason import Reason, ReasonKey
from .firmware import BuildResult
from .model import BuildError, BuildInfo

_MIB = 1024 * 1024

_LARGEST_RECORD = _MIB
"""ESPHome's are a few KiB."""
_LARGEST_IMAGE = 512 * _MIB
"""An ELF file with all its symbols takes tens of MiB; a file with holes could claim to be endless."""


class _Storage(TypedDict):
    """What we read of ESPHome's StorageJSON."""

    build_path: str | None
    firmware_bin_path: str | None
    esphome_version: str | None


def read_result(tree: Path, configuration: str) -> BuildResult:
    """Return what the last build in ``tree`` made; blocks. Raises BuildError and OSError."""
    path = tree / "storage" / f"{configuration}.json"
    try:
        storage: _Storage = json.loads(_record(tree, path))
        if not (storage["build_path"] and storage["firmware_bin_path"]):
            raise _unexpected()
        build, image = Path(storage["build_path"]), Path(storage["firmware_bin_path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unexpected() from error
    ota = _image(tree, image)
    return BuildResult(
        ota=ota,
        factory=_sibling(tree, ota, "firmware.factory.bin", "firmware.uf2"),
        # On the host platform the program is the image and the ELF file in one.
        elf=ota if ota.name == "program" else _sibling(tree, ota, "firmware.elf"),
        build_info=_build_info(tree, build / "build_info.json", storage.get("esphome_version")),
    )


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
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _unexpected() from error


def _record(tree: Path, path: Path) -> bytes:
    """Read a small file; raises FileNotFoundError and BuildError."""
    return _file(tree, path, _LARGEST_RECORD).read_bytes()


def _image(tree: Path, path: Path) -> Path:
    try:
        return _file(tree, path, _LARGEST_IMAGE)
    except FileNotFoundError as error:
        raise _unexpected() from error


def _sibling(tree: Path, ota: Path, *names: str) -> Path | None:
    found = (ota.with_name(name) for name in names if name != ota.name)
    return next((_image(tree, path) for path in found if path.is_file()), None)


def _file(tree: Path, path: Path, largest: int) -> Path:
    """Return where a file really is; raises FileNotFoundError and BuildError."""
    try:
        real = path.resolve(strict=True)
        found = real.stat()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unexpected() from error
    if not real.is_relative_to(tree.resolve()):
        raise BuildError(FailureReason.CONFIG_INVALID, Reason(ReasonKey.BUILD_PATH_OUTSIDE))
    if not stat.S_ISREG(found.st_mode) or found.st_size > largest:
        raise _unexpected()
    return real


def _unexpected() -> BuildError:
    return BuildError(FailureReason.BUILDER_ENVIRONMENT, Reason(ReasonKey.RESULT_MISSING))
