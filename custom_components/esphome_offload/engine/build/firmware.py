"""FirmwareStore: what was built, kept until it is flashed or built again."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import hashlib
import logging
import os
from pathlib import Path
import re
import shutil
import time
from typing import Annotated, Final, override
import uuid

from packaging.version import InvalidVersion, Version

from ..codec import CodecError, Text, decode_json, encode_json
from ..const import FailureReason, Image
from ..reason import Reason, ReasonKey
from ..threads import in_thread
from .cache.eviction import CacheFolder
from .cache.layout import CacheLayout
from .model import BuildError, BuildInfo, Elsewhere, Firmware, Node
from .node import read_node

_LOGGER = logging.getLogger(__name__)

_MANIFEST = "firmware.json"
_VALIDATED = "validated"
_IMAGES = "images"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEPT = 2
"""The newest, and the one before it, besides what is in use."""
_STEP = 2 * 10**9
"""Nanoseconds between two stamps at least; some file systems keep them to two seconds."""


IMAGES: Final[Mapping[str, Image]] = {
    "firmware.factory.bin": Image.FACTORY,
    "firmware.uf2": Image.FACTORY,
    "firmware.elf": Image.ELF,
    # Of the host platform, which is also what is flashed.
    "program": Image.ELF,
}
"""What ESPHome calls the files that it makes, beside the OTA image; each platform makes some."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build left in its tree.

    ``validated`` as in ``Firmware``; ``node_name`` is what the builder says. ``images`` are files
    beside the OTA image, with the names that ESPHome gives them.
    """

    ota: Path
    build_info: BuildInfo
    validated: Mapping[str, Path] = field(default_factory=dict)
    node_name: str = ""
    images: tuple[Path, ...] = ()
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True, slots=True)
class _Manifest:
    """The description of a kept firmware; ``ota`` is a file in the manifest's folder."""

    configuration: Annotated[str, Text(255, free=True)]
    device_name: Annotated[str, Text(255, free=True)]
    ota: Annotated[str, Text(255, r"[^/]+", free=True)]
    build_info: BuildInfo
    node: Node | None = None
    elsewhere: Elsewhere | None = None


