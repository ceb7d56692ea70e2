"""Which device a configuration is for: never by a guess."""

import pytest

from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.devices.model import Configuration, CoreDevice
from custom_components.esphome_offload.inventory.matching import (
    Match,
    is_of_another,
    match,
)


def configuration(
    file: str, name: str = "socket", address: str | None = None, *, suffixed: bool = False
) -> Configuration:
    access = DeviceAccess(ota=(), address=address, address_given=address is not None)
    return Configuration(
        file_name=file,
        node_name=name,
        friendly_name=None,
        comment=None,
        platform="esp32",
        deep_sleep=False,
        files=(),
        adds_mac_suffix=suffixed,
        access=access,
    )


def device(
    entry_id: str, name: str = "socket", host: str | None = None, *, mac: str | None = None
) -> CoreDevice:
    return CoreDevice(
        entry_id=entry_id,
        device_id=None,
        node_name=name,
        mac=mac,
        friendly_name=name,
        esphome_version=None,
        build_time=None,
        online=True,
        deep_sleep=False,
        host=host,
    )


def matched(
    configurations: list[Configuration], devices: list[CoreDevice]
) -> dict[str, str | tuple[str, ...] | None]:
    """Return the entry of the device of each configuration, or why it is unclear."""
    found = match({each.file_name: each for each in configurations}, devices)
    return {
        name: each.rivals or (None if each.core is None else each.core.entry_id)
        for name, each in found.items()
    }


def test_a_name_that_one_configuration_and_one_device_have() -> None:
    files = [configuration("a.yaml"), configuration("b.yaml", "other")]
    assert matched(files, [device("one"), device("two", "third")]) == {
        "a.yaml": "one",
        "b.yaml": None,
    }


def test_two_sockets_with_one_name_and_addresses_of_their_own() -> None:
    files = [
        configuration("a.yaml", address="192.168.1.20"),
        configuration("b.yaml", address="192.168.1.21"),
    ]
    devices = [device("one", host="192.168.1.20"), device("two", host="192.168.1.21")]
    assert matched(files, devices) == {"a.yaml": "one", "b.yaml": "two"}
    # Home Assistant has only the first: the second is flashed at its own address, as ESPHome does.
    assert matched(files, devices[:1]) == {"a.yaml": "one", "b.yaml": None}


def test_a_copy_of_a_configuration() -> None:
    files = [configuration("kitchen.yaml"), configuration("kitchen_old.yaml")]
    assert matched(files, [device("one")]) == {
        "kitchen.yaml": ("kitchen_old.yaml",),
        "kitchen_old.yaml": ("kitchen.yaml",),
    }


def test_a_copy_with_an_address_does_not_make_the_other_clear() -> None:
    files = [configuration("a.yaml", address="192.168.1.20"), configuration("b.yaml")]
    assert matched(files, [device("one", host="192.168.1.20")]) == {
        "a.yaml": "one",
        "b.yaml": ("a.yaml",),
    }


def test_two_devices_of_one_name() -> None:
    devices = [device("one", host="192.168.1.20"), device("two")]
    assert matched([configuration("a.yaml")], devices) == {"a.yaml": ("192.168.1.20", "socket")}


@pytest.mark.parametrize(
    ("given", "host", "entry"),
    [
        ("192.168.1.20", "192.168.1.99", None),
        ("192.168.1.20", "socket.local", "one"),
        ("socket.lan", "192.168.1.99", "one"),
        ("Socket.lan.", "socket.lan", "one"),
        ("fe80::1%eth0", "fe80:0:0::1", "one"),
        ("fe80::1", "fe80::2", None),
    ],
)
def test_an_address_that_is_given(given: str, host: str, entry: str | None) -> None:
    files = [configuration("a.yaml", address=given)]
    assert matched(files, [device("one", host=host)]) == {"a.yaml": entry}


