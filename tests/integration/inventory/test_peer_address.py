"""The address of a device, as its connection has it."""

from collections.abc import Callable, Iterator
import socket
from types import SimpleNamespace

import pytest

from custom_components.esphome_offload.inventory.peer_address import peer_addresses

INTERFACES = [(1, "lo"), (2, "eth0"), (5, "wlan0")]


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: INTERFACES)


def client(address: str | None, peer: object = None) -> object:
    """Return what core has of a connection; ``peer`` is the address that its socket has."""
    connection = SimpleNamespace(_socket=SimpleNamespace(getpeername=lambda: peer))
    return SimpleNamespace(
        connected_address=address, _connection=None if peer is None else connection
    )


def test_an_address_is_what_the_library_says() -> None:
    assert peer_addresses(client("192.0.2.7"), 6053) == ("192.0.2.7",)
    assert peer_addresses(client("192.0.2.7", ("192.0.2.7", 6053)), 6053) == ("192.0.2.7",)
    assert peer_addresses(client("2001:db8::7"), 6053) == ("2001:db8::7",)


@pytest.mark.parametrize("nothing", [client(None), client(""), object()])
def test_without_a_connection_there_is_none(nothing: object) -> None:
    assert peer_addresses(nothing, 6053) == ()


def test_a_link_local_address_keeps_its_zone() -> None:
    peer = ("fe80::7", 6053, 0, 5)
    assert peer_addresses(client("fe80::7", peer), 6053) == ("fe80::7%wlan0",)
    assert peer_addresses(client("fe80::7%eth0", peer), 6053) == ("fe80::7%eth0",)


@pytest.mark.parametrize("peer", [None, ("fe80::7", 6053, 0, 0), "odd"])
def test_a_link_local_address_without_a_zone_may_be_on_each_interface(peer: object) -> None:
    found = peer_addresses(client("fe80::7", peer), 6053)
    assert found == ("fe80::7%eth0", "fe80::7%wlan0")


def test_a_link_local_address_stays_without_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: INTERFACES[:1])
    assert peer_addresses(client("fe80::7"), 6053) == ("fe80::7",)


def test_what_is_no_address_is_handed_on() -> None:
    assert peer_addresses(client("kitchen.local"), 6053) == ("kitchen.local",)


@pytest.fixture
def pair(socket_enabled: None) -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Make connections over the loopback interface: the end that called, and the other."""
    opened: list[socket.socket] = []

    def connect() -> tuple[socket.socket, socket.socket]:
        server = socket.create_server(("127.0.0.1", 0))
        caller = socket.create_connection(server.getsockname())
        called, _ = server.accept()
        opened.extend((server, caller, called))
        return caller, called

    yield connect
    for each in opened:
        each.close()


def test_a_device_that_dialled_in_is_not_where_it_came_from(
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    ours, theirs = pair()
    port = ours.getpeername()[1]
    for end, found in ((ours, ("127.0.0.1",)), (theirs, ())):
        connected = SimpleNamespace(
            connected_address="127.0.0.1", _connection=SimpleNamespace(_socket=end)
        )
        assert peer_addresses(connected, port) == found


def test_a_closed_connection_says_nothing_about_the_other_end(
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    ours, _ = pair()
    ours.close()
    connected = SimpleNamespace(
        connected_address="192.0.2.7", _connection=SimpleNamespace(_socket=ours)
    )
    assert peer_addresses(connected, 6053) == ("192.0.2.7",)
