"""VersionTracker: the ESPHome version that each device is to run, also while offline."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
import logging
from typing import Annotated, Final

from homeassistant.core import HomeAssistant
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.util import dt as dt_util
from packaging.version import InvalidVersion, Version

from ..const import DOMAIN
from ..engine.build.toolchain.versions import (
    Release,
    VersionError,
    Versions,
    normal_version,
)
from ..engine.codec import CodecError, Keyed, Text, decode, encode
from ..engine.reason import ReasonKey
from ..engine.target import TargetId
from ..options import OffloadOptions, VersionChannel
from ..stores.storage import version_store
from ..texts.errors import validation_error
from ..texts.reasons import reason_text
from .device_settings import DeviceSettings

_LOGGER = logging.getLogger(__name__)

_INTERVAL = timedelta(hours=6)
_SERIES: Final = 4
"""How many release series are offered, with the newest version of each."""
_MOST_KNOWN: Final = 20
CHANNELS: Final = (VersionChannel.STABLE, VersionChannel.PRERELEASE)
"""What a device can follow."""

_REFUSALS = {
    ReasonKey.VERSION_INVALID: "version_not_found",
    ReasonKey.VERSION_UNKNOWN: "version_not_found",
    ReasonKey.VERSION_OTHER_PYTHON: "version_unsupported",
    ReasonKey.VERSION_UNCHECKED: "version_not_checked",
}


@dataclass(frozen=True, slots=True)
class _KnownVersions:
    """The newest known version of each channel, and since when versions are out, as stored."""

    newest: Annotated[Mapping[VersionChannel, Annotated[str, Text(64)]], Keyed(len(VersionChannel))]
    out_since: Annotated[Mapping[Annotated[str, Text(64)], datetime], Keyed(_MOST_KNOWN)] = field(
        default_factory=dict
    )


def newest_first(versions: Iterable[str]) -> list[str]:
    """Return versions sorted, each once, without what is none that was released."""
    parsed = {version: comparable(version) for version in versions}
    found = {each: of for each, of in parsed.items() if of is not None and not of.is_devrelease}
    return sorted(found, key=found.__getitem__, reverse=True)


@lru_cache(maxsize=200)
def comparable(version: str) -> Version | None:
    """Return a version for comparisons; None when it is none."""
    try:
        return Version(version)
    except InvalidVersion:
        return None


def is_older(version: str | None, than: str) -> bool:
    """Return whether a version is known to be older than another."""
    one, other = comparable(version or ""), comparable(than)
    return one is not None and other is not None and one < other


class VersionTracker:
    """Asks every six hours and for a channel that nobody followed; a failure keeps what is known.

    ``changed`` is called with None when that changes what devices are to run.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        source: Versions,
        settings: DeviceSettings,
        changed: Callable[[None], None],
    ) -> None:
        self._hass = hass
        self._source = source
        self._settings = settings
        self._changed = changed
        self._store = version_store(hass)
        self._newest: dict[VersionChannel, str] = {}
        self._out_since: dict[str, datetime] = {}
        self._channel = VersionChannel.STABLE
        self._fixed: str | None = None
        self._cancel_interval: Callable[[], None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._failing = False
        self._asking = asyncio.Lock()

    @property
    def latest(self) -> str | None:
        """The version for devices that have none of their own; None while unknown."""
        if self._channel is VersionChannel.FIXED:
            return self._fixed
        return self._newest.get(self._channel)

    @property
    def followed(self) -> str | None:
        """What the options name, a channel or a version; None while they are not followed."""
        if self._cancel_interval is None:
            return None
        return self._fixed if self._channel is VersionChannel.FIXED else self._channel

    @property
    def known(self) -> tuple[str, ...]:
        """Versions to choose from, newest first."""
        return tuple(self._out_since)

    def wanted(self, target: TargetId) -> str | None:
        """Return the version that a device is to run; None while unknown."""
        match self._settings.get(target).version:
            case None:
                return self.latest
            case channel if channel in CHANNELS:
                return self._newest.get(VersionChannel(channel))
            case version:
                return version

    def is_pinned(self, target: TargetId) -> bool:
        """Return whether a person chose the very version, which may be older than the device's."""
        choice = self._settings.get(target).version
        if choice is None:
            return self._channel is VersionChannel.FIXED
        return choice not in CHANNELS

    def suffices(self, target: TargetId, version: str) -> bool:
        """Return whether a device with this version needs no other one."""
        wanted = self.wanted(target)
        if wanted is None or self.is_pinned(target):
            return version == wanted
        return not is_older(version, wanted)

    def out_since(self, version: str) -> datetime | None:
        """Return when a version was released, as far as is known, else first seen here (UTC)."""
        return self._out_since.get(version)

    async def async_load(self) -> None:
        """Load the versions that were known before the restart."""
        if (stored := await self._store.async_load()) is None:
            return
        try:
            known = decode(_KnownVersions, stored)
        except CodecError as error:
            _LOGGER.warning("The stored ESPHome versions are damaged: %s", error)
            return
        self._newest = dict(known.newest)
        self._note(known.out_since)

    def start(self, options: OffloadOptions) -> None:
        """Follow the channels of ``options`` and of single devices; asks in the background."""
        self.stop()
        self._channel = options.version_channel
        self._fixed = options.fixed_version

        async def refresh(_now: datetime | None = None) -> None:
            await self.async_refresh()

        self._cancel_interval = async_track_time_interval(
            self._hass, refresh, _INTERVAL, cancel_on_shutdown=True
        )
        self._refresh_soon()
        self._changed(None)

    def stop(self) -> None:
        """Stop following; what is known stays known."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        if self._cancel_interval is not None:
            self._cancel_interval()
            self._cancel_interval = None

    async def async_refresh(self) -> None:
        """Ask for the newest version of the followed channels; a failure keeps what is known."""
        async with self._asking:
            await self._async_ask()

    async def async_target(self, version: str | None, target: TargetId, device_name: str) -> str:
        """Return the version to build for a device: the requested one, else the wanted one.

        Raises ServiceValidationError when it is not available, or none is known.
        """
        if version is not None:
            return await self._async_checked(version, device_name)
        if self.wanted(target) is None:
            # Of many devices one asks, and the others wait for its answer.
            async with self._asking:
                if self.wanted(target) is None:
                    await self._async_ask()
        if (wanted := self.wanted(target)) is None:
            raise validation_error("no_version_known", device=device_name)
        if self.is_pinned(target):
            # It may have been withdrawn since it was chosen.
            await self._async_checked(wanted, device_name, offline=True)
        return wanted

    async def async_check_choice(self, choice: str | None, device_name: str) -> str | None:
        """Return what a device can follow or have, a version as it is spelled.

        Raises ServiceValidationError for a version that is not available.
        """
        if choice is None or choice in CHANNELS:
            return choice
        return await self._async_checked(choice, device_name, offline=True)

    async def async_choose(self, target: TargetId, choice: str | None) -> None:
        """Let a device follow a channel or have one version, checked; None: as all devices."""
        await self._settings.async_set_version(target, choice)
        if self._cancel_interval is not None and self._followed - self._newest.keys():
            self._refresh_soon()

    async def _async_checked(self, version: str, device_name: str, *, offline: bool = False) -> str:
        """Return a version as it is spelled; with ``offline`` also one that cannot be checked."""
        target = version
        try:
            target = normal_version(version)
            await self._source.check(target)
        except VersionError as error:
            if offline and error.reason.key is ReasonKey.VERSION_UNCHECKED:
                return target
            raise validation_error(
                _REFUSALS[error.reason.key],
                device=device_name,
                version=version,
                reason=reason_text(self._hass, error.reason),
            ) from error
        return target

    @property
    def _followed(self) -> set[VersionChannel]:
        chosen = {record.version for record in self._settings.records.values()}
        return {channel for channel in CHANNELS if channel in chosen or channel is self._channel}

    def _refresh_soon(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._followed:
            self._refreshing = self._hass.async_create_background_task(
                self.async_refresh(), f"{DOMAIN} newest ESPHome"
            )

    async def _async_ask(self) -> None:
        newest: dict[VersionChannel, str] = {}
        releases: list[Release] = []
        try:
            for channel in sorted(self._followed):
                release = await self._source.newest(prerelease=channel is VersionChannel.PRERELEASE)
                newest[channel] = release.version
                releases.append(release)
            new = not newest.items() <= self._newest.items()
            if releases and (new or len(self._out_since) < _SERIES):
                releases += await self._async_former(newest_first(newest.values())[-1])
        except VersionError as error:
            if not self._failing:
                self._failing = True
                _LOGGER.warning("The newest ESPHome version cannot be asked for: %s", error)
        else:
            if self._failing:
                self._failing = False
                _LOGGER.info("The newest ESPHome version can be asked for again")
        now = dt_util.utcnow()
        before = dict(self._newest), dict(self._out_since)
        self._newest |= newest
        self._note({each.version: min(each.uploaded_at or now, now) for each in releases})
        if before != (self._newest, self._out_since):
            await self._store.async_save(encode(_KnownVersions(self._newest, self._out_since)))
            self._changed(None)

    async def _async_former(self, version: str) -> list[Release]:
        """Return the newest versions of the release series before that of a version."""
        former: list[Release] = []
        with suppress(VersionError):
            while len(former) < _SERIES - 1:
                former.append(await self._source.newest_before(version))
                version = former[-1].version
        return former

    def _note(self, out_since: Mapping[str, datetime]) -> None:
        """Add versions; since when one is out that is known never changes."""
        known = {**out_since, **self._out_since}
        final = [version for version in known if not _is_prerelease(version)]
        newest = newest_first(final)[:1]
        # A beta is of no interest any more when the version is out.
        kept = [
            version
            for version in newest_first(known)
            if not _is_prerelease(version) or newest_first((version, *newest))[0] == version
        ]
        self._out_since = {version: known[version] for version in kept[:_MOST_KNOWN]}


def _is_prerelease(version: str) -> bool:
    of = comparable(version)
    return of is not None and of.is_prerelease
