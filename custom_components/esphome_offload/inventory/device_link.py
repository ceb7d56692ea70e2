"""The link of a job to its device: presence, address, and the return after a flash."""

import asyncio
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
import re
from typing import Final, Protocol, override

from homeassistant.core import HomeAssistant

from ..engine.build.model import CONFIGURED, BuildInfo, Node
from ..engine.devices.model import CoreDevice
from ..engine.jobs.model import JobRequest
from ..engine.jobs.ports import (
    DeviceLink,
    Presence,
    RestartWatch,
    Verdict,
)
from ..engine.target import TargetId
from .identity import Identity
from .matching import Match, is_at
from .network_probe import NetworkProbe
from .restart_reasons import RestartReasons

# A small device starts in some ten seconds; one with a distant access point, or one that Home
# Assistant only finds at its next attempt, takes a minute and more.
RETURN_TIMEOUT: Final = 120.0
_API_PORT: Final = 6053
"""Of a device whose configuration is not known."""

_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_NUMERIC_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?: ?([+-])(\d\d):?(\d\d))?"
)
_NAMED_TIME: Final = re.compile(r"([A-Za-z]{3}) +(\d{1,2}) +(\d{4}),? +(\d\d):(\d\d):(\d\d)")
# All zones of the world are a multiple of this apart.
_ZONE_STEP: Final = timedelta(minutes=15)
_WIDEST_ZONE: Final = timedelta(hours=14)


class Network(Protocol):
    """What devices tell without their API; implemented by ``NetworkProbe``."""

    async def listens(self, address: str, port: int) -> bool:
        """Return whether something accepts connections there."""

    async def announced(self, node_name: str) -> BuildInfo | None:
        """Return the build that a device announces under this name."""

    async def identity(self, address: str, port: int) -> Identity | None:
        """Return what the device with its API there says of itself."""


class Restarts(Protocol):
    """What devices tell about their restarts; implemented by ``RestartReasons``."""

    async def of(self, device: CoreDevice) -> str | None:
        """Return the reason that a device gives, which has connected just now."""


class LiveDevices(Protocol):
    """The devices of core's esphome; implemented by ``DeviceInventory``."""

    def live_devices(self) -> Sequence[CoreDevice]:
        """Return all of them."""

    def is_of_another(self, target: TargetId, device: Identity) -> bool:
        """Return whether a device is taken for another than that of a target."""

    def find(self, request: JobRequest) -> Match:
        """Return the device that a job is for."""

    def updating(self, device: CoreDevice) -> bool:
        """Return whether core itself is updating it."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever any device may have changed; returns unsubscribe."""


