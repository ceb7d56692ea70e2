"""Which device a configuration is for: never by a guess."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.devices.model import Configuration, CoreDevice
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.inventory.choices import NO_DEVICE
from custom_components.esphome_offload.inventory.matching import (
    Match,
    is_at,
    is_of_another,
    match,
)

MAC = "aa:bb:cc:00:11:22"
OTHER_MAC = "aa:bb:cc:00:11:33"


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


def had(*macs: str) -> Callable[[str], tuple[str, ...]]:
    """Return which devices each configuration had last."""
    return lambda _file: macs


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


def test_two_configurations_with_one_name_and_one_address() -> None:
    files = [configuration(file, address="192.168.1.20") for file in ("a.yaml", "b.yaml")]
    there = device("one", host="192.168.1.20", mac=MAC)
    unclear = {"a.yaml": ("b.yaml",), "b.yaml": ("a.yaml",)}
    assert matched(files, [there]) == matched(files, []) == unclear
    both = {each.file_name: each for each in files}
    found = match(both, [there], chosen={"a.yaml": MAC, "b.yaml": NO_DEVICE}.get)
    assert found["a.yaml"] == Match(there)
    assert found["b.yaml"] == Match(None, ("a.yaml",), (there,), settled=True)


def test_one_device_is_never_that_of_two_configurations() -> None:
    """One has its address and had it before, the other one has its name."""
    files = [configuration("a.yaml", "old", "192.168.1.20"), configuration("b.yaml")]
    there = device("one", host="192.168.1.20", mac=MAC)
    both = {each.file_name: each for each in files}
    macs = {"a.yaml": (MAC,), "b.yaml": ()}.__getitem__
    assert match(both, [there], macs) == {
        "a.yaml": Match(None, ("b.yaml",), (there,)),
        "b.yaml": Match(None, ("a.yaml",), (there,)),
    }
    assert match(both, [there], macs, {"a.yaml": MAC}.get) == {
        "a.yaml": Match(there),
        "b.yaml": Match(None, ("a.yaml",), (there,)),
    }


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


def test_a_device_of_another_name_at_a_given_address_is_asked_about() -> None:
    files = {"a.yaml": configuration("a.yaml", address="192.168.1.20")}
    stranger, named = device("one", "stranger", "192.168.1.20", mac=MAC), device("two")
    unclear = Match(None, ("stranger",), (stranger, named))
    assert match(files, [stranger, named])["a.yaml"] == unclear
    assert match(files, [stranger, named], had(OTHER_MAC))["a.yaml"] == unclear
    # It was renamed, or a person said so.
    assert match(files, [stranger, named], had(MAC))["a.yaml"] == Match(stranger)
    own = {"a.yaml": MAC}.get
    assert match(files, [stranger, named], chosen=own)["a.yaml"] == Match(stranger)


@pytest.mark.parametrize("address", [None, "192.168.1.21", "socket.lan"])
def test_another_device_is_never_taken_for_the_chosen_one(address: str | None) -> None:
    files = {"a.yaml": configuration("a.yaml", address=address)}
    other = device("two", host="192.168.1.21", mac=OTHER_MAC)
    chosen = {"a.yaml": MAC}.get
    unclear = Match(None, ("192.168.1.21",), (other,))
    assert match(files, [other], chosen=chosen)["a.yaml"] == unclear
    # Nor by what was flashed last.
    renamed = device("two", "old", "192.168.1.30", mac=OTHER_MAC)
    assert match(files, [renamed], had(OTHER_MAC), chosen)["a.yaml"] == Match()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("socket", None),
        ("socket", "192.168.1.21"),
        ("socket", "socket.lan"),
        ("stranger", "192.168.1.21"),
    ],
)
def test_a_configuration_for_no_device_gets_none(name: str, address: str | None) -> None:
    files = {"a.yaml": configuration("a.yaml", address=address)}
    one = device("one", name, "192.168.1.21", mac=MAC)
    found = match(files, [one], chosen={"a.yaml": NO_DEVICE}.get)["a.yaml"]
    assert found.core is None
    assert found.rivals
    assert found.settled
    renamed = device("one", "old", "192.168.1.30", mac=MAC)
    assert match(files, [renamed], had(MAC), {"a.yaml": NO_DEVICE}.get)["a.yaml"] == Match()


def test_two_renamed_configurations_that_had_one_device_are_asked_about() -> None:
    files = {"a.yaml": configuration("a.yaml", "new"), "b.yaml": configuration("b.yaml", "newer")}
    old = device("one", "old", mac=MAC)
    assert match(files, [old], had(MAC)) == {
        "a.yaml": Match(None, ("b.yaml",), (old,)),
        "b.yaml": Match(None, ("a.yaml",), (old,)),
    }
    chosen = {"a.yaml": MAC}.get
    assert match(files, [old], had(MAC), chosen) == {"a.yaml": Match(old), "b.yaml": Match()}


@pytest.mark.parametrize(
    ("address", "online", "there"),
    [
        ("garage.local", True, True),
        ("GARAGE.local.", False, True),
        ("garage", False, True),
        ("garage.lan", False, True),
        ("fe80:0::1%eth0", True, True),
        ("fe80::1", False, False),
        ("kitchen.local", True, False),
    ],
)
def test_a_device_is_known_under_its_names_and_addresses(
    address: str, online: bool, there: bool
) -> None:
    garage = replace(
        device("one", "garage", "garage.lan"), connected_at=("fe80::1",), online=online
    )
    assert is_at(garage, address) is there


def test_the_address_in_the_entry_of_a_device_that_is_away_may_be_that_of_another_now() -> None:
    garage = device("one", "garage", "192.168.1.20")
    assert is_at(garage, "192.168.1.20")
    assert not is_at(replace(garage, online=False), "192.168.1.20")


class TestMacSuffix:
    """A name with a part of the MAC address: each device is a target of its own."""

    FILE = configuration("a.yaml", suffixed=True)
    ONE = device("one", "socket-ddeeff", mac="aa:bb:cc:dd:ee:ff")
    TWO = device("two", "socket-000002", mac="aa:bb:cc:00:00:02")
    FIRST, SECOND = "a.yaml@aa:bb:cc:dd:ee:ff", "a.yaml@aa:bb:cc:00:00:02"

    def test_the_only_one(self) -> None:
        others = [device("x", "socket-tower"), device("y", "socket-0000ff", mac="aa:bb:cc:0:0:1")]
        assert matched([self.FILE], [self.ONE, *others]) == {self.FIRST: "one"}

    def test_several(self) -> None:
        assert matched([self.FILE], [self.ONE, self.TWO]) == {
            self.FIRST: "one",
            self.SECOND: "two",
        }

    def test_none_is_known(self) -> None:
        assert matched([self.FILE], [device("x", "socket-tower")]) == {"a.yaml": None}

    def test_one_that_has_no_suffix_yet(self) -> None:
        new = device("new", mac=MAC)
        assert matched([self.FILE], [self.ONE, new]) == {self.FIRST: "one", f"a.yaml@{MAC}": "new"}

    def test_a_device_whose_mac_address_is_not_known_is_no_target_of_its_own(self) -> None:
        unknown = replace(self.TWO, mac=None)
        assert matched([self.FILE], [self.ONE, unknown]) == {self.FIRST: "one"}
        assert matched([self.FILE], [unknown]) == {"a.yaml": "two"}

    def test_a_configuration_without_it_is_not_for_them(self) -> None:
        assert matched([configuration("a.yaml")], [self.ONE]) == {"a.yaml": None}

    def test_before_esphome_was_asked_the_names_of_devices_tell(self) -> None:
        file = replace(configuration("a.yaml"), access=DeviceAccess())
        assert matched([file], [self.ONE, self.TWO]) == {self.FIRST: "one", self.SECOND: "two"}
        assert matched([file], [self.ONE, device("three")]) == {"a.yaml": "three"}

    def test_a_device_with_a_configuration_of_its_own(self) -> None:
        """As ESPHome's dashboard makes it for a device that it takes over."""
        own = configuration("own.yaml", "socket-ddeeff")
        assert matched([self.FILE, own], [self.ONE, self.TWO]) == {
            self.SECOND: "two",
            "own.yaml": "one",
        }
        files = {each.file_name: each for each in (self.FILE, own)}
        assert is_of_another(self.FILE, files.values(), self.ONE, ())

    def test_a_copy_makes_each_device_unclear(self) -> None:
        copy = configuration("b.yaml", suffixed=True)
        assert matched([self.FILE, copy], [self.ONE]) == {
            self.FIRST: ("b.yaml",),
            "b.yaml@aa:bb:cc:dd:ee:ff": ("a.yaml",),
        }
        files = {"a.yaml": self.FILE, "b.yaml": copy}
        mac = self.ONE.mac or ""
        choices = {self.FIRST: mac, f"b.yaml@{mac}": NO_DEVICE}
        found = match(files, [self.ONE], chosen=choices.get)
        assert found[self.FIRST] == Match(self.ONE)
        assert found[f"b.yaml@{mac}"] == Match(None, ("a.yaml",), (self.ONE,), settled=True)

    def test_a_device_that_a_person_has_taken_away(self) -> None:
        found = match({"a.yaml": self.FILE}, [self.ONE], chosen={self.FIRST: NO_DEVICE}.get)
        assert found == {self.FIRST: Match(None, ("socket-ddeeff",), (self.ONE,), settled=True)}

    def test_with_an_address_of_its_own_there_is_one_device(self) -> None:
        file = configuration("a.yaml", address="192.168.1.20", suffixed=True)
        there = replace(self.ONE, host="192.168.1.20")
        assert matched([file], [there, self.TWO]) == {"a.yaml": "one"}

    def test_a_renamed_configuration_keeps_all_of_them(self) -> None:
        """One was flashed already, the other one still has its former name."""
        file = configuration("a.yaml", "plug", suffixed=True)
        flashed = replace(self.ONE, node_name="plug-ddeeff")
        macs = had("aa:bb:cc:dd:ee:ff", "aa:bb:cc:00:00:02", "aa:bb:cc:00:00:03")
        found = match({"a.yaml": file}, [flashed, self.TWO], macs)
        assert found == {self.FIRST: Match(flashed), self.SECOND: Match(self.TWO)}
        # The former name is that of another configuration by now.
        files = {"a.yaml": file, "b.yaml": configuration("b.yaml", suffixed=True)}
        assert set(match(files, [flashed, self.TWO], macs)) == {
            self.FIRST,
            "b.yaml@aa:bb:cc:00:00:02",
        }

    def test_a_configuration_that_adds_no_suffix_any_more(self) -> None:
        file = configuration("a.yaml")
        macs = had("aa:bb:cc:dd:ee:ff", "aa:bb:cc:00:00:02")
        assert match({"a.yaml": file}, [self.ONE], macs) == {"a.yaml": Match(self.ONE)}
        names = ("socket-000002", "socket-ddeeff")
        assert match({"a.yaml": file}, [self.ONE, self.TWO], macs) == {
            "a.yaml": Match(None, names, (self.ONE, self.TWO))
        }

    @pytest.mark.parametrize(
        ("found", "another"),
        [
            (ONE, False),
            (TWO, True),
            (replace(ONE, mac=None), False),
            (replace(TWO, mac=None), True),
            (replace(ONE, node_name="esphome-web", mac=None), True),
            (replace(ONE, node_name="socket", mac=None), True),
            (replace(ONE, node_name="esphome-web"), False),
        ],
    )
    def test_only_the_device_itself_is_not_another_one(
        self, found: CoreDevice, another: bool
    ) -> None:
        mac = self.ONE.mac
        assert is_of_another(self.FILE, [self.FILE], found, (), mac=mac) is another


