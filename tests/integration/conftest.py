"""A real Home Assistant core with the real coordinator and scripted build services."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from aiohttp.test_utils import TestClient
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.esphome_offload.const import DOMAIN, INSTANCE_UNIQUE_ID
from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.compiler_cache import CompilerCaches
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
)
from custom_components.esphome_offload.engine.build.services import (
    BuildServices,
    GuestBuildServices,
)
from custom_components.esphome_offload.engine.build.slots import Slots
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    Release,
    VersionError,
    series,
)
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.lending.guest_devices import is_instance

from ..engine.devices.folder import ScriptedInspector
from ..engine.jobs.fakes import (
    BUILD_INFO,
    Block,
    ScriptedBuilder,
    ScriptedFlasher,
    ScriptedKeeper,
    ScriptedOrigins,
)
from .guest_build_services import GuestBuildServicesMaker
from .guest_client import OffloaderClient
from .scripted_peers import ScriptedPeers

NEWEST = "2026.10.0"
NEWEST_PRERELEASE = "2026.11.0b1"
LEND = {"accept_builds": True, "parallel_builds": 2, "lend_disk_gib": 30}

LAMP = """
esphome:
  name: lamp
  friendly_name: Desk lamp
host:
"""


type Pass = Callable[[float], Awaitable[None]]


@dataclass
class ScriptedVersions:
    """Versions without a network; with ``error``, every question fails with it."""

    newest_stable: str = NEWEST
    newest_prerelease: str = NEWEST_PRERELEASE
    error: VersionError | None = None
    unknown: dict[str, VersionError] = field(default_factory=dict)
    asked: list[bool] = field(default_factory=list)
    former: tuple[str, ...] = ()
    """Of the release series before, newest first."""
    uploaded_at: dict[str, datetime] = field(default_factory=dict)

    async def newest(self, *, prerelease: bool) -> Release:
        self.asked.append(prerelease)
        if self.error is not None:
            raise self.error
        return self._release(self.newest_prerelease if prerelease else self.newest_stable)

    async def newest_before(self, version: str) -> Release:
        for each in self.former:
            if series(each) < series(version):
                return self._release(each)
        raise VersionError(Reason(ReasonKey.NEWEST_UNCHECKED))

    def _release(self, version: str) -> Release:
        return Release(version, self.uploaded_at.get(version))

    async def check(self, version: str) -> None:
        if (error := self.unknown.get(version)) is not None:
            raise error


class ScriptedToolchains:
    def installed(self) -> tuple[str, ...]:
        return (NEWEST,)


@dataclass
class ScriptedConfigHashes:
    """Answers with what ``hashes`` has, else with the hash that scripted builds have."""

    hashes: dict[str, int | None] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    while_asked: Callable[[], None] | None = None
    portable: bool = True

    def can_tell(self, esphome_version: str) -> bool:
        return esphome_version == NEWEST

    async def calculate(
        self,
        configuration: str,
        config_dir: Path,
        esphome_version: str,
        time_zone: str,
        *,
        for_job: bool = False,
    ) -> int | None:
        self.asked.append((configuration, esphome_version))
        answer = self.hashes.get(configuration, BUILD_INFO.config_hash)
        if self.while_asked is not None:
            self.while_asked()
        return answer

    async def is_portable(self, *question: object) -> bool:
        return self.portable


@dataclass
class Stage:
    """Scripted build services, and the calls of the coordinator to them."""

    builder: ScriptedBuilder
    flasher: ScriptedFlasher
    firmware: ScriptedKeeper
    versions: ScriptedVersions
    layout: CacheLayout
    peers: ScriptedPeers
    containment: ContainmentHere = field(
        default_factory=lambda: ContainmentHere(Degree.CONTAINED, 7, "6.16", "x86_64")
    )
    guests: GuestBuildServicesMaker = field(default_factory=GuestBuildServicesMaker)
    origins: ScriptedOrigins = field(default_factory=ScriptedOrigins)
    toolchains: ScriptedToolchains = field(default_factory=ScriptedToolchains)
    config_hashes: ScriptedConfigHashes = field(default_factory=ScriptedConfigHashes)
    compiler_caches: CompilerCaches = field(default_factory=CompilerCaches)
    bundles: None = None
    processes: None = None
    inspector: ScriptedInspector = field(default_factory=lambda: ScriptedInspector(NEWEST))
    identities: dict[str, DeviceIdentity] = field(default_factory=dict)
    """What devices say that are asked at an address."""
    closed: int = 0
    prunings: list[Collection[str] | None] = field(default_factory=list)
    """With the configurations that were known each time."""

    apply = BuildServices.apply

    async def identity(self, address: str, _port: int) -> DeviceIdentity | None:
        return self.identities.get(address)

    async def start(self) -> None:
        """End nothing: no process was started."""

    async def start_blocked(
        self, coordinator: OffloadCoordinator, operation: Operation = Operation.INSTALL
    ) -> tuple[FirmwareJob, Block]:
        """Return a job whose build has started and waits, and what it waits for."""
        block = Block()
        self.builder.script = [block]
        job = await coordinator.async_submit("lamp.yaml", operation)
        await block.entered.wait()
        return job, block

    async def make_guest(self, layout: CacheLayout) -> GuestBuildServices:
        return await self.guests.make(layout)

    async def make_room(self, known: Collection[str] | None) -> None:
        self.prunings.append(known)

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def _custom_integrations(enable_custom_integrations: None) -> None:
    """Let Home Assistant load this integration."""


@contextmanager
def scripted_stage(folder: Path) -> Generator[Stage]:
    """Replace the build services by scripted ones, with a cache in ``folder``."""
    keeper = ScriptedKeeper()
    builder = ScriptedBuilder(keeper=keeper)
    builder.slots = Slots()
    stage = Stage(
        builder,
        ScriptedFlasher(),
        keeper,
        ScriptedVersions(),
        CacheLayout(folder / "cache"),
        ScriptedPeers(keeper),
    )
    package = "custom_components.esphome_offload"
    with (
        patch(f"{package}.BuildServices", lambda *_: stage),
        patch(f"{package}.coordinator.EsphomeInspector", lambda *_: stage.inspector),
        patch(f"{package}.inventory.network_probe.ask_identity", stage.identity),
        patch(f"{package}.peering.peers.PeerLink", stage.peers.link),
        patch(f"{package}.peering.peers.PeerBuilder", stage.peers.make),
    ):
        yield stage


@pytest.fixture
def stage(tmp_path: Path) -> Generator[Stage]:
    """Return the scripted build services."""
    with scripted_stage(tmp_path) as stage:
        yield stage


@pytest.fixture
def config_dir(hass: HomeAssistant, tmp_path: Path) -> Path:
    """Return ESPHome's folder with one configuration; Home Assistant's own is beside it."""
    hass.config.config_dir = str(tmp_path / "config")
    folder = tmp_path / "config" / "esphome"
    folder.mkdir(parents=True)
    # Which Home Assistant makes before it starts.
    (folder.parent / ".storage").mkdir()
    (folder / "lamp.yaml").write_text(LAMP)
    # Without it, a folder whose last configuration is removed is like a share that is not mounted.
    (folder / "secrets.yaml").write_text("")
    return folder


@pytest.fixture
def entry(hass: HomeAssistant, config_dir: Path) -> MockConfigEntry:
    """Return the entry "this instance", added but not set up."""
    entry = MockConfigEntry(
        domain=DOMAIN,
        unique_id=INSTANCE_UNIQUE_ID,
        title="This instance",
        data={"kind": "instance", "config_dir": "esphome"},
    )
    entry.add_to_hass(hass)
    return entry


@pytest.fixture
async def coordinator(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry
) -> OffloadCoordinator:
    """Return the coordinator of an instance that is set up."""
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    return hass.data[DATA_COORDINATOR]


@pytest.fixture
async def lent(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> AsyncGenerator[OffloadCoordinator]:
    """Return the coordinator of an instance that lends itself."""
    # Before the first client: afterwards no more views can be added.
    assert await async_setup_component(hass, "config", {})
    hass.config_entries.async_update_entry(entry, options=LEND)
    await hass.async_block_till_done()
    assert coordinator.lender.lending is Lending.ON
    yield coordinator
    await coordinator.lender.async_stop()


@pytest.fixture
async def client(hass_client_no_auth: ClientSessionGenerator) -> TestClient:
    """Return an HTTP client of Home Assistant."""
    return await hass_client_no_auth()


@pytest.fixture
async def offloader(
    lent: OffloadCoordinator, client: TestClient, tmp_path: Path
) -> OffloaderClient:
    """Return a paired offloader."""
    offloader = OffloaderClient(client, tmp_path)
    await offloader.pair(lent.lender.open_window().code)
    return offloader


async def until_waiting(coordinator: OffloadCoordinator, job: FirmwareJob) -> None:
    """Return when a job says what it waits for."""
    waits = asyncio.Event()
    unsubscribe = coordinator.queue.subscribe(
        job.job_id, lambda _event, job: job.waiting_for is not None and waits.set()
    )
    if job.waiting_for is None:
        await waits.wait()
    unsubscribe()


def devices_of(hass: HomeAssistant, entry: MockConfigEntry) -> list[dr.DeviceEntry]:
    """Return the devices of an entry, without the one that stands for the instance itself."""
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    return [device for device in devices if not is_instance(device)]


@pytest.fixture
def pass_time(hass: HomeAssistant) -> Pass:
    """Return a function that makes everything due within so many seconds happen now."""

    async def pass_time(seconds: float) -> None:
        async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=seconds))
        await hass.async_block_till_done(wait_background_tasks=True)

    return pass_time