class CoreDeviceLink(DeviceLink):
    """The devices that Home Assistant's own ``esphome`` integration is connected to."""

    def __init__(
        self,
        devices: LiveDevices,
        network: Network,
        restarts: Restarts,
        *,
        return_timeout: float = RETURN_TIMEOUT,
    ) -> None:
        """``return_timeout`` is how many seconds a restart may take."""
        self._devices = devices
        self._network = network
        self._restarts = restarts
        self._return_timeout = return_timeout

    @override
    def rivals(self, request: JobRequest) -> tuple[str, ...]:
        return self._devices.find(request).rivals

    @override
    def gone(self, request: JobRequest) -> bool:
        return self._devices.find(request).gone

    @override
    def presence(self, request: JobRequest) -> Presence:
        device = self._devices.find(request).core
        if device is None:
            return Presence.UNKNOWN
        if self._devices.updating(device):
            return Presence.BUSY
        match device.online:
            case True:
                return Presence.ONLINE
            case False:
                return Presence.OFFLINE
            case None:
                return Presence.UNKNOWN

    @override
    def addresses(self, request: JobRequest, node: Node | None) -> tuple[str, ...]:
        device = self._devices.find(request).core
        if device is not None and device.online and device.connected_at:
            return device.connected_at
        own = None if device is None else device.entry_id
        others = [
            each for each in self._devices.live_devices() if each.online and each.entry_id != own
        ]

        def is_free(address: str) -> bool:
            where = node.address if node is not None and address == CONFIGURED else address
            return where is None or not any(is_at(each, where) for each in others)

        return tuple(filter(is_free, self._expected_at(request, device, node)))

    def _expected_at(
        self, request: JobRequest, device: CoreDevice | None, node: Node | None
    ) -> tuple[str, ...]:
        if device is None:
            name = self.node_name(request) or request.device_name
            return (CONFIGURED,) if request.mac is None else (f"{name}.local",)
        # A device with another name than the firmware, because of a suffix or because it is being
        # renamed: it is not where ESPHome would look for the firmware's.
        other = node is not None and node.name != device.node_name
        own = f"{device.node_name}.local" if other else CONFIGURED
        return (own,) if device.host in (None, own) else (own, device.host)

    @override
    async def listens(self, request: JobRequest, node: Node, port: int) -> bool:
        for address in self.addresses(request, node):
            where = node.address if address == CONFIGURED else address
            if where is not None and await self._network.listens(where, port):
                return True
        return False

    @override
    async def announced(self, request: JobRequest) -> BuildInfo | None:
        return await self._network.announced(self.node_name(request) or request.device_name)

    @override
    def node_name(self, request: JobRequest) -> str | None:
        found = self._devices.find(request)
        return found.announced if found.core is None else found.core.node_name

    @override
    def intruder(self, request: JobRequest) -> str | None:
        address = request.address
        if address is None:
            device = self._devices.find(request).core
            there = [] if device is None else [device]
        else:
            there = [each for each in self._devices.live_devices() if is_at(each, address)]
        others = (
            each.node_name for each in there if self._devices.is_of_another(request.target, each)
        )
        return next(others, None)

    @override
    async def restart_reason(self, request: JobRequest) -> str | None:
        device = self._devices.find(request).core
        return None if device is None else await self._restarts.of(device)

    @override
    async def intruder_at(
        self, request: JobRequest, node: Node | None, addresses: Sequence[str]
    ) -> str | None:
        node = node or Node("")
        for address in addresses:
            where = node.address if address == CONFIGURED else address
            # What Home Assistant is connected to does not need to be asked.
            connected = (each for each in self._devices.live_devices() if each.online)
            if where is None or any(is_at(each, where) for each in connected):
                continue
            said = await self._network.identity(where, node.api_port or _API_PORT)
            if said is not None and self._devices.is_of_another(request.target, said):
                return said.node_name
        return None

    @override
    def watch_restart(self, request: JobRequest) -> RestartWatch:
        return _Watch(self._devices, request, self._return_timeout)

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._devices.subscribe(listener)


def core_device_link(hass: HomeAssistant, devices: LiveDevices) -> CoreDeviceLink:
    """Return the link to the devices of this Home Assistant."""
    return CoreDeviceLink(devices, NetworkProbe(hass), RestartReasons(hass))