def test_no_devices() -> None:
    assert match({"a.yaml": configuration("a.yaml")}, []) == {"a.yaml": Match()}


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
        (configuration("a.yaml", "new"), [device("one", "old", mac=OTHER_MAC)], None),
        (
            configuration("a.yaml", "new", address="192.168.1.30"),
            [device("one", "old", "192.168.1.20", mac=MAC)],
            None,
        ),
        (
            configuration("a.yaml", "new", address="192.168.1.20"),
            [device("one", "old", "192.168.1.20", mac=MAC)],
            "one",
        ),
    ],
)
def test_a_renamed_configuration_keeps_its_device(
    file: Configuration, devices: list[CoreDevice], entry_id: str | None
) -> None:
    found = match({"a.yaml": file}, devices, had(MAC))["a.yaml"].core
    assert (None if found is None else found.entry_id) == entry_id


def test_the_former_device_of_a_configuration_may_be_that_of_another_now() -> None:
    files = {
        each.file_name: each for each in (configuration("a.yaml", "new"), configuration("b.yaml"))
    }
    found = match(files, [device("one", mac=MAC)], lambda file: (MAC,) if file == "a.yaml" else ())
    assert found["a.yaml"] == Match()
    assert found["b.yaml"].core is not None


@pytest.mark.parametrize(
    ("found", "had_mac", "another"),
    [
        (device("one", "lamp", mac=MAC), None, False),
        # Its own name, on other hardware.
        (device("one", "lamp", mac=MAC), OTHER_MAC, False),
        (device("one", "lamp-001122", mac=MAC), None, True),
        (device("one", "old", mac=MAC), MAC, False),
        # At an address that a person gave for the job: it may come from anywhere.
        (device("one", "esphome-web", mac=MAC), None, False),
        (device("one", "old", mac=MAC), OTHER_MAC, True),
        (device("one", "socket", mac=MAC), None, True),
        (device("one", "plug-001122", mac=MAC), None, True),
    ],
)
def test_a_device_at_the_address_of_a_configuration_may_be_another(
    found: CoreDevice, had_mac: str | None, another: bool
) -> None:
    lamp = configuration("lamp.yaml", "lamp", address="192.168.1.20")
    others = [
        lamp,
        configuration("socket.yaml"),
        configuration("plug.yaml", "plug", suffixed=True),
        configuration("lamps.yaml", "lamp-001122"),
    ]
    macs = () if had_mac is None else (had_mac,)
    assert is_of_another(lamp, others, found, macs) is another
    if another:
        assert not is_of_another(lamp, others, found, macs, chosen=MAC)
        assert is_of_another(lamp, others, found, macs, chosen=NO_DEVICE)


@pytest.mark.parametrize(
    ("said", "mac", "another"),
    [
        ("lamp", None, False),
        ("lamp-001122", None, False),
        ("athom-plug-abc123", None, True),
        ("old", None, False),
        ("lamp-001122", MAC, False),
        ("lamp-001133", MAC, True),
        ("lamp", MAC, True),
        ("athom-plug-abc123", MAC, True),
        ("old", MAC, False),
        # It is known by this name, and it is that of another configuration.
        ("socket", None, True),
        ("socket", MAC, True),
    ],
)
def test_a_device_that_does_not_tell_its_mac_address_needs_a_known_name(
    said: str, mac: str | None, another: bool
) -> None:
    lamp = configuration("lamp.yaml", "lamp", suffixed=True)
    files = [lamp, configuration("socket.yaml")]
    found = DeviceIdentity(said)
    assert is_of_another(lamp, files, found, (), mac=mac, names=("old", "socket")) is another
