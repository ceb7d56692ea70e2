"""Two devices of one configuration whose names end in a part of their MAC addresses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .harness.device import FIRST_VERSION, NEW_VERSION
from .harness.jobs import DOMAIN, follow, output
from .harness.offloader import Offloader
from .harness.siblings import Sibling
from .harness.waiting import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def siblings(offloader: Offloader, workspace: Path) -> AsyncIterator[tuple[Sibling, Sibling]]:
    """Return two devices on their first version, which Home Assistant knows."""
    folder, config_dir = workspace / "siblings", offloader.instance.esphome
    siblings = Sibling(1, folder, config_dir), Sibling(2, folder, config_dir)
    entries = []
    for sibling in siblings:
        await sibling.flash(FIRST_VERSION)
        await sibling.switch_on()
        where = {"host": sibling.address, "port": sibling.api_port}
        entries.append((await offloader.client.add_entry("esphome", where))["entry_id"])
    yield siblings
    for entry_id, sibling in zip(entries, siblings, strict=True):
        await offloader.client.remove_entry(entry_id)
        await sibling.switch_off()
    siblings[0].yaml.unlink()


async def test_both_are_flashed_from_one_configuration_and_have_versions_of_their_own(
    offloader: Offloader, siblings: tuple[Sibling, Sibling]
) -> None:
    client = offloader.client
    first, second = [await offloader.entity(sibling.target) for sibling in siblings]

    async def version(entity_id: str) -> str | None:
        found: str | None = (await client.state(entity_id))["attributes"]["installed_version"]
        return found

    for entity_id in (first, second):
        assert await version(entity_id) == FIRST_VERSION

    target = {"entity_id": [first, second]}
    data = {"version": NEW_VERSION}
    answer = await client.service(f"{DOMAIN}.install", target, data, response=True)
    started = answer["jobs"]
    assert {job["entity_id"] for job in started} == {first, second}
    jobs = await asyncio.gather(*(follow(client, job["job_id"]) for job in started))

    for job, sibling in zip(jobs, siblings, strict=True):
        assert job["status"] == "completed", job["error"]
        assert job["verified"] is True
        assert job["device_name"] == sibling.node_name
    compiled = [
        sum("] CXX " in line for line in await output(client, job["job_id"])) for job in jobs
    ]
    assert min(compiled) == 0 < max(compiled)
    assert len({sibling.firmware_sha256() for sibling in siblings}) == 1
    for entity_id in (first, second):
        assert await version(entity_id) == NEW_VERSION

    # Somebody else puts the old firmware on one of them.
    await siblings[1].switch_off()
    await siblings[1].flash(FIRST_VERSION)
    await siblings[1].switch_on()

    async def went_back() -> bool:
        return await version(second) == FIRST_VERSION

    await until(went_back, "the old firmware to be noticed", PATIENCE)
    assert await version(first) == NEW_VERSION
