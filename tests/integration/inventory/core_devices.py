"""Devices and a network as the link to devices sees them, under the control of the test."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from custom_components.esphome_offload.engine.build.model import BuildInfo
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.devices.model import CoreDevice
from custom_components.esphome_offload.engine.jobs.model import JobRequest
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink
from custom_components.esphome_offload.inventory.identity import Identity
from custom_components.esphome_offload.inventory.matching import Match

OLD = BuildInfo("2026.10.0b1", "2026-11-23 18:25:51 +0000", 1)
NEW = BuildInfo("2026.10.0", "2026-11-23 18:29:35 +0000", 2)
KITCHEN = JobRequest(Operation.INSTALL, "kitchen.yaml", "kitchen", "2026.10.0")
HALL = replace(KITCHEN, configuration="hall.yaml", device_name="hall")


class Devices:
    """One device, as the adapter to core would show it."""

    def __init__(self) -> None:
        self.device: CoreDevice | None = CoreDevice(
            entry_id="entry",
            device_id="device",
            node_name="kitchen",
            mac="aa:bb:cc:dd:ee:ff",
            friendly_name="Kitchen",
            esphome_version=OLD.esphome_version,
            build_time=OLD.build_time,
            online=True,
            deep_sleep=False,
            host="192.0.2.7",
            connections=1,
        )
        self.at_work = False
        self.others: list[CoreDevice] = []
        self.known_others: set[str] = set()
        self.listeners: list[Callable[[], None]] = []

    def live_devices(self) -> list[CoreDevice]:
        return [*self.others, *([self.device] if self.device else [])]

    def find(self, request: JobRequest) -> Match:
        known = self.device is not None and request.device_name == self.device.node_name
        return Match(self.device if known else None)

    def is_of_another(self, target: TargetId, device: Identity) -> bool:
        return device.node_name in self.known_others

    def updating(self, device: CoreDevice) -> bool:
        return self.at_work

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def change(self, **changes: object) -> None:
        assert self.device is not None
        self.device = replace(self.device, **changes)  # type: ignore[arg-type]
        for listener in list(self.listeners):
            listener()

    def disconnect(self) -> None:
        self.change(online=False)

    def connect(self, build: BuildInfo) -> None:
        assert self.device is not None
        self.change(
            online=True,
            connections=self.device.connections + 1,
            esphome_version=build.esphome_version,
            build_time=build.build_time,
        )


class Restarts:
    """Whose reason was asked for."""

    async def of(self, device: CoreDevice) -> str | None:
        return f"of {device.node_name}"


class Network:
    """What listens and is announced, and who was asked for it."""

    def __init__(self) -> None:
        self.listening: set[tuple[str, int]] = set()
        self.announcements: dict[str, BuildInfo] = {}
        self.identities: dict[tuple[str, int], DeviceIdentity] = {}

    async def listens(self, address: str, port: int) -> bool:
        return (address, port) in self.listening

    async def announced(self, node_name: str) -> BuildInfo | None:
        return self.announcements.get(node_name)

    async def identity(self, address: str, port: int) -> DeviceIdentity | None:
        return self.identities.get((address, port))


async def let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def patient(devices: Devices) -> CoreDeviceLink:
    """Return a link whose patience a test never sees the end of."""
    return CoreDeviceLink(devices, Network(), Restarts(), return_timeout=60)


def impatient(devices: Devices) -> CoreDeviceLink:
    return CoreDeviceLink(devices, Network(), Restarts(), return_timeout=0.01)