class FirmwareStore(CacheFolder):
    """Firmware by configuration and the SHA-256 of its OTA image. All work is done in a thread.

    ``in_use`` returns the digests of what may still be flashed, however much is built after it:
    a configuration may have several devices. It is called on the event loop.
    """

    parts = f"*/{_IMAGES}"

    def __init__(self, layout: CacheLayout) -> None:
        """Keep it under ``layout``."""
        self._layout = layout
        self.in_use: Callable[[], Collection[str]] = frozenset

    async def keep(self, configuration: str, device_name: str, result: BuildResult) -> Firmware:
        """Copy a build's result out of its tree; the next build writes into those files again.

        Raises OSError, in particular when the disk is full.
        """
        in_use = self.in_use()
        return await in_thread(lambda _: self._keep(configuration, device_name, result, in_use))

    async def latest(self, configuration: str) -> Firmware | None:
        """Return what was built last for a configuration."""
        return await asyncio.to_thread(self._latest, configuration)

    async def all(self, configuration: str) -> list[Firmware]:
        """Return what is kept of a configuration, newest first; it may have been altered."""
        return await asyncio.to_thread(lambda: list(self._all(configuration)))

    async def load(self, configuration: str, sha256: str) -> Firmware | None:
        """Return one firmware; None when it is gone. Raises BuildError like ``verify``."""
        if not _SHA256.fullmatch(sha256):
            return None
        firmware = await asyncio.to_thread(
            _read, self._layout.firmware(configuration) / sha256, configuration
        )
        if firmware is not None:
            await verify(firmware)
        return firmware

    async def renew(self, firmware: Firmware) -> None:
        """Make one firmware the latest of its configuration: it would be built again like this."""
        await asyncio.to_thread(_make_newest, firmware.ota.parent)

    async def add_image(self, firmware: Firmware, name: str, path: Path) -> Firmware | None:
        """Move another file of a firmware to it; None when that is gone. Raises OSError."""
        folder = firmware.ota.parent

        def add() -> Firmware | None:
            (folder / _IMAGES).mkdir(exist_ok=True)
            path.replace(folder / _IMAGES / name)
            return _read(folder, firmware.configuration)

        return await in_thread(lambda _: add())

    @property
    @override
    def folder(self) -> Path:
        """What is kept, one folder per configuration."""
        return self._layout.all_firmware

    @override
    async def discard(self, key: str) -> bool:
        """Remove the files that nothing is flashed from, of one configuration."""

        def discard() -> None:
            for images in (self.folder / key).glob(self.parts):
                self._layout.discard(images)

        await asyncio.to_thread(discard)
        return True

    async def forget(self, firmware: Firmware) -> None:
        """Remove one firmware."""
        folder = self._layout.firmware(firmware.configuration) / firmware.sha256
        await asyncio.to_thread(self._layout.discard, folder)

    async def rename(self, old: str, new: str) -> None:
        """Copy what is kept of a configuration to the new name of its file.

        Under the old one it stays, for a flash that reads it.
        """
        try:
            await asyncio.to_thread(self._rename, old, new, self.in_use())
        except OSError as error:
            # Nothing is lost that could not be built again.
            _LOGGER.warning("The firmware of %s is not taken over to %s: %s", old, new, error)

    def _keep(
        self,
        configuration: str,
        device_name: str,
        result: BuildResult,
        in_use: Collection[str],
    ) -> Firmware:
        sha256 = digest(result.ota)
        folder = self._layout.firmware(configuration) / sha256
        node = read_node(result.validated, result.node_name or device_name, result.ota)
        kept = _read(folder, configuration)
        if (
            kept is None
            or not _is_intact(kept)
            or (kept.build_info, kept.device_name, kept.node, kept.elsewhere)
            != (result.build_info, device_name, node, result.elsewhere)
            or _contents(kept.validated) != _contents(result.validated)
            or not {IMAGES[image.name] for image in result.images} <= kept.images.keys()
        ):
            kept = self._copy(folder, configuration, device_name, result, node)
        _make_newest(folder)
        others = [other for other in _by_age(folder.parent) if other != folder]
        for old in others[_KEPT - 1 :]:
            if old.name not in in_use:
                self._layout.discard(old)
        return kept

    def _copy(
        self, folder: Path, configuration: str, device_name: str, result: BuildResult, node: Node
    ) -> Firmware:
        # Complete under its name or not there at all. Not in TMPDIR, where another build that
        # runs meanwhile could put a link in the way.
        fresh = self._layout.staging / uuid.uuid4().hex
        fresh.mkdir(parents=True)
        try:
            taken = _MANIFEST, _VALIDATED, _IMAGES
            name = result.ota.name if result.ota.name not in taken else "image"
            shutil.copyfile(result.ota, fresh / name)
            _copy_validated(fresh, result.validated)
            _copy_images(fresh, result.images)
            manifest = _Manifest(
                configuration, device_name, name, result.build_info, node, result.elsewhere
            )
            (fresh / _MANIFEST).write_bytes(encode_json(manifest))
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Not before: what is copied may be in there.
            self._layout.discard(folder)
            fresh.rename(folder)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return _firmware(folder, manifest)

    def _rename(self, old: str, new: str, in_use: Collection[str]) -> None:
        for folder in reversed(_by_age(self._layout.firmware(old))):
            kept = _read(folder, old)
            # What was altered meanwhile must not get a name under which it is right.
            if kept is not None and digest(kept.ota) == kept.sha256:
                name = "" if kept.node is None else kept.node.name
                self._keep(new, kept.device_name, again(kept, kept.validated, name), in_use)

    def _latest(self, configuration: str) -> Firmware | None:
        return next(self._all(configuration), None)

    def _all(self, configuration: str) -> Iterator[Firmware]:
        for folder in _by_age(self._layout.firmware(configuration)):
            if (firmware := _read(folder, configuration)) is not None:
                yield firmware


