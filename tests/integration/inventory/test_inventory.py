"""The device inventory: scans that overlap, stop or wait for one another."""

import asyncio
from collections.abc import Container
from pathlib import Path
from typing import override
from unittest.mock import patch

from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.engine.devices.answers import Answer, Fault
from custom_components.esphome_offload.engine.devices.model import ScanResult
from custom_components.esphome_offload.engine.devices.scanner import Scanner
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.engine.target import target_id
from custom_components.esphome_offload.inventory.configuration_folder import (
    ConfigurationFolder,
)
from custom_components.esphome_offload.inventory.core_esphome import CoreEsphome
from custom_components.esphome_offload.inventory.tracker import DeviceInventory

from ...engine.devices.folder import ScriptedInspector
from ..conftest import LAMP, Pass

MAC = "aa:bb:cc:00:11:22"


class SlowScanner(Scanner):
    """A scanner whose scans wait."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ScriptedInspector(None))
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.scans = 0

    @override
    async def scan(self, *, ask: bool = True) -> ScanResult:
        self.scans += 1
        self.started.set()
        await self.go_on.wait()
        return await super().scan(ask=ask)


@pytest.fixture
def changes() -> list[set[str]]:
    return []


@pytest.fixture
def core(hass: HomeAssistant) -> CoreEsphome:
    return CoreEsphome(hass)


@pytest.fixture
def inspector() -> ScriptedInspector:
    return ScriptedInspector(None)


@pytest.fixture
def inventory(
    hass: HomeAssistant, core: CoreEsphome, inspector: ScriptedInspector, changes: list[set[str]]
) -> DeviceInventory:
    def changed(configurations: Container[str]) -> None:
        changes.append({name for name in ("lamp.yaml", "plug.yaml") if name in configurations})

    return DeviceInventory(
        hass,
        core,
        inspector,
        scanned=lambda _changes: None,
        changed=changed,
        macs=lambda _file_name: (),
        announced=lambda _configuration: {},
    )


async def scanning(inventory: DeviceInventory, folder: Path) -> tuple[SlowScanner, asyncio.Task]:
    """Start to follow a folder whose scans wait; returns during the first one."""
    scanner = SlowScanner(folder)
    with patch(f"{ConfigurationFolder.__module__}.Scanner", lambda _folder, _inspector: scanner):
        start = asyncio.create_task(inventory.async_start(folder))
        await scanner.started.wait()
    return scanner, start


async def test_without_a_folder_there_is_nothing_to_read(inventory: DeviceInventory) -> None:
    await inventory.async_start(None)
    await inventory.async_rescan()
    assert not inventory.devices
    assert await inventory.fingerprint("lamp.yaml") is None
    with pytest.raises(LookupError):
        _ = inventory.config_dir


async def test_only_the_devices_that_changed_are_notified(
    inventory: DeviceInventory, config_dir: Path, changes: list[set[str]]
) -> None:
    await inventory.async_start(config_dir)
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    await inventory.async_rescan()
    inventory.match_now()
    (config_dir / "lamp.yaml").unlink()
    await inventory.async_rescan()
    inventory.stop()
    assert changes == [{"lamp.yaml"}, {"plug.yaml"}, {"lamp.yaml"}]


async def test_several_devices_of_a_package_are_not_gone_until_esphome_was_asked(
    hass: HomeAssistant, core: CoreEsphome, inspector: ScriptedInspector, config_dir: Path
) -> None:
    inspector.version = "2026.10.0"
    inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml", node_name="lamp", platform="host", adds_mac_suffix=True, reads=("lamp.yaml",)
    )
    target = target_id("lamp.yaml", MAC)
    gone: list[bool] = []

    def make() -> DeviceInventory:
        made = DeviceInventory(
            hass,
            core,
            inspector,
            scanned=lambda _changes: None,
            changed=lambda _targets: gone.append(made.is_gone(target)),
            macs=lambda _file_name: (),
            announced=lambda configuration: (
                {MAC: "lamp-001122"} if configuration.adds_mac_suffix else {}
            ),
        )
        return made

    packaged = LAMP + "packages: {base: !include base.yaml}\n"
    (config_dir / "lamp.yaml").write_text(packaged)
    inventory = make()
    # Never asked before: the text alone says that there is one.
    await inventory.async_start(config_dir)
    assert inventory.devices.keys() == {"lamp.yaml"}
    await inventory.async_rescan()
    assert inventory.devices.keys() == {target}
    inventory.stop()
    inspector.silent = True
    (config_dir / "lamp.yaml").write_text(packaged + "# changed\n")
    restarted = make()
    await restarted.async_start(config_dir)
    await restarted.async_rescan()
    assert restarted.devices.keys() == {target}
    assert not any(gone)
    inspector.silent = False
    del inspector.answers["lamp.yaml"]
    (config_dir / "lamp.yaml").write_text(LAMP + "# one\n")
    restarted.stop()
    last = make()
    await last.async_start(config_dir)
    assert not last.is_gone(target)
    gone.clear()
    await last.async_rescan()
    assert gone == [True]
    last.stop()


async def test_a_device_that_a_broken_package_hides_is_there_after_a_restart(
    hass: HomeAssistant,
    core: CoreEsphome,
    inspector: ScriptedInspector,
    inventory: DeviceInventory,
    config_dir: Path,
) -> None:
    inspector.version = "2026.10.0"
    await inventory.async_start(config_dir)
    (config_dir / "lamp.yaml").write_text("packages: [!include base.yaml]\n")
    fault = Fault("base.yaml", Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": "base.yaml"}))
    inspector.answers["lamp.yaml"] = Answer("lamp.yaml", faults=(fault,), reads=("lamp.yaml",))
    await inventory.async_rescan()
    before = dict(inventory.devices)
    assert before.keys() == {"lamp.yaml"}
    inventory.stop()

    restarted = DeviceInventory(
        hass,
        core,
        inspector,
        scanned=lambda _changes: None,
        changed=lambda _configurations: None,
        macs=lambda _file_name: (),
        announced=lambda _configuration: {},
    )
    await restarted.async_start(config_dir)
    await restarted.async_rescan()

    assert restarted.devices == before
    assert restarted.known_files == {"lamp.yaml", "base.yaml"}
    restarted.stop()


async def test_a_slow_folder_is_never_scanned_twice_at_a_time(
    hass: HomeAssistant, inventory: DeviceInventory, config_dir: Path, pass_time: Pass
) -> None:
    scanner, start = await scanning(inventory, config_dir)
    scanner.go_on.set()
    await start
    scanner.go_on.clear()
    scanner.started.clear()
    rescan = asyncio.create_task(inventory.async_rescan())
    await scanner.started.wait()
    await inventory._async_interval(None)
    scanner.go_on.set()
    await rescan
    inventory.stop()
    assert scanner.scans == 2


async def test_the_result_of_a_scan_that_was_stopped_is_ignored(
    core: CoreEsphome, inventory: DeviceInventory, config_dir: Path, changes: list[set[str]]
) -> None:
    scanner, start = await scanning(inventory, config_dir)
    inventory.stop()
    scanner.go_on.set()
    await start
    assert not core._listeners
    assert not inventory.devices
    assert not changes


async def test_the_result_of_a_scan_of_the_former_folder_is_ignored(
    core: CoreEsphome, inventory: DeviceInventory, config_dir: Path, tmp_path: Path
) -> None:
    scanner, start = await scanning(inventory, config_dir)
    other = tmp_path / "other"
    other.mkdir()
    (other / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    second = asyncio.create_task(inventory.async_start(other))
    await asyncio.sleep(0)
    scanner.go_on.set()
    await asyncio.gather(start, second)
    inventory.stop()
    assert not core._listeners
    assert set(inventory.devices) == {"plug.yaml"}
