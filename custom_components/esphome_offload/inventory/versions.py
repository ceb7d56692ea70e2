"""VersionTracker: the ESPHome version to build with, also while offline."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
import logging
from typing import Annotated

from homeassistant.core import HomeAssistant
from homeassistant.helpers.event import async_track_time_interval

from ..const import DOMAIN
from ..engine.build.toolchain.versions import (
    VersionError,
    Versions,
    normal_version,
)
from ..engine.codec import CodecError, Keyed, Text, decode, encode
from ..engine.reason import ReasonKey
from ..errors import validation_error
from ..options import OffloadOptions, VersionChannel
from ..reasons import reason_text
from ..storage import version_store

_LOGGER = logging.getLogger(__name__)

_INTERVAL = timedelta(hours=6)

_REFUSALS = {
    ReasonKey.VERSION_INVALID: "version_not_found",
    ReasonKey.VERSION_UNKNOWN: "version_not_found",
    ReasonKey.VERSION_OTHER_PYTHON: "version_unsupported",
    ReasonKey.VERSION_UNCHECKED: "version_not_checked",
}


@dataclass(frozen=True, slots=True)
class _KnownVersions:
    """The newest known version of each channel, as it is stored."""

    newest: Annotated[Mapping[VersionChannel, Annotated[str, Text(64)]], Keyed(len(VersionChannel))]


class VersionTracker:
    """Asks every six hours and when the channel changes; a failure keeps the known version."""

    def __init__(self, hass: HomeAssistant, source: Versions, changed: Callable[[], None]) -> None:
        self._hass = hass
        self._source = source
        self._changed = changed
        self._store = version_store(hass)
        self._newest: dict[VersionChannel, str] = {}
        self._channel = VersionChannel.STABLE
        self._fixed: str | None = None
        self._cancel_interval: Callable[[], None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._failing = False
        self._asking = asyncio.Lock()

    @property
    def latest(self) -> str | None:
        """The version for requests that name none; None while unknown."""
        if self._channel is VersionChannel.FIXED:
            return self._fixed
        return self._newest.get(self._channel)

    async def async_load(self) -> None:
        """Load the versions that were known before the restart."""
        if (stored := await self._store.async_load()) is None:
            return
        try:
            self._newest = dict(decode(_KnownVersions, stored).newest)
        except CodecError as error:
            _LOGGER.warning("The stored ESPHome versions are damaged: %s", error)

    def start(self, options: OffloadOptions) -> None:
        """Follow the channel of ``options``; asks at once, in the background."""
        self.stop()
        self._channel = options.version_channel
        self._fixed = options.fixed_version
        self._changed()
        if self._channel is VersionChannel.FIXED:
            return

        async def refresh(_now: datetime | None = None) -> None:
            await self.async_refresh()

        self._cancel_interval = async_track_time_interval(
            self._hass, refresh, _INTERVAL, cancel_on_shutdown=True
        )
        self._refreshing = self._hass.async_create_background_task(
            refresh(), f"{DOMAIN} newest ESPHome"
        )

    def stop(self) -> None:
        """Stop following the channel; what is known stays known."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        if self._cancel_interval is not None:
            self._cancel_interval()
            self._cancel_interval = None

    async def async_refresh(self) -> None:
        """Ask for the newest version of the channel; a failure keeps the one that is known."""
        async with self._asking:
            await self._async_ask()

    async def async_target(self, version: str | None, device_name: str) -> str:
        """Return the version to build for a device: the requested one, else ``latest``.

        Raises ServiceValidationError when it is not available, or none is known.
        """
        if version is None:
            if (latest := await self._async_latest()) is None:
                raise validation_error("no_version_known", device=device_name)
            return latest
        try:
            target = normal_version(version)
            await self._source.check(target)
        except VersionError as error:
            raise validation_error(
                _REFUSALS[error.reason.key],
                device=device_name,
                version=version,
                reason=reason_text(self._hass, error.reason),
            ) from error
        return target

    async def _async_latest(self) -> str | None:
        """Return ``latest``; ask first, or await the answer, while it is unknown."""
        async with self._asking:
            if self.latest is None:
                await self._async_ask()
        return self.latest

    async def _async_ask(self) -> None:
        channel = self._channel
        try:
            newest = await self._source.newest(prerelease=channel is VersionChannel.PRERELEASE)
        except VersionError as error:
            if not self._failing:
                self._failing = True
                _LOGGER.warning("The newest ESPHome version cannot be asked for: %s", error)
            return
        if self._failing:
            self._failing = False
            _LOGGER.info("The newest ESPHome version can be asked for again")
        if self._newest.get(channel) != newest:
            self._newest[channel] = newest
            await self._store.async_save(encode(_KnownVersions(self._newest)))
            self._changed()
