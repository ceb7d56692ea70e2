"""Download of firmware from a peer: fetched unless it is here already, checked, kept."""

import asyncio
from contextlib import suppress
import logging
from pathlib import Path
import uuid

from ..build.bundle import Bundles
from ..build.cache.layout import CacheLayout
from ..build.firmware import IMAGES, BuildResult, FirmwareStore, again
from ..build.model import BuildError, BuildInfo, BuildRequest, Elsewhere, Firmware
from ..const import FailureReason, Image
from ..protocol.bodies import IncomingFile
from ..protocol.channel import ChannelClosed
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.messages import Fetch, FetchImage
from ..protocol.parsing import parse
from ..protocol.payloads import FirmwareHeader, ImageHeader
from ..reason import Reason, ReasonKey
from .link import PeerLink

_LOGGER = logging.getLogger(__name__)


class _HereAlready(Exception):  # noqa: N818 - nothing went wrong
    """The firmware on its way is the one that is kept."""

    def __init__(self, header: FirmwareHeader) -> None:
        """Keep what the peer says about it."""
        super().__init__()
        self.header = header


async def fetch_firmware(
    link: PeerLink,
    request: BuildRequest,
    bundle_sha256: str | None,
    *,
    store: FirmwareStore,
    layout: CacheLayout,
    bundles: Bundles,
) -> Firmware:
    """Return what an attempt built.

    ``bundle_sha256`` is what it must have been built from, None when that is not known any more.
    What was validated for that bundle is kept with it.
    Raises ChannelClosed, CommandRefused and BuildError: integrity when it is not of this attempt
    or not what the peer announced, builder_environment when it cannot be kept.
    """
    try:
        return await _fetch_or_reuse(
            link, request, bundle_sha256, store=store, layout=layout, bundles=bundles
        )
    except ProtocolError as err:
        if err.code is ErrorCode.STALLED:
            raise ChannelClosed("it sends no more of the firmware") from err
        if err.code is ErrorCode.NO_SPACE:
            raise _not_kept(request, None) from err
        _LOGGER.warning("The firmware that %s sent is not used: %s", link.label, err.detail)
        names = {"label": link.label, "device": request.device_name}
        reason = Reason(ReasonKey.FIRMWARE_NOT_OURS, names)
        raise BuildError(FailureReason.INTEGRITY, reason) from err
    except OSError as err:
        raise _not_kept(request, err.strerror) from err


async def _fetch_or_reuse(
    link: PeerLink,
    request: BuildRequest,
    bundle_sha256: str | None,
    *,
    store: FirmwareStore,
    layout: CacheLayout,
    bundles: Bundles,
) -> Firmware:
    kept = await store.latest(request.configuration)
    try:
        return await _fetch(
            link, request, bundle_sha256, kept, store=store, layout=layout, bundles=bundles
        )
    except _HereAlready as err:
        header = err.header
    assert kept is not None  # noqa: S101 - else it is not raised
    try:
        checked = await store.load(request.configuration, kept.sha256)
    except BuildError:
        # Altered on our disk: fetched in full.
        await store.forget(kept)
        checked = None
    if checked is None:
        return await _fetch(
            link, request, bundle_sha256, None, store=store, layout=layout, bundles=bundles
        )
    validated = await bundles.validated(request.configuration, header.bundle_sha256)
    name = header.build_info.node_name
    result = again(checked, validated, name, _elsewhere(link, request, header))
    return await store.keep(request.configuration, request.device_name, result)


