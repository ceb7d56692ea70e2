"""Where a device is, whether it can be flashed, and who is asked for its name."""

from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.build.model import CONFIGURED, Node
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink

from .core_devices import HALL, KITCHEN, NEW, OLD, Devices, Network, Restarts, patient


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