def test_the_address_decides_even_where_the_name_is_another() -> None:
    files = [configuration("a.yaml", address="192.168.1.20")]
    devices = [device("one", "renamed", "192.168.1.20"), device("two", host="192.168.1.9")]
    assert matched(files, devices) == {"a.yaml": "one"}


class TestMacSuffix:
    """A name with a part of the MAC address."""

    FILE = configuration("a.yaml", suffixed=True)
    ONE = device("one", "socket-ddeeff", mac="aa:bb:cc:dd:ee:ff")
    TWO = device("two", "socket-000002", mac="aa:bb:cc:00:00:02")

    def test_the_only_one(self) -> None:
        others = [device("x", "socket-tower"), device("y", "socket-0000ff", mac="aa:bb:cc:0:0:1")]
        assert matched([self.FILE], [self.ONE, *others]) == {"a.yaml": "one"}

    def test_several_are_unclear(self) -> None:
        assert matched([self.FILE], [self.ONE, self.TWO]) == {
            "a.yaml": ("socket-000002", "socket-ddeeff")
        }

    def test_a_configuration_without_it_is_not_for_them(self) -> None:
        assert matched([configuration("a.yaml")], [self.ONE]) == {"a.yaml": None}


def test_no_devices() -> None:
    assert match({"a.yaml": configuration("a.yaml")}, []) == {"a.yaml": Match()}


MAC = "aa:bb:cc:00:11:22"


@pytest.mark.parametrize(
    ("file", "devices", "entry_id"),
    [
        (configuration("a.yaml", "new"), [device("one", "old", mac=MAC)], "one"),
        # Flashed: it has its new name.
        (configuration("a.yaml", "new"), [device("one", "new", mac=MAC)], "one"),
        # Another device has the name already.
        (
            configuration("a.yaml", "new"),
            [device("one", "old", mac=MAC), device("two", "new")],
            "two",
        ),
        (configuration("a.yaml", "new"), [device("one", "old", mac="aa:bb:cc:00:11:33")], None),
        (
            configuration("a.yaml", "new", address="192.168.1.30"),
            [device("one", "old", "192.168.1.20", mac=MAC)],
            None,
        ),
    ],
)
def test_a_renamed_configuration_keeps_its_device(
    file: Configuration, devices: list[CoreDevice], entry_id: str | None
) -> None:
    found = match({"a.yaml": file}, devices, {"a.yaml": MAC}.get)["a.yaml"].core
    assert (None if found is None else found.entry_id) == entry_id


def test_the_former_device_of_a_configuration_may_be_that_of_another_now() -> None:
    files = {
        each.file_name: each for each in (configuration("a.yaml", "new"), configuration("b.yaml"))
    }
    found = match(files, [device("one", mac=MAC)], {"a.yaml": MAC}.get)
    assert found["a.yaml"] == Match()
    assert found["b.yaml"].core is not None


@pytest.mark.parametrize(
    ("found", "last_mac", "another"),
    [
        (device("one", "lamp", mac=MAC), None, False),
        # Its own name, on other hardware.
        (device("one", "lamp", mac=MAC), "aa:bb:cc:00:11:33", False),
        (device("one", "lamp-001122", mac=MAC), None, True),
        (device("one", "old", mac=MAC), MAC, False),
        # Seen for the first time: it may come from anywhere.
        (device("one", "esphome-web", mac=MAC), None, False),
        (device("one", "old", mac=MAC), "aa:bb:cc:00:11:33", True),
        (device("one", "socket", mac=MAC), None, True),
        (device("one", "plug-001122", mac=MAC), None, True),
    ],
)
def test_a_device_at_the_address_of_a_configuration_may_be_another(
    found: CoreDevice, last_mac: str | None, another: bool
) -> None:
    lamp = configuration("lamp.yaml", "lamp", address="192.168.1.20")
    others = [
        lamp,
        configuration("socket.yaml"),
        configuration("plug.yaml", "plug", suffixed=True),
        configuration("lamps.yaml", "lamp-001122"),
    ]
    assert is_of_another(lamp, others, found, last_mac) is another
