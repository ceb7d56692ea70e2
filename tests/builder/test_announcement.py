"""The announcement in the network, and what is announced."""

import logging
from typing import NoReturn
from unittest.mock import AsyncMock, Mock

from esphome_offload_builder import announcement
from esphome_offload_builder.announcement import Announcement, own_addresses, reachable
from esphome_offload_builder.engine.host.announcement import AnnouncedBuilder
import ifaddr
import pytest

from custom_components.esphome_offload.engine.const import ZEROCONF_TYPE

BUILDER = AnnouncedBuilder("ab" * 32, "attic.local")


def test_what_is_announced_is_what_the_integration_looks_for() -> None:
    service = BUILDER.service(["192.0.2.1"], 16053)
    assert service.type == ZEROCONF_TYPE
    assert service.name == f"attic local.{ZEROCONF_TYPE}"
    assert service.decoded_properties == {
        "pin": "ab" * 32,
        "label": "attic.local",
        "protocol": "1",
        "url": "",
    }
    assert (service.port, service.parsed_addresses()) == (16053, ["192.0.2.1"])


def test_addresses_that_mean_another_machine_elsewhere_are_left_out() -> None:
    assert not {"127.0.0.1", "::1"} & set(own_addresses())
    assert not any(each.startswith(("fe80", "169.254.")) for each in own_addresses())


def test_networks_of_containers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Home Assistant OS has the same addresses there, its own app among them."""
    adapters = {
        "enp3s0": "192.0.2.1",
        "br0": "192.0.2.2",
        "hassio": "172.30.32.1",
        "docker0": "172.30.232.1",
        "br-0123456789ab": "172.18.0.1",
        "veth7": "192.0.2.3",
    }
    found = [
        ifaddr.Adapter(name, name, [ifaddr.IP(address, 24, name)])
        for name, address in adapters.items()
    ]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: found)
    assert own_addresses() == ["192.0.2.1", "192.0.2.2"]


def test_only_addresses_that_it_listens_on_are_announced() -> None:
    assert reachable(["192.0.2.9", "127.0.0.1"]) == ["192.0.2.9"]
    assert reachable(["0.0.0.0", "::"]) == own_addresses()


async def test_a_builder_for_this_machine_alone_is_not_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Mock()
    monkeypatch.setattr(announcement, "AsyncZeroconf", made)
    await Announcement().start(BUILDER, 16053, ["127.0.0.1", "::1"])
    made.assert_not_called()
    assert "Not announced" in caplog.text


async def test_without_a_network_it_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> NoReturn:
        raise OSError(19, "No such device")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(announcement, "AsyncZeroconf", fails)
    announced = Announcement()
    await announced.start(BUILDER, 16053, ["192.0.2.1"])
    await announced.stop()
    assert "Cannot announce this machine" in caplog.text


async def test_it_is_withdrawn_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = AsyncMock()
    monkeypatch.setattr(announcement, "AsyncZeroconf", lambda: shared)
    announced = Announcement()
    await announced.start(BUILDER, 16053, ["192.0.2.1"])
    (service,) = shared.async_register_service.await_args.args
    assert service.name == f"attic local.{ZEROCONF_TYPE}"
    await announced.stop()
    shared.async_unregister_all_services.assert_awaited_once()
    shared.async_close.assert_awaited_once()
