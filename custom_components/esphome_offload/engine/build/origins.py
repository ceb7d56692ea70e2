"""Origins: what kept firmware was built from, to know when a build would only make it again.

Here is what a fingerprint of the configuration does not cover: the version, this machine's
toolchain and the environment of its processes, and the files that only the validated configuration
names. What is fetched from the network may be another each time: such firmware has no origin, nor
has any of which not everything is known.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Final
import uuid

from ..codec import CodecError, Keyed, Number, Text, decode_json, encode_json
from ..threads import UnreliableThreads
from .bundle import DATA
from .bundle_sources import LOOK_TIMEOUT, Signature, signature
from .cache.layout import CacheLayout
from .firmware import FirmwareStore
from .model import Firmware
from .process.environment import process_environment
from .used_files import used_files

_LOGGER = logging.getLogger(__name__)

_ORIGIN: Final = "origin.json"
_VALIDATED: Final = "validated.json"
_MOST_FILES: Final = 2000
_OWN_FOLDERS: Final = frozenset({"build", "storage", "idedata", "pio_components", ".espressif"})
"""Of a data directory of ESPHome; every other one is of what it has fetched from the network."""
_NOT_BESIDE: Final = (".yaml", ".yml", ".log", ".db", ".db-shm", ".db-wal")

_Name = Annotated[str, Text(4096, free=True)]


@dataclass(frozen=True, slots=True)
class BuildState:
    """What a build depends on, as far as whoever asks for it knows.

    ``fingerprint`` is of the files of the configuration, of which all have to be known.
    """

    configuration: str
    config_dir: Path
    device_name: str
    esphome_version: str
    time_zone: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeptBuild:
    """Kept firmware, and the builder that made it.

    ``config_hash`` is ESPHome's hash of the configuration on this machine, then.
    """

    firmware: Firmware
    builder_id: str
    config_hash: int


@dataclass(frozen=True, slots=True)
class _Origin:
    """The state of everything when it was built. ``around`` is a digest of what is no file."""

    builder_id: _Name
    esphome_version: _Name
    device_name: _Name
    fingerprint: _Name
    config_hash: Annotated[int, Number(0, 2**63)]
    around: _Name
    files: Annotated[Mapping[_Name, Signature], Keyed(_MOST_FILES)]


class Origins:
    """Keeps the origin of a firmware beside it. All work is done in a thread."""

    def __init__(
        self, layout: CacheLayout, firmware: FirmwareStore, *, look_timeout: float = LOOK_TIMEOUT
    ) -> None:
        """``look_timeout``: seconds that the folder of the configurations has to answer."""
        self._layout = layout
        self._firmware = firmware
        self._look_timeout = look_timeout
        self._threads = UnreliableThreads()

    async def begin(self) -> int | None:
        """Return the present moment by the clock of the files; None when it cannot be told."""
        try:
            return await asyncio.to_thread(self._moment)
        except OSError as error:
            _LOGGER.debug("No moment can be told: %s", error)
            return None

    async def note(self, state: BuildState, built: KeptBuild, started: int) -> None:
        """Keep from what a firmware was built just now; nothing if that is not fully known.

        ``started`` is the moment when the build began.
        """
        try:
            await self._threads.run(lambda: self._note(state, built, started), self._look_timeout)
        except OSError as error:  # TimeoutError is one
            _LOGGER.debug("The origin of %s is not kept: %s", state.configuration, error)

    async def find(self, state: BuildState) -> list[KeptBuild]:
        """Return the firmware that would only be made again, the newest first."""
        try:
            kept = await self._firmware.all(state.configuration)
            return await self._threads.run(lambda: self._find(state, kept), self._look_timeout)
        except OSError as error:
            _LOGGER.debug("No origin of %s can be compared: %s", state.configuration, error)
            return []

    async def forget(self, configuration: str | None) -> None:
        """Have a configuration built again, whatever is kept; None: each of them."""
        # Not after what may hang in the folder of the configurations.
        await asyncio.to_thread(self._forget_all, configuration)

    def _moment(self) -> int:
        self._layout.staging.mkdir(parents=True, exist_ok=True)
        mark = self._layout.staging / uuid.uuid4().hex
        mark.touch()
        try:
            return mark.stat().st_ctime_ns
        finally:
            mark.unlink(missing_ok=True)

    def _forget_all(self, configuration: str | None) -> None:
        if configuration is None:
            found = self._firmware.folder.glob(f"*/*/{_ORIGIN}")
        else:
            found = self._layout.firmware(configuration).glob(f"*/{_ORIGIN}")
        for path in found:
            path.unlink(missing_ok=True)

    def _note(self, state: BuildState, built: KeptBuild, started: int) -> None:
        _path(built.firmware).unlink(missing_ok=True)
        around = self._around(state)
        validated = _read(built.firmware.validated.get(_VALIDATED))
        if (
            around is None
            or validated is None
            or built.config_hash <= 0
            or self._has_fetched(state.configuration)
        ):
            return
        used = _files(validated, state.config_dir)
        files = None if used is None else _signatures(used, state.config_dir, started)
        if files is None:
            return
        origin = _Origin(
            built.builder_id,
            state.esphome_version,
            state.device_name,
            state.fingerprint,
            built.config_hash,
            around,
            files,
        )
        _path(built.firmware).write_bytes(encode_json(origin))

    def _find(self, state: BuildState, kept: list[Firmware]) -> list[KeptBuild]:
        found: list[KeptBuild] = []
        around = self._around(state)
        for firmware in kept:
            try:
                origin = decode_json(_Origin, _path(firmware).read_bytes())
            except OSError, CodecError:
                continue
            same = (
                origin.fingerprint == state.fingerprint
                and origin.esphome_version == state.esphome_version
                and origin.device_name == state.device_name == firmware.device_name
                and origin.around == around
                and all(signature(Path(name)) == each for name, each in origin.files.items())
            )
            if same:
                found.append(KeptBuild(firmware, origin.builder_id, origin.config_hash))
        return found

    def _around(self, state: BuildState) -> str | None:
        """Return a digest of the toolchain and of what ESPHome's processes are given."""
        toolchain = signature(self._layout.toolchain(state.esphome_version) / "pyvenv.cfg")
        if toolchain is None:
            return None
        environment = process_environment(
            os.environ,
            time_zone=state.time_zone,
            home=self._layout.home,
            tmpdir=self._layout.tmp,
        )
        # Not the time of its last change of any kind: another link to it is one.
        made = [toolchain.inode, toolchain.modified]
        content = [str(state.config_dir), state.time_zone, made, sorted(environment.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _has_fetched(self, configuration: str) -> bool:
        """Return whether ESPHome has fetched anything for this configuration."""
        data_dirs = self._layout.tree(configuration), self._layout.bundle(configuration) / DATA
        names = [path.name for data_dir in data_dirs for path in data_dir.glob("*/")]
        return not _OWN_FOLDERS.issuperset(names)


def _path(firmware: Firmware) -> Path:
    return firmware.ota.parent / _ORIGIN


def _read(path: Path | None) -> dict[str, object] | None:
    """Return the validated configuration; None where this ESPHome keeps none."""
    if path is None:
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError, RecursionError:
        return None
    config = content.get("config") if isinstance(content, dict) else None
    return config if isinstance(config, dict) else None


def _files(config: dict[str, object], config_dir: Path) -> list[Path] | None:
    """Return the files that a validated configuration names, and those beside them in the folder.

    One of them may name another one. None when not all are known, or when there are too many.
    """
    named = used_files(config, config_dir)
    if named is None:
        return None
    found = dict.fromkeys(named)
    for folder in {path.parent for path in named if path.is_relative_to(config_dir)}:
        for path in folder.iterdir():
            if path.name.startswith(".") or path.suffix in _NOT_BESIDE or not path.is_file():
                continue
            found[path] = None
            if len(found) > _MOST_FILES or not path.name.isprintable():
                return None
    return list(found)


def _signatures(files: list[Path], config_dir: Path, started: int) -> dict[str, Signature] | None:
    """Return the present signatures of files; None if any has changed since a build began.

    A file that was taken away, or put in place of another one, changes its folder.
    """
    found: dict[str, Signature] = {}
    for path in files:
        present = signature(path)
        if present is None or max(present.changed, present.modified) >= started:
            return None
        found[str(path)] = present
    for folder in {path.parent for path in files if path.is_relative_to(config_dir)}:
        present = signature(folder)
        if present is None or present.changed >= started:
            return None
    return found
