"""The pages of an offloader and of its builder, in a real browser: pairing, and builds for a guest."""

from collections.abc import AsyncIterator
import re

from playwright.async_api import Browser, expect
import pytest
import pytest_asyncio

from ..harness.browser import DESK, PHONE, Screen, needs_chromium, open_browser, open_screen
from ..harness.builder import Builder
from ..harness.jobs import job_now
from ..harness.pair import Pair
from ..harness.relay import Relay
from ..harness.steps import STEPS, Task
from ..harness.texts import page_text, text
from .checks import Talking

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    needs_chromium,
]


@pytest_asyncio.fixture(loop_scope="session")
async def browser(pair: Pair[Builder]) -> AsyncIterator[Browser]:
    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def screen(pair: Pair[Builder], browser: Browser) -> AsyncIterator[Screen]:
    """Return a window of the builder's owner, with the builders."""
    async with open_screen(browser, pair.builder.client, DESK) as screen:
        await screen.open("devices")
        await screen.go_to("builders")
        yield screen


@pytest_asyncio.fixture(loop_scope="session")
async def strangers(pair: Pair[Builder], relay: Relay) -> AsyncIterator[Pair[Builder]]:
    """Return two that are not paired and accept no builds; they are paired again in the end."""
    await pair.offloader.client.remove_entry(pair.entry_id)
    for guest in await pair.builder.guests():
        await pair.builder.remove_guest(guest)
    await pair.builder.accept_builds(accept=False)
    yield pair
    await pair.builder.accept_builds()
    if not await pair.find_again():
        await pair.introduce(relay.url)


async def test_two_are_paired_by_mouse(
    strangers: Pair[Builder], relay: Relay, browser: Browser, screen: Screen
) -> None:
    accept = screen.main.get_by_role("switch", name=page_text("guests.accept"))
    await screen.click(accept)
    await screen.click(screen.main.get_by_role("button", name=page_text("guests.show_code")))
    shown = screen.main.get_by_text(re.compile(r"^\d{4} \d{4}$"))
    await expect(shown).to_be_visible()
    await screen.assert_usable()
    code = await shown.inner_text()

    async with open_screen(browser, strangers.offloader.client, PHONE) as other:
        page = other.page
        await other.open("devices")
        await other.go_to("builders")
        await other.click(other.main.get_by_role("link", name=page_text("builders.add")))
        await other.click(page.get_by_role("button", name="OK", exact=True))
        for step, field, content in (("pair", "url", relay.url), ("code", "code", code)):
            label = text(f"config.step.{step}.data.{field}")
            await other.fill(page.get_by_role("textbox", name=re.compile(f"^{label}")), content)
            await other.click(page.get_by_role("button", name="Submit", exact=True))
        await expect(page.get_by_role("button", name=re.compile("[Ff]inish"))).to_be_visible()
        assert screen.steps + other.steps == STEPS[Task.PAIR].ours
        await other.open("builders")
        builder = other.main.get_by_role("listitem").filter(has_text=strangers.builder.name)
        await expect(builder).to_contain_text(page_text("builders.ready"))
        await other.assert_usable()

    await expect(screen.main.get_by_role("heading", name="offloader")).to_be_visible()
    await expect(shown).to_be_hidden()


async def test_the_owner_of_a_builder_sees_and_stops_a_build(
    pair: Pair[Builder], screen: Screen, compiling: Talking
) -> None:
    pair.offloader.device.configure()  # what is built again elsewhere does not talk
    rows = screen.main.get_by_role("listitem").filter(has_text=pair.offloader.device.configuration)
    build = rows.filter(has_text=page_text("attempt.compiling")).last
    await expect(build).to_be_visible()
    await screen.assert_usable()
    accept = screen.main.get_by_role("switch", name=page_text("guests.accept"))
    await accept.click()
    await expect(screen.main.get_by_text(page_text("guests.off"))).to_be_visible()
    assert (await job_now(pair.offloader.client, compiling.job_id))["source"] == "remote"

    await build.get_by_role("link", name=re.compile(f"^{page_text('log.open')}")).click()
    await expect(screen.main.get_by_role("log")).to_contain_text("still talking")
    await screen.assert_usable()
    await screen.main.get_by_role("button", name=page_text("guests.stop"), exact=True).click()
    await screen.shows("attempt.cancelled")
    assert not pair.builder.compilers()
