"""The result of a build, as its tree has it.

A guest's build may write anything there: no link is followed out of the tree, nothing is opened
that could block, and what is read is limited in size. All processes of the build have ended by
then, so nothing changes between a check and a read.
"""

from contextlib import suppress
import json
from pathlib import Path
import stat
from typing import TypedDict

from ..const import MIB, FailureReason
from ..reason import Reason, ReasonKey
from .firmware import BuildResult
from .model import BuildError, BuildInfo

_LARGEST_RECORD = MIB
"""ESPHome's are a few KiB."""
_LARGEST_CONFIGURATION = 32 * MIB
_LONGEST_NAME = 64
_LARGEST_IMAGE = 512 * MIB
"""A program of the host platform takes tens of MiB; a file with holes could claim to be endless."""
_VALIDATED = ("json", "validated.json", "validated.yaml")
"""What ESPHome keeps of a validated configuration, after its name; older versions wrote YAML."""


class _Storage(TypedDict):
    """The fields that are used of ESPHome's StorageJSON."""

    build_path: str | None
    firmware_bin_path: str | None
    esphome_version: str | None
    name: str


def read_result(tree: Path, configuration: str) -> BuildResult:
    """Return the result of the last build in ``tree``. Blocks; raises BuildError and OSError."""
    path = tree / "storage" / f"{configuration}.json"
    try:
        storage: _Storage = json.loads(_record(tree, path))
        if not (storage["build_path"] and storage["firmware_bin_path"]):
            raise _unexpected()
        build = Path(storage["build_path"])
        ota = _file(tree, Path(storage["firmware_bin_path"]), _LARGEST_IMAGE)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unexpected() from error
    return BuildResult(
        ota=ota,
        build_info=_build_info(tree, build / "build_info.json", storage.get("esphome_version")),
        validated=read_validated(tree, configuration),
        node_name=str(storage.get("name") or "")[:_LONGEST_NAME],
    )


def forget_build_info(tree: Path, configuration: str) -> None:
    """Have ESPHome give the next build a new time. Blocks; raises BuildError and OSError."""
    storage: _Storage = json.loads(_record(tree, tree / "storage" / f"{configuration}.json"))
    path = Path(storage["build_path"] or "") / "build_info.json"
    _file(tree, path, _LARGEST_RECORD).unlink()


def read_validated(data_dir: Path, configuration: str) -> dict[str, Path]:
    """Return what ESPHome keeps of a validated configuration in its data directory.

    Nothing when it keeps none. Blocks; raises BuildError.
    """
    found: dict[str, Path] = {}
    for name in _VALIDATED:
        path = data_dir / "storage" / f"{configuration}.{name}"
        with suppress(FileNotFoundError):
            found[name] = _file(data_dir, path, _LARGEST_CONFIGURATION)
    return found if len(found) > 1 else {}


def forget_validated(data_dir: Path, configuration: str) -> None:
    """Remove it, so that what is found after the next call of ESPHome is of that call. Blocks."""
    # A build could have put a link there, to a folder that is none of its business.
    if not (data_dir / "storage").is_symlink():
        for name in _VALIDATED[1:]:
            (data_dir / "storage" / f"{configuration}.{name}").unlink(missing_ok=True)


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


def _file(tree: Path, path: Path, largest: int) -> Path:
    """Return the resolved path of a regular file; raises FileNotFoundError and BuildError."""
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
