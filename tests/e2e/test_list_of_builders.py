"""Builders that were given the pin of an offloader: a list of addresses, and no code."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from .harness.jobs import DOMAIN
from .harness.offloader import Offloader
from .harness.standalone import StandaloneBuilder
from .harness.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FLOW = "config/config_entries/flow"


@pytest_asyncio.fixture(loop_scope="session")
async def builders(workspace: Path) -> AsyncIterator[list[StandaloneBuilder]]:
    """Two that are not started yet; each has a data folder of its own."""
    folders = [workspace.with_name(f"{workspace.name}-{name}") for name in ("attic", "cellar")]
    builders = [StandaloneBuilder(each, name=each.name.rpartition("-")[2]) for each in folders]
    attic, cellar = builders
    cellar.environment = attic.environment
    async with AsyncExitStack() as stack:
        for each in builders:
            each.folder.mkdir(exist_ok=True)
            each.reset()
            stack.push_async_callback(each.close)
        await attic.environment.make()
        yield builders


async def test_two_builders_are_added_without_a_code(
    offloader: Offloader, builders: list[StandaloneBuilder]
) -> None:
    client = offloader.client
    form = await client.post(FLOW, {"handler": DOMAIN})
    pin = form["description_placeholders"]["pin"]
    for each in builders:
        await each.start("--uncontained", "--guest", pin)
    attic, cellar = builders
    lines = f"{attic.url}\n{cellar.url} {cellar.identity.pin_sha256}"
    listed = await client.post(f"{FLOW}/{form['flow_id']}", {"url": lines, "verify_ssl": True})
    assert listed["step_id"] == "several"
    assert attic.identity.pin_sha256 in listed["description_placeholders"]["knowing"]
    done = await client.post(f"{FLOW}/{form['flow_id']}", {})
    assert done["type"] == "create_entry"

    async def connected() -> bool:
        return all([(await each.json("status"))["guests"] for each in builders])

    await until(connected, "both builders to know their guest")
    entries = await client.get("config/config_entries/entry")
    peers = [each for each in entries if each["title"] in ("attic", "cellar")]
    assert len(peers) == 2
    for each in peers:
        await client.remove_entry(each["entry_id"])