class _Watch(RestartWatch):
    """Watches one device from before a flash until it has returned."""

    def __init__(self, devices: LiveDevices, request: JobRequest, timeout: float) -> None:
        self._devices = devices
        self._request = request
        self._timeout = timeout
        self._changed = asyncio.Event()
        self._unsubscribe: Callable[[], None] | None = devices.subscribe(self._changed.set)
        self._before = devices.find(request).core
        self._goes_back = False
        self._seen = False

    @property
    @override
    def before(self) -> BuildInfo | None:
        before = self._before
        if before is None or not before.esphome_version:
            return None
        return BuildInfo(before.esphome_version, before.build_time or "", 0)

    @override
    async def confirm(self, build_info: BuildInfo, *, goes_back: bool = False) -> Verdict:
        """Wait until the device is back with ``build_info``.

        A device with another build may only have reconnected before its restart; this counts
        the second time, or at the time limit. Identical builds cannot be distinguished, so that
        a device that already ran this one has to reconnect.
        """
        self._goes_back = goes_back
        flashed = self._devices.find(self._request).core
        if flashed is None:
            return Verdict.UNKNOWN
        ran_before = self._before is not None and same_build(self._before, build_info)
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    self._changed.clear()
                    device = self._devices.find(self._request).core
                    if device is None:
                        return Verdict.UNKNOWN
                    if device.online is not False:
                        if same_build(device, build_info):
                            if not ran_before or self._reconnects(self._before, device) >= 1:
                                self._seen = True
                                return Verdict.CONFIRMED
                        elif self._reconnects(flashed, device) >= 2:
                            return self._another(device)
                    await self._changed.wait()
        except TimeoutError:
            return self._give_up(build_info)

    @override
    async def stays(self, build_info: BuildInfo, seconds: float) -> Verdict:
        """Watch until ``seconds`` have passed; one that is away then, until it is back.

        One that was seen with it and sleeps then counts as good: ESPHome marks it before.
        """
        others = {Verdict.ANOTHER_BUILD, Verdict.WENT_BACK}
        verdict = await self._watch(build_info, seconds, others)
        if verdict is Verdict.NOT_BACK:
            back = others | {Verdict.CONFIRMED, Verdict.UNKNOWN}
            verdict = await self._watch(build_info, self._timeout, back)
        return verdict

    async def _watch(
        self, build_info: BuildInfo, seconds: float, until: Container[Verdict]
    ) -> Verdict:
        """Return the verdict that ends the watch, or the one at its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._verdict(build_info) not in until:
                    self._changed.clear()
                    await self._changed.wait()
        return self._verdict(build_info)

    @override
    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _give_up(self, build_info: BuildInfo) -> Verdict:
        device = self._devices.find(self._request).core
        if device is None or device.online is None:
            return Verdict.UNKNOWN
        if device.online and not same_build(device, build_info):
            return self._another(device)
        return Verdict.NOT_BACK

    def _verdict(self, build_info: BuildInfo) -> Verdict:
        """Return what the device runs at this moment."""
        device = self._devices.find(self._request).core
        if device is None or device.online is None:
            return Verdict.UNKNOWN
        if not device.online:
            sleeps = device.deep_sleep and self._seen
            return Verdict.CONFIRMED if sleeps else Verdict.NOT_BACK
        self._seen = same_build(device, build_info)
        return Verdict.CONFIRMED if self._seen else self._another(device)

    def _another(self, device: CoreDevice) -> Verdict:
        """Return what it means that the device runs a build that was not flashed just now."""
        before = self.before
        known = before is not None and bool(before.build_time and device.build_time)
        if self._goes_back and known and before is not None and same_build(device, before):
            return Verdict.WENT_BACK
        return Verdict.ANOTHER_BUILD

    @staticmethod
    def _reconnects(since: CoreDevice | None, device: CoreDevice) -> int:
        """Return how often it has connected since; another entry starts at 0."""
        if since is None or since.entry_id != device.entry_id:
            return device.connections
        return device.connections - since.connections


def same_build(device: CoreDevice, build_info: BuildInfo) -> bool:
    """Return whether a device runs this build.

    Only the versions are compared where the device or the build has no build time, as before
    ESPHome 2026.
    """
    if device.esphome_version != build_info.esphome_version:
        return False
    if not device.build_time or not build_info.build_time:
        return True
    return same_time(device.build_time, build_info.build_time)


def same_time(reported: str, built: str) -> bool:
    """Return whether two texts in any of ESPHome's formats are the same time.

    Older versions omit the zone, which is that of the machine that built; any zone is accepted
    then.
    """
    if reported.strip() == built.strip():
        return True
    one, other = _parse(reported), _parse(built)
    if one is None or other is None:
        return False
    if one.tzinfo is not None and other.tzinfo is not None:
        return one == other
    apart = abs(one.replace(tzinfo=None) - other.replace(tzinfo=None))
    return apart <= _WIDEST_ZONE and not apart % _ZONE_STEP


def _parse(text: str) -> datetime | None:
    try:
        if (match := _NUMERIC_TIME.fullmatch(text.strip())) is not None:
            year, month, day, hour, minute, second = map(int, match.groups()[:6])
            zone = f"{match[7]}{match[8]}:{match[9]}" if match[7] else ""
            return datetime.fromisoformat(
                f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}"
            )
        if (match := _NAMED_TIME.fullmatch(text.strip())) is not None:
            month = _MONTHS.index(match[1].lower()) + 1
            day, year, hour, minute, second = map(int, match.groups()[1:])
            return datetime(year, month, day, hour, minute, second)
    except ValueError:
        pass
    return None
