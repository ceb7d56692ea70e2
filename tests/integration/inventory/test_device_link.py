"""Presence, and the return of a device after a flash."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.build.model import CONFIGURED, BuildInfo, Node
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.devices.model import CoreDevice
from custom_components.esphome_offload.engine.jobs.model import JobRequest
from custom_components.esphome_offload.engine.jobs.ports import Presence, RestartWatch, Verdict
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink, same_time
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


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def devices() -> Devices:
    return Devices()


async def let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def patient(devices: Devices) -> CoreDeviceLink:
    """Return a link whose patience a test never sees the end of."""
    return CoreDeviceLink(devices, Network(), Restarts(), return_timeout=60)


def impatient(devices: Devices) -> CoreDeviceLink:
    return CoreDeviceLink(devices, Network(), Restarts(), return_timeout=0.01)


@pytest.mark.parametrize(
    ("online", "at_work", "presence"),
    [
        (True, False, Presence.ONLINE),
        (False, False, Presence.OFFLINE),
        (None, False, Presence.UNKNOWN),
        (True, True, Presence.BUSY),
    ],
)
def test_presence(devices: Devices, online: bool | None, at_work: bool, presence: Presence) -> None:
    devices.change(online=online)
    devices.at_work = at_work

    assert patient(devices).presence(KITCHEN) is presence


def test_a_device_that_home_assistant_does_not_have(devices: Devices) -> None:
    assert patient(devices).presence(HALL) is Presence.UNKNOWN
    assert patient(devices).addresses(HALL, Node("hall")) == (CONFIGURED,)


def test_a_device_is_flashed_where_home_assistant_is_connected_to_it(devices: Devices) -> None:
    devices.change(connected_at=("2001:db8::7",))
    assert patient(devices).addresses(KITCHEN, Node("kitchen")) == ("2001:db8::7",)
    # It dialled in: only the configuration and core's entry say where it listens.
    devices.change(connected_at=())
    assert patient(devices).addresses(KITCHEN, Node("kitchen")) == (CONFIGURED, "192.0.2.7")


@pytest.mark.parametrize("node", [Node("pantry"), Node("kit", adds_mac_suffix=True)])
def test_a_device_of_another_name_is_not_where_esphome_would_look(
    devices: Devices, node: Node
) -> None:
    devices.change(online=False, connected_at=("192.0.2.8",))
    link = patient(devices)
    assert link.addresses(KITCHEN, node) == ("kitchen.local", "192.0.2.7")
    devices.change(host="kitchen.local")
    assert link.addresses(KITCHEN, node) == ("kitchen.local",)
    devices.change(host=None)
    assert link.addresses(KITCHEN, None) == (CONFIGURED,)


@pytest.mark.parametrize("online", [True, False, None])
@pytest.mark.parametrize("name", ["attic", "kitchen"])
def test_a_device_is_not_flashed_where_home_assistant_is_connected_to_another(
    devices: Devices, name: str, online: bool | None
) -> None:
    """Also one of the same name; online without an address is a device that dialled in."""
    devices.change(online=online)
    link = patient(devices)
    assert devices.device is not None
    taken = ("192.0.2.7", "192.0.2.9")
    other = replace(
        devices.device, node_name=name, online=True, entry_id="other", connected_at=taken
    )
    devices.others = [other]
    # Whose name that is, is unclear with two of them.
    by_name = () if name == "kitchen" else (CONFIGURED,)
    assert link.addresses(KITCHEN, Node("kitchen", address="kitchen.local")) == by_name
    assert link.addresses(KITCHEN, Node("kitchen", address="192.0.2.9")) == ()
    assert link.addresses(HALL, Node("hall", address="192.0.2.9")) == ()
    # Where it was before says nothing.
    devices.others = [replace(other, online=False)]
    both = (CONFIGURED, "192.0.2.7")
    assert link.addresses(KITCHEN, Node("kitchen", address="192.0.2.9")) == both


def test_one_of_several_devices_that_home_assistant_has_lost_is_expected_under_its_own_name(
    devices: Devices,
) -> None:
    request = replace(HALL, mac="aa:bb:cc:00:11:22", device_name="hall-001122")
    node = Node("hall", adds_mac_suffix=True)
    assert patient(devices).addresses(request, node) == ("hall-001122.local",)


async def test_who_answers_where_home_assistant_is_not_connected_is_asked(
    devices: Devices, network: Network
) -> None:
    link = CoreDeviceLink(devices, network, Restarts())
    devices.known_others = {"attic"}
    network.identities = {
        ("hall.local", 6053): DeviceIdentity("attic"),
        ("192.0.2.9", 6054): DeviceIdentity("attic"),
        ("192.0.2.10", 6054): DeviceIdentity("hall"),
    }
    node = Node("hall", address="hall.local", api_port=6054)
    where = (CONFIGURED, "192.0.2.10", "192.0.2.9")
    assert await link.intruder_at(HALL, node, where) == "attic"
    assert await link.intruder_at(HALL, node, where[:2]) is None
    assert await link.intruder_at(HALL, replace(node, api_port=None), where) == "attic"
    assert await link.intruder_at(HALL, None, where) is None
    # That one is known by the connection.
    devices.change(connected_at=("192.0.2.9",))
    assert await link.intruder_at(HALL, node, where) is None


async def test_a_device_that_is_back_with_the_new_build_is_confirmed(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    devices.disconnect()
    await let_run()
    assert not confirming.done()

    devices.connect(NEW)

    assert await confirming is Verdict.CONFIRMED


async def test_a_device_that_was_back_before_anybody_asked_is_confirmed(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(NEW)

    assert await watch.confirm(NEW) is Verdict.CONFIRMED


async def test_a_build_without_a_time_is_identified_by_its_version(
    devices: Devices,
) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(replace(NEW, build_time="")))
    devices.disconnect()
    await let_run()
    devices.connect(NEW)
    assert await confirming is Verdict.CONFIRMED
    watch.close()


async def test_the_same_build_again_needs_a_reconnect(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(OLD))
    devices.change()
    await let_run()
    assert not confirming.done()

    devices.disconnect()
    devices.connect(OLD)

    assert await confirming is Verdict.CONFIRMED


async def test_a_connection_that_never_broke_proves_nothing(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)

    assert await watch.confirm(OLD) is Verdict.NOT_BACK


async def test_a_short_reconnect_before_the_restart_is_forgiven(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(OLD)
    devices.disconnect()
    devices.connect(OLD)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    devices.disconnect()
    devices.connect(OLD)
    await let_run()
    assert not confirming.done()

    devices.disconnect()
    devices.connect(NEW)

    assert await confirming is Verdict.CONFIRMED


async def test_a_device_that_comes_back_twice_with_another_build_has_it(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    for _ in range(2):
        devices.disconnect()
        devices.connect(OLD)
    await let_run()

    assert confirming.done()
    assert confirming.result() is Verdict.ANOTHER_BUILD


async def test_a_device_that_stays_with_another_build_has_it(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(OLD)

    assert await watch.confirm(NEW) is Verdict.ANOTHER_BUILD


async def test_a_device_that_stays_away_is_not_back(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)
    devices.disconnect()

    assert await watch.confirm(NEW) is Verdict.NOT_BACK


async def test_the_same_version_built_at_another_time_is_another_build(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(replace(NEW, build_time="2026-11-23 18:29:36 +0000"))

    assert await watch.confirm(NEW) is Verdict.ANOTHER_BUILD


async def test_a_device_unknown_to_home_assistant_is_so_at_once(devices: Devices) -> None:
    watch = patient(devices).watch_restart(HALL)

    assert await watch.confirm(NEW) is Verdict.UNKNOWN


async def test_a_device_that_is_removed_meanwhile_is_unknown(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    devices.change(node_name="other")

    assert await confirming is Verdict.UNKNOWN


async def test_presence_is_unknown_without_core_but_a_new_build_shows(devices: Devices) -> None:
    devices.change(online=None, connections=0)
    watch = impatient(devices).watch_restart(KITCHEN)
    assert await watch.confirm(OLD) is Verdict.UNKNOWN

    devices.change(esphome_version=NEW.esphome_version, build_time=NEW.build_time)

    assert await watch.confirm(NEW) is Verdict.CONFIRMED


async def test_a_boot_loader_that_goes_back_at_once_is_told_from_another_build(
    devices: Devices,
) -> None:
    watch = CoreDeviceLink(devices, Network(), Restarts(), return_timeout=0.01).watch_restart(
        KITCHEN
    )
    assert watch.before == replace(OLD, config_hash=0)
    assert await watch.confirm(NEW, goes_back=True) is Verdict.WENT_BACK
    assert await watch.confirm(NEW, goes_back=False) is Verdict.ANOTHER_BUILD
    devices.connect(replace(OLD, build_time="2026-11-23 19:00:00 +0000"))
    assert await watch.confirm(NEW, goes_back=True) is Verdict.ANOTHER_BUILD


async def flashed(devices: Devices, link: CoreDeviceLink) -> RestartWatch:
    watch = link.watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(NEW)
    assert await watch.confirm(NEW, goes_back=True) is Verdict.CONFIRMED
    return watch


async def test_a_device_that_goes_back_later_is_noticed_when_it_does(devices: Devices) -> None:
    watch = await flashed(devices, patient(devices))
    stays = asyncio.create_task(watch.stays(NEW, 60))
    await let_run()
    # A lost connection alone is nothing.
    devices.disconnect()
    devices.connect(NEW)
    await let_run()
    assert not stays.done()
    devices.disconnect()
    devices.connect(OLD)
    assert await stays is Verdict.WENT_BACK


async def test_the_device_itself_is_asked_why_it_restarted(devices: Devices) -> None:
    link = patient(devices)
    assert await link.restart_reason(KITCHEN) == "of kitchen"
    devices.device = None
    assert await link.restart_reason(KITCHEN) is None


async def test_a_device_that_stays_until_the_end_is_confirmed(devices: Devices) -> None:
    watch = await flashed(devices, patient(devices))
    assert await watch.stays(NEW, 0.01) is Verdict.CONFIRMED


async def test_a_device_that_is_away_at_the_end_is_judged_when_it_is_back(
    devices: Devices,
) -> None:
    watch = await flashed(devices, patient(devices))
    devices.disconnect()
    stays = asyncio.create_task(watch.stays(NEW, 0.0))
    await let_run()
    assert not stays.done()
    devices.connect(OLD)
    assert await stays is Verdict.WENT_BACK


async def test_a_device_that_is_away_for_good_is_not_back(devices: Devices) -> None:
    watch = await flashed(
        devices, CoreDeviceLink(devices, Network(), Restarts(), return_timeout=0.01)
    )
    devices.disconnect()
    assert await watch.stays(NEW, 0.0) is Verdict.NOT_BACK


async def test_a_device_that_sleeps_has_been_good_before(devices: Devices) -> None:
    watch = await flashed(devices, patient(devices))
    devices.change(deep_sleep=True)
    devices.disconnect()
    assert await watch.stays(NEW, 0.0) is Verdict.CONFIRMED


async def test_a_device_that_sleeps_and_was_not_seen_with_the_firmware_is_not_back(
    devices: Devices,
) -> None:
    """As after a restart between the flash and its verification."""
    devices.change(online=False, deep_sleep=True)
    watch = impatient(devices).watch_restart(KITCHEN)
    assert await watch.stays(NEW, 0.01) is Verdict.NOT_BACK
    # Whatever Home Assistant has kept of it.
    devices.change(esphome_version=NEW.esphome_version, build_time=NEW.build_time)
    assert await watch.stays(NEW, 0.01) is Verdict.NOT_BACK


async def test_a_device_that_wakes_with_the_firmware_and_sleeps_again_has_it(
    devices: Devices,
) -> None:
    devices.change(online=False, deep_sleep=True)
    watch = CoreDeviceLink(devices, Network(), Restarts(), return_timeout=60).watch_restart(KITCHEN)
    stays = asyncio.create_task(watch.stays(NEW, 0.05))
    await let_run()
    devices.connect(NEW)
    await let_run()
    devices.disconnect()
    assert await stays is Verdict.CONFIRMED


async def test_a_device_that_is_removed_while_it_is_waited_for_is_unknown(
    devices: Devices,
) -> None:
    watch = await flashed(devices, patient(devices))
    devices.device = None
    assert await watch.stays(NEW, 0.0) is Verdict.UNKNOWN


async def test_a_device_whose_api_is_lost_listens_where_it_is_known_to_be(
    devices: Devices, network: Network
) -> None:
    devices.disconnect()
    link = CoreDeviceLink(devices, network, Restarts())
    node = Node("kitchen", address="kitchen.local", ota_port=3232)
    assert not await link.listens(KITCHEN, node, 3232)
    for address in ("kitchen.local", "192.0.2.7"):
        network.listening = {(address, 3232)}
        assert await link.listens(KITCHEN, node, 3232)
        assert not await link.listens(KITCHEN, node, 6053)
    # Somebody else has the address now.
    assert devices.device is not None
    attic = replace(
        devices.device,
        node_name="attic",
        online=True,
        connected_at=("192.0.2.7",),
        entry_id="attic",
    )
    devices.others = [attic]
    assert not await link.listens(KITCHEN, node, 3232)


def test_another_device_that_is_found_is_an_intruder(devices: Devices, network: Network) -> None:
    link = CoreDeviceLink(devices, network, Restarts())
    assert link.intruder(KITCHEN) is None
    devices.known_others = {"kitchen"}
    assert link.intruder(KITCHEN) == "kitchen"
    # A given address is that of whatever Home Assistant is connected to there.
    given = replace(KITCHEN, address="192.0.2.9")
    assert link.intruder(given) is None
    devices.change(connected_at=("192.0.2.9",))
    assert link.intruder(given) == "kitchen"
    devices.change(online=False)
    assert link.intruder(given) is None


@pytest.mark.parametrize("address", ["hall.local", "HALL.local.", "hall", "2001:db8:0::9"])
async def test_another_device_is_not_taken_by_any_of_its_addresses(
    devices: Devices, network: Network, address: str
) -> None:
    link = CoreDeviceLink(devices, network, Restarts())
    assert devices.device is not None
    hall = replace(
        devices.device,
        entry_id="hall",
        node_name="hall",
        host=None,
        connected_at=("2001:db8::9",),
    )
    devices.others, devices.known_others = [hall], {"hall"}
    assert link.intruder(replace(KITCHEN, address=address)) == "hall"
    assert link.intruder(replace(KITCHEN, address="kitchen.local")) is None
    network.listening = {(address, 3232)}
    devices.change(host=address, online=False)
    assert not await link.listens(KITCHEN, Node("kitchen", address="kitchen.local"), 3232)
    devices.others = []
    assert await link.listens(KITCHEN, Node("kitchen", address="kitchen.local"), 3232)


async def test_a_device_announces_its_build_under_its_own_name(
    devices: Devices, network: Network
) -> None:
    network.announcements = {"kitchen": NEW, "hall": OLD}
    link = CoreDeviceLink(devices, network, Restarts())
    assert await link.announced(KITCHEN) == NEW
    # Home Assistant does not know it.
    assert await link.announced(HALL) == OLD


def test_a_device_is_asked_for_its_own_name(devices: Devices) -> None:
    assert patient(devices).node_name(KITCHEN) == "kitchen"
    assert patient(devices).node_name(HALL) is None


async def test_a_closed_watch_listens_no_more(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    assert len(devices.listeners) == 1

    watch.close()
    watch.close()

    assert devices.listeners == []


@pytest.mark.parametrize(
    ("reported", "built", "same"),
    [
        ("2026-11-23 18:29:35 +0000", "2026-11-23 18:29:35 +0000", True),
        ("2026-11-23 19:29:35 +0100", "2026-11-23 18:29:35 +0000", True),
        ("2026-11-23 18:29:36 +0000", "2026-11-23 18:29:35 +0000", False),
        ("Nov 23 2026, 18:29:35", "2026-11-23 18:29:35 +0000", True),
        ("Nov 23 2026, 19:29:35", "2026-11-23 18:29:35 +0000", True),
        ("Nov 23 2026, 19:30:35", "2026-11-23 18:29:35 +0000", False),
        ("Nov  3 2026, 08:29:35", "2026-11-03 08:29:35 +0000", True),
        ("Nov 25 2026, 18:29:35", "2026-11-23 18:29:35 +0000", False),
        ("yesterday", "2026-11-23 18:29:35 +0000", False),
        ("yesterday", "yesterday", True),
        ("Foo 23 2026, 18:29:35", "2026-11-23 18:29:35 +0000", False),
        ("2026-13-23 18:29:35 +0000", "2026-11-23 18:29:35 +0000", False),
    ],
)
def test_build_times_are_compared_whatever_their_format(
    reported: str, built: str, same: bool
) -> None:
    assert same_time(reported, built) is same