async def verify(firmware: Firmware) -> None:
    """Raise BuildError (integrity) unless the OTA image is the one that was built.

    One that cannot be read is as good as gone: no_firmware.
    """
    try:
        sha256 = await asyncio.to_thread(digest, firmware.ota)
    except OSError as error:
        line = None if isinstance(error, FileNotFoundError) else error.strerror
        raise BuildError(
            FailureReason.NO_FIRMWARE,
            Reason(ReasonKey.FIRMWARE_GONE, {"device": firmware.device_name}, line),
        ) from error
    if sha256 != firmware.sha256:
        raise BuildError(
            FailureReason.INTEGRITY,
            Reason(ReasonKey.FIRMWARE_CHANGED, {"device": firmware.device_name}),
        )


def again(
    kept: Firmware,
    validated: Mapping[str, Path],
    node_name: str,
    elsewhere: Elsewhere | None = None,
) -> BuildResult:
    """Return what is kept as the result of another build that was the same."""
    images = tuple(path for path in kept.images.values() if path != kept.ota)
    return BuildResult(
        kept.ota, kept.build_info, validated, node_name, images, elsewhere or kept.elsewhere
    )


def check_version(build_info: BuildInfo, esphome_version: str) -> None:
    """Raise BuildError (integrity) for firmware of another version than was asked for.

    Nothing is flashed that says another one: it is not what was asked for, whoever built it.
    """
    try:
        same = Version(build_info.esphome_version) == Version(esphome_version)
    except InvalidVersion:
        same = False
    if not same:
        raise BuildError(
            FailureReason.INTEGRITY,
            Reason(ReasonKey.OTHER_VERSION, {"version": esphome_version}),
        )


def _make_newest(folder: Path) -> None:
    """Stamp a firmware as the newest of its configuration, also after the clock was ahead."""
    others = [stamp for stamp, other in _stamps(folder.parent) if other != folder]
    stamp = max([time.time_ns(), *(other + _STEP for other in others)])
    os.utime(folder / _MANIFEST, ns=(stamp, stamp))


def _by_age(configuration: Path) -> list[Path]:
    """Return the folders of a configuration's firmware, newest first."""
    return [folder for _, folder in sorted(_stamps(configuration), reverse=True)]


def _stamps(configuration: Path) -> Iterator[tuple[int, Path]]:
    """Yield the folders of a configuration's firmware, and when each was kept or renewed."""
    for path in configuration.glob(f"*/{_MANIFEST}"):
        with suppress(OSError):  # Removed meanwhile, or on a bad sector.
            yield path.stat().st_mtime_ns, path.parent


def _read(folder: Path, configuration: str) -> Firmware | None:
    try:
        manifest = decode_json(_Manifest, (folder / _MANIFEST).read_bytes())
    except OSError, CodecError:
        # Not there, or cut off when the machine lost power: as good as not there.
        return None
    return _firmware(folder, manifest) if manifest.configuration == configuration else None


def _firmware(folder: Path, manifest: _Manifest) -> Firmware:
    ota = folder / manifest.ota
    files = [ota, *(folder / _IMAGES).glob("*")]
    return Firmware(
        sha256=folder.name,
        configuration=manifest.configuration,
        device_name=manifest.device_name,
        ota=ota,
        build_info=manifest.build_info,
        validated=_validated(folder),
        node=manifest.node,
        elsewhere=manifest.elsewhere,
        images={IMAGES[file.name]: file for file in files if file.name in IMAGES},
    )


def _validated(folder: Path) -> dict[str, Path]:
    return {file.name: file for file in (folder / _VALIDATED).glob("*")}


def _copy_validated(folder: Path, validated: Mapping[str, Path]) -> None:
    (folder / _VALIDATED).mkdir()
    for name, file in validated.items():
        # Resolved secrets stand in it.
        shutil.copy(file, folder / _VALIDATED / name)


def _copy_images(folder: Path, images: Iterable[Path]) -> None:
    (folder / _IMAGES).mkdir()
    for file in images:
        shutil.copyfile(file, folder / _IMAGES / file.name)


def _is_intact(firmware: Firmware) -> bool:
    with suppress(OSError):
        return digest(firmware.ota) == firmware.sha256
    return False


def _contents(validated: Mapping[str, Path]) -> dict[str, bytes]:
    return {name: file.read_bytes() for name, file in validated.items()}


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file. Blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
