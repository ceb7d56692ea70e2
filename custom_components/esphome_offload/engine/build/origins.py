"""Origins: what kept firmware was built from, to know when a build would only make it again.

Here is what a fingerprint of the configuration does not cover: the version, this machine's
toolchain and the environment of its processes, and the files that only the validated configuration
names. What is fetched from the network may be another each time: such firmware has no origin, nor
has any of which not everything is known.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Final

from ..codec import CodecError, Keyed, Number, Text, decode_json, encode_json
from ..threads import UnreliableThreads
from .bundle import DATA
from .bundle_sources import LOOK_TIMEOUT, Signature, signature
from .cache.layout import CacheLayout
from .firmware import FirmwareStore
from .model import Firmware
from .process.environment import process_environment

_LOGGER = logging.getLogger(__name__)

_ORIGIN: Final = "origin.json"
_VALIDATED: Final = "validated.json"
_LAMBDA: Final = "__esphome_lambda__"
"""ESPHome's key for the body of a lambda, which names no file."""
_MOST_FILES: Final = 2000
_LONGEST_NAME: Final = 1024
_OWN_FOLDERS: Final = frozenset({"build", "storage", "idedata", "pio_components", ".espressif"})
"""Of a data directory of ESPHome; every other one is of what it has fetched from the network."""
_DOUBTFUL: Final = ("platformio_options", "build_flags", "environment_variables")
"""Options of ``esphome:`` that can have any file used."""
_HARMLESS: Final = ("board_", "upload_", "monitor_")
"""The beginnings of ``platformio_options`` that cannot."""
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
    """Firmware that the same state has made before.

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

    async def note(
        self, state: BuildState, firmware: Firmware, builder_id: str, config_hash: int
    ) -> None:
        """Keep from what a firmware was built just now; nothing if that is not fully known."""
        try:
            await self._threads.run(
                lambda: self._note(state, firmware, builder_id, config_hash), self._look_timeout
            )
        except OSError as error:  # TimeoutError is one
            _LOGGER.debug("The origin of %s is not kept: %s", state.configuration, error)

    async def find(self, state: BuildState) -> list[KeptBuild]:
        """Return the firmware that would only be made again, the newest first."""
        kept = await self._firmware.all(state.configuration)
        try:
            return await self._threads.run(lambda: self._find(state, kept), self._look_timeout)
        except OSError as error:
            _LOGGER.debug("No origin of %s can be compared: %s", state.configuration, error)
            return []

    async def forget(self, configuration: str) -> None:
        """Have a configuration built again, whatever is kept."""
        kept = await self._firmware.all(configuration)
        await self._threads.run(lambda: _forget(kept), self._look_timeout)

    def _note(
        self, state: BuildState, firmware: Firmware, builder_id: str, config_hash: int
    ) -> None:
        _forget([firmware])
        around = self._around(state)
        validated = _read(firmware.validated.get(_VALIDATED))
        if (
            around is None
            or validated is None
            or config_hash <= 0
            or _is_doubtful(validated)
            or self._has_fetched(state.configuration)
        ):
            return
        files = _files(validated, state.config_dir)
        if files is None:
            return
        origin = _Origin(
            builder_id,
            state.esphome_version,
            state.device_name,
            state.fingerprint,
            config_hash,
            around,
            files,
        )
        _path(firmware).write_bytes(encode_json(origin))

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


def _forget(kept: list[Firmware]) -> None:
    for firmware in kept:
        _path(firmware).unlink(missing_ok=True)


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


def _is_doubtful(config: dict[str, object]) -> bool:
    """Return whether a build may use what is not known here."""
    block = config.get("esphome")
    if not isinstance(block, dict):
        return True
    for option in _DOUBTFUL:
        given = block.get(option)
        if given and not (
            option == _DOUBTFUL[0] and all(str(name).startswith(_HARMLESS) for name in given)
        ):
            return True
    return "://" in json.dumps(block.get("libraries"))


def _sections(value: object) -> Iterator[dict[str, object]]:
    """Yield all maps of a configuration, but for the bodies of lambdas."""
    if isinstance(value, dict):
        if _LAMBDA not in value:
            yield value
            for each in value.values():
                yield from _sections(each)
    elif isinstance(value, list):
        for each in value:
            yield from _sections(each)


def _texts(config: dict[str, object]) -> Iterator[str]:
    for section in _sections(config):
        for value in section.values():
            for each in value if isinstance(value, list) else (value,):
                if isinstance(each, str) and 1 < len(each) < _LONGEST_NAME and each.isprintable():
                    yield each


def _files(config: dict[str, object], config_dir: Path) -> dict[str, Signature] | None:
    """Return the files that a validated configuration names, and those beside them in the folder.

    One of them may name another one. None when there are too many.
    """
    found: dict[str, Signature] = {}
    folders: dict[Path, None] = {}
    for text in dict.fromkeys(_texts(config)):
        path = config_dir / text
        if not path.is_file():
            continue
        _add(found, path)
        if path.is_relative_to(config_dir):
            folders[path.parent] = None
    for folder in folders:
        for path in folder.iterdir():
            if path.name.startswith(".") or path.suffix in _NOT_BESIDE or not path.is_file():
                continue
            _add(found, path)
            if len(found) > _MOST_FILES or not path.name.isprintable():
                return None
    return found


def _add(found: dict[str, Signature], path: Path) -> None:
    if (present := signature(path)) is not None:
        found[str(path)] = present
