"""What devices tell without their API, over real sockets; mDNS is scripted."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from homeassistant.components import zeroconf
from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.engine.build.model import BuildInfo
from custom_components.esphome_offload.inventory import network_probe
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.inventory.network_probe import NetworkProbe

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture
def probe(hass: HomeAssistant) -> NetworkProbe:
    return NetworkProbe(hass)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
def mdns(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch, mock_async_zeroconf: object
) -> dict[str, Mapping[str, str | None]]:
    """Return what is announced: properties by the name of the service, addresses by host name."""
    announced: dict[str, Mapping[str, str | None]] = {}
    hass.config.components.add(zeroconf.DOMAIN)

    class Info:
        def __init__(self, kind: str, name: str | None = None) -> None:
            self.type, self.name = kind, name or kind

        async def async_request(self, _zeroconf: object, _timeout: float) -> bool:
            return self.name in announced

        @property
        def decoded_properties(self) -> Mapping[str, str | None]:
            return announced[self.name]

        def parsed_addresses(self) -> list[str]:
            return []

        def parsed_scoped_addresses(self) -> list[str]:
            return list(announced[self.name])

    monkeypatch.setattr(network_probe, "AsyncServiceInfo", Info)
    monkeypatch.setattr(network_probe, "AddressResolver", Info)
    return announced


async def test_an_open_port_listens(probe: NetworkProbe, port: int) -> None:
    assert await probe.listens("127.0.0.1", port)


async def test_a_closed_port_does_not(probe: NetworkProbe, port: int) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    closed = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert not await probe.listens("127.0.0.1", closed)


async def test_a_local_name_is_asked_for_by_mdns(
    probe: NetworkProbe, port: int, mdns: dict[str, Mapping[str, str | None]]
) -> None:
    assert not await probe.listens("kitchen.local", port)
    mdns["kitchen.local."] = {"127.0.0.1": None}
    assert await probe.listens("kitchen.local", port)


async def test_without_zeroconf_nothing_is_known(probe: NetworkProbe, port: int) -> None:
    assert not await probe.listens("kitchen.local", port)
    assert await probe.announced("kitchen") is None


async def test_a_device_announces_version_and_hash(
    probe: NetworkProbe, mdns: dict[str, Mapping[str, str | None]]
) -> None:
    assert await probe.announced("kitchen") is None
    mdns["kitchen._http._tcp.local."] = {"version": "2026.10.0", "config_hash": "000000ff"}
    assert await probe.announced("kitchen") == BuildInfo("2026.10.0", "", 255)
    # Without a hash it is no sign of a build.
    mdns["kitchen._esphomelib._tcp.local."] = {"version": "2026.9.0"}
    assert await probe.announced("kitchen") == BuildInfo("2026.10.0", "", 255)


async def test_the_device_at_a_name_is_asked_what_it_is(
    probe: NetworkProbe,
    mdns: dict[str, Mapping[str, str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"192.0.2.8": DeviceIdentity("lamp")}

    async def ask(address: str, _port: int) -> DeviceIdentity | None:
        return said.get(address)

    monkeypatch.setattr(network_probe, "ask_identity", ask)
    mdns["lamp.local."] = {"192.0.2.7": None, "192.0.2.8": None}
    assert await probe.identity("lamp.local", 6053) == DeviceIdentity("lamp")
    assert await probe.identity("192.0.2.7", 6053) is None
