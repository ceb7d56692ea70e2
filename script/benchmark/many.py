"""Home Assistant with many devices and kept jobs, in a process of its own.

``python -m script.benchmark.many FOLDER COUNT``. The core and this integration are real; builds,
what inspects configurations, and the connections of core's esphome to its devices are the
stand-ins of the tests. Prints one JSON object: the seconds that set-up takes, and for each of
several changes the milliseconds for which the longest callback computed.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
import json
import logging
from pathlib import Path
import sys
import time

from aioesphomeapi import DeviceInfo
from homeassistant import loader
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_test_home_assistant,
)

from custom_components.esphome_offload.const import DOMAIN, INSTANCE_UNIQUE_ID
from custom_components.esphome_offload.coordinator import DATA_COORDINATOR
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.stores.storage import job_journal
from script.loop_probe import LongestCallback
from tests.e2e.harness.waiting import until
from tests.engine.jobs.fakes import request
from tests.integration.conftest import scripted_stage
from tests.integration.core_esphome import Core, info

# What follows a change of core's devices comes a moment later.
_MOMENT = 0.5


class _Client:
    """What stands in for core's connection to a device."""

    connected_address = "192.0.2.7"

    async def disconnect(self) -> None:
        """Do nothing."""


class _Stalls:
    """The longest callback of each part, in ms of CPU."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        with LongestCallback() as longest:
            yield
        self.ms[what] = round(longest.seconds * 1000, 1)


def _mac(number: int) -> str:
    return f"AA:BB:CC:00:{number // 256:02X}:{number % 256:02X}"


async def _prepare(hass: HomeAssistant, core: Core, count: int) -> list[MockConfigEntry]:
    """Make the configurations, core's devices and the kept jobs."""
    folder = Path(hass.config.config_dir) / "esphome"
    folder.mkdir(parents=True)
    entries = []
    journal = job_journal(hass)
    for number in range(count):
        name = f"room{number}"
        (folder / f"{name}.yaml").write_text(f"esphome:\n  name: {name}\nhost:\n")
        entry = core.entry(name, _mac(number))
        core.registered(entry, _mac(number))
        core.connect(entry, _info(entry, number))
        entries.append(entry)
        job = FirmwareJob(new_id(), request(f"{name}.yaml"), datetime.now(UTC))
        job.cancel(datetime.now(UTC))
        journal.save_soon(job)
    await journal.aclose()
    await hass.async_block_till_done()
    return entries


def _info(entry: MockConfigEntry, number: int) -> DeviceInfo:
    device: DeviceInfo = info(entry.data["device_name"], _mac(number), esphome_version="2026.9.0")
    return device


async def _settle(hass: HomeAssistant) -> None:
    await asyncio.sleep(_MOMENT)
    await hass.async_block_till_done(wait_background_tasks=True)


async def main(folder: Path, count: int) -> None:
    """Measure."""
    logging.disable(logging.INFO)
    stalls = _Stalls()
    with scripted_stage(folder) as stage:
        async with async_test_home_assistant(config_dir=str(folder / "config")) as hass:
            asyncio.get_running_loop().set_debug(False)
            hass.data.pop(loader.DATA_CUSTOM_COMPONENTS)
            core = Core(hass, _Client)
            devices = await _prepare(hass, core, count)
            ours = MockConfigEntry(
                domain=DOMAIN,
                unique_id=INSTANCE_UNIQUE_ID,
                title="This instance",
                data={"kind": "instance", "config_dir": "esphome"},
            )
            ours.add_to_hass(hass)
            began = time.perf_counter()
            with stalls.during("set-up"):
                assert await hass.config_entries.async_setup(ours.entry_id)
                seconds = time.perf_counter() - began
                await _settle(hass)
            coordinator = hass.data[DATA_COORDINATOR]
            assert len(coordinator.devices) == count
            assert len(coordinator.queue.jobs()) == count

            with stalls.during("a new version"):
                stage.versions.newest_stable = "2026.10.1"
                await coordinator.versions.async_refresh()
                await _settle(hass)
            with stalls.during("all devices away"):
                for entry in devices:
                    core.disconnect(entry)
                    await asyncio.sleep(0)
                await _settle(hass)
            with stalls.during("all devices back"):
                for number, entry in enumerate(devices):
                    core.connect(entry, _info(entry, number))
                    await asyncio.sleep(0)
                await _settle(hass)
            with stalls.during("one device away"):
                core.disconnect(devices[0])
                await _settle(hass)
            coordinator.queue.hold()
            updates = hass.states.async_entity_ids("update")
            assert len(updates) == count

            async def all_queued() -> bool:
                return sum(not job.terminal for job in coordinator.queue.jobs()) == count

            with stalls.during("all of them updated"):
                install = asyncio.create_task(
                    hass.services.async_call(
                        "update", "install", {"entity_id": updates}, blocking=True
                    )
                )
                await until(all_queued, "a job for each device", 120.0)
                # Home Assistant would wait for the installs.
                await asyncio.sleep(_MOMENT)
            with stalls.during("all jobs cancelled"):
                await coordinator.queue.cancel_all()
                with suppress(HomeAssistantError):
                    await install
                await _settle(hass)
            entities = len(hass.states.async_all())
            await hass.async_stop(force=True)
    print(json.dumps({"setup_s": round(seconds, 3), "entities": entities, "stalls_ms": stalls.ms}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).absolute(), int(sys.argv[2])))
