"""Announcements in a real network, on this machine alone."""

import asyncio
from collections.abc import AsyncGenerator
from unittest.mock import patch

from homeassistant.core import HomeAssistant
import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from custom_components.esphome_offload.inventory.announced_firmware import (
    AnnouncedFirmware,
    FirmwareAnnouncements,
    announced_firmware,
)

API = "_esphomelib._tcp.local."
WEB = "_http._tcp.local."
TEXTS = {"version": "2026.10.0", "mac": "aabbcc001122", "config_hash": "0a1b2c3d", "board": "x"}
# As it is before Home Assistant, in another test, makes all instances one.
INIT = Zeroconf.__init__
HERE = ("127.0.0.1",)
LAMP = AnnouncedFirmware("lamp", "2026.10.0", "aa:bb:cc:00:11:22", 0x0A1B2C3D, HERE)


def record(kind: str = API, name: str = "lamp", **texts: str | None) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        kind,
        f"{name}.{kind}",
        port=6053,
        server=f"{name}.local.",
        parsed_addresses=["127.0.0.1"],
        properties={key: value for key, value in (TEXTS | texts).items() if value is not None},
    )


def test_a_record_says_what_the_device_runs() -> None:
    assert announced_firmware(record()) == LAMP
    assert announced_firmware(record(WEB)) == LAMP


@pytest.mark.parametrize("text", [None, "", "0xzz", "no hash", "123456789", "-1"])
def test_a_record_without_a_hash_still_has_the_version(text: str | None) -> None:
    assert announced_firmware(record(config_hash=text)) == AnnouncedFirmware(
        "lamp", "2026.10.0", "aa:bb:cc:00:11:22", addresses=HERE
    )
    assert announced_firmware(record(WEB, config_hash=text)) is None


@pytest.mark.parametrize("kind", [API, WEB])
def test_a_record_of_something_else_says_nothing(kind: str) -> None:
    assert announced_firmware(record(kind, version=None)) is None
    assert announced_firmware(record(kind, mac=None, config_hash=None)) is None


class Air:
    """The announcements that were heard."""

    def __init__(self) -> None:
        self.heard: list[AnnouncedFirmware] = []
        self._new = asyncio.Event()

    def hear(self, firmware: AnnouncedFirmware) -> None:
        self.heard.append(firmware)
        self._new.set()

    async def until(self, firmware: AnnouncedFirmware) -> None:
        async with asyncio.timeout(30):
            while firmware not in self.heard:
                self._new.clear()
                await self._new.wait()


@pytest.fixture(autouse=True)
def instances_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def new(kind: type[Zeroconf], *_: object, **__: object) -> Zeroconf:
        return object.__new__(kind)

    monkeypatch.setattr(Zeroconf, "__new__", new)
    monkeypatch.setattr(Zeroconf, "__init__", INIT)


@pytest.fixture
async def device(
    socket_enabled: None, instances_of_their_own: None
) -> AsyncGenerator[AsyncZeroconf]:
    device = AsyncZeroconf(interfaces=["127.0.0.1"])
    yield device
    await device.async_close()


async def test_a_device_is_heard_when_it_appears_and_when_it_was_flashed(
    hass: HomeAssistant, device: AsyncZeroconf
) -> None:
    shared = AsyncZeroconf(interfaces=["127.0.0.1"])
    hass.config.components.add("zeroconf")
    air = Air()
    announcements = FirmwareAnnouncements(hass, air.hear)
    with patch(
        "homeassistant.components.zeroconf.async_get_instance", return_value=shared.zeroconf
    ):
        await announcements.async_start()
    try:
        await (await device.async_register_service(record()))
        await air.until(LAMP)
        await (await device.async_update_service(record(config_hash="00000005")))
        await air.until(AnnouncedFirmware("lamp", "2026.10.0", LAMP.mac, 5, HERE))
        heard = len(air.heard)
        announcements._changed(shared.zeroconf, API, f"lamp.{API}", ServiceStateChange.Removed)
        announcements._changed(shared.zeroconf, API, "bad name", ServiceStateChange.Added)
        assert len(air.heard) == heard

        # An instance that has not heard of it yet asks for it.
        air.heard.clear()
        deaf = AsyncZeroconf(interfaces=["127.0.0.1"])
        announcements._changed(deaf.zeroconf, API, f"lamp.{API}", ServiceStateChange.Added)
        await air.until(AnnouncedFirmware("lamp", "2026.10.0", LAMP.mac, 5, HERE))
        await deaf.async_close()
    finally:
        await announcements.async_stop()
        await shared.async_close()


async def test_without_zeroconf_nothing_is_heard(hass: HomeAssistant) -> None:
    announcements = FirmwareAnnouncements(hass, lambda _: None)
    await announcements.async_start()
    assert announcements._browser is None
    await announcements.async_stop()