async def _fetch(
    link: PeerLink,
    request: BuildRequest,
    bundle_sha256: str | None,
    known: Firmware | None,
    *,
    store: FirmwareStore,
    layout: CacheLayout,
    bundles: Bundles,
) -> Firmware:
    target = layout.staging / f"{request.attempt_id}.bin"
    headers: list[FirmwareHeader] = []

    def accept(raw: object) -> IncomingFile:
        header = parse(FirmwareHeader, raw)
        _check(header, request, bundle_sha256)
        if (
            known is not None
            and known.sha256 == header.sha256
            and known.build_info == _build_info(header)
            and known.device_name == request.device_name
        ):
            raise _HereAlready(header)
        headers.append(header)
        return IncomingFile(target, header.size, header.sha256)

    await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
    try:
        await link.fetch(Fetch(request.attempt_id), accept)
        header = headers[0]
        validated = await bundles.validated(request.configuration, header.bundle_sha256)
        name = header.build_info.node_name
        result = BuildResult(
            target,
            _build_info(header),
            validated,
            name,
            elsewhere=_elsewhere(link, request, header),
        )
        firmware = await store.keep(request.configuration, request.device_name, result)
    finally:
        await asyncio.to_thread(_discard, target)
    if firmware.sha256 != header.sha256:
        raise ProtocolError(ErrorCode.TAMPERED, "it was altered on its way to the disk")
    return firmware


async def fetch_image(
    link: PeerLink, firmware: Firmware, image: Image, store: FirmwareStore, layout: CacheLayout
) -> Firmware | None:
    """Fetch another file of a firmware that a peer built, and keep it; None when that is gone here.

    Raises ChannelClosed, CommandRefused, ProtocolError, and BuildError when it cannot be kept.
    """
    elsewhere = firmware.elsewhere
    # Not of a name that the file got here later.
    named = (elsewhere.configuration if elsewhere else "") or firmware.configuration
    target = layout.staging / uuid.uuid4().hex
    names: list[str] = []

    def accept(raw: object) -> IncomingFile:
        header = parse(ImageHeader, raw)
        if IMAGES.get(header.name) is not image:
            raise ProtocolError(ErrorCode.TAMPERED, "another file")
        names.append(header.name)
        return IncomingFile(target, header.size, header.sha256)

    try:
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        try:
            await link.fetch(FetchImage(named, firmware.sha256, image), accept)
            return await store.add_image(firmware, names[0], target)
        finally:
            await asyncio.to_thread(_discard, target)
    except ProtocolError as err:
        if err.code is ErrorCode.STALLED:
            raise ChannelClosed("it sends no more of the file") from err
        if err.code is ErrorCode.NO_SPACE:
            raise _not_kept(firmware, None) from err
        raise
    except OSError as err:
        raise _not_kept(firmware, err.strerror) from err


def _elsewhere(link: PeerLink, request: BuildRequest, header: FirmwareHeader) -> Elsewhere | None:
    """Return what the peer keeps besides; what a newer one names is not known here."""
    images = tuple(image for image in Image if image in header.images)
    return Elsewhere(link.pin_sha256, images, request.configuration) if images else None


def _check(header: FirmwareHeader, request: BuildRequest, bundle_sha256: str | None) -> None:
    """Raise ProtocolError when the peer announces another build than the one asked for."""
    if header.attempt_id != request.attempt_id:
        raise ProtocolError(ErrorCode.TAMPERED, "the firmware of another build")
    if bundle_sha256 is not None and header.bundle_sha256 != bundle_sha256:
        raise ProtocolError(ErrorCode.TAMPERED, "built from another bundle")
    if header.build_info.esphome_version != request.esphome_version:
        raise ProtocolError(ErrorCode.TAMPERED, "built with another version of ESPHome")


def _build_info(header: FirmwareHeader) -> BuildInfo:
    info = header.build_info
    return BuildInfo(info.esphome_version, info.build_time, info.config_hash)


def _discard(staged: Path) -> None:
    # What stays goes at the next start; the firmware is kept all the same.
    with suppress(OSError):
        staged.unlink()


def _not_kept(request: BuildRequest | Firmware, line: str | None) -> BuildError:
    reason = Reason(ReasonKey.FIRMWARE_NOT_KEPT, {"device": request.device_name}, line)
    return BuildError(FailureReason.BUILDER_ENVIRONMENT, reason)
