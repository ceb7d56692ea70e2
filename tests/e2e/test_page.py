"""The sidebar page in a real browser, on a phone and on a desk."""

from collections.abc import AsyncIterator
import re

from playwright.async_api import Browser, expect
import pytest
import pytest_asyncio

from .harness.browser import DESK, PHONE, Screen, find_chromium, open_browser, open_screen
from .harness.device import NEW_VERSION
from .harness.jobs import job_now, output
from .harness.offloader import Offloader
from .harness.scripted import Part, go_on
from .harness.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(
        find_chromium() is None, reason="there is no Chromium: install Debian's package chromium"
    ),
]

expect.set_options(timeout=120_000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(opened_offloader: Offloader) -> AsyncIterator[Browser]:
    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session", params=[PHONE], ids=["phone"])
async def screen(
    request: pytest.FixtureRequest, offloader: Offloader, browser: Browser
) -> AsyncIterator[Screen]:
    """Return a logged-in window, in whose console nothing may go wrong."""
    async with open_screen(browser, offloader.client, request.param) as screen:
        yield screen
        assert screen.errors == []


async def lines(screen: Screen) -> list[str]:
    """Return the lines of the log that is open."""
    shown: list[str] = await screen.page.locator("esphome-offload-log-lines").evaluate(
        "element => element.lines"
    )
    return shown


@pytest.mark.parametrize("screen", [PHONE, DESK], ids=["phone", "desk"], indirect=True)
@pytest.mark.parametrize("section", ["devices", "jobs", "builders"])
async def test_each_part_is_accessible_and_fits(screen: Screen, section: str) -> None:
    await screen.open(section)
    await expect(screen.page.locator(f"esphome-offload-{section}")).to_be_visible()
    await expect(screen.page.get_by_role("navigation", name="Sections")).to_be_visible()
    assert await screen.serious_findings() == []
    assert not await screen.overflows()


async def test_an_install_is_started_watched_and_found_again(
    screen: Screen, offloader: Offloader
) -> None:
    sign = offloader.device.play(Part.TALK)
    page = screen.page
    await screen.open("devices")
    await page.get_by_role("button", name=re.compile("^Install")).click()

    await expect(page).to_have_url(re.compile(r"/esphome-offload/job/[0-9a-f]{32}$"))
    log = page.get_by_role("log")
    await expect(log).to_contain_text("still talking")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    before = len(await lines(screen))

    async def grown() -> bool:
        return len(await lines(screen)) > before + 2

    await until(grown, "more lines")
    go_on(offloader.instance.offload_cache, sign)
    await expect(page.locator(".head .badge")).to_have_text("Completed")
    await expect(log).to_contain_text("== completed")

    shown = await lines(screen)
    assert shown.count("== uploading") == 1
    await page.reload()
    await expect(log).to_contain_text("== completed")
    assert await lines(screen) == shown, "a finished job reads the same"
    await page.get_by_role("link", name="Jobs").click()
    row = page.locator("esphome-offload-job-row").first
    await expect(row).to_contain_text(NEW_VERSION)
    await expect(row).to_contain_text("Completed")


async def test_an_install_is_cancelled_from_its_log(
    screen: Screen, offloader: Offloader, compiling: str
) -> None:
    await screen.open(f"job/{compiling}")
    await screen.page.get_by_role("button", name="Cancel").click()
    await expect(screen.page.locator(".head .badge")).to_have_text("Cancelled")
    assert (await job_now(offloader.client, compiling))["status"] == "cancelled"


async def test_a_failure_is_explained_and_tried_again(screen: Screen, offloader: Offloader) -> None:
    page = screen.page
    device = offloader.device
    device.components = "number:\n  - platform: template\n    name: Incomplete\n"
    device.configure()
    await screen.open("devices")
    await page.get_by_role("button", name=re.compile("^Install")).click()
    await expect(page.locator(".head .badge")).to_have_text("Failed")
    await expect(page.get_by_role("alert")).to_contain_text("number.template")

    device.components = ""
    device.configure()
    await page.get_by_role("button", name="Retry").click()
    await expect(page.locator(".head .badge")).to_have_text("Completed")


async def test_a_changed_file_shows_and_is_installed(
    screen: Screen, offloader: Offloader, entity: str
) -> None:
    page = screen.page
    await screen.open("devices")
    await expect(page.locator("esphome-offload-devices")).to_be_visible()
    offloader.device.configure(greeting="seen on the page")
    await expect(page.get_by_text("Configuration changed")).to_be_visible()
    await page.get_by_role("button", name="Install", exact=True).click()
    await expect(page.locator(".head .badge")).to_have_text("Completed")
    await offloader.device_says("seen on the page")
    await page.get_by_role("link", name="Devices").click()
    await expect(page.get_by_text("Configuration changed")).to_be_hidden()


async def test_a_lost_connection_loses_and_doubles_no_line(
    screen: Screen, offloader: Offloader
) -> None:
    sign = offloader.device.play(Part.TALK)
    page = screen.page
    await screen.open("devices")
    await page.get_by_role("button", name=re.compile("^Install")).click()
    log = page.get_by_role("log")
    await expect(log).to_contain_text("still talking")
    # What a phone does that was asleep; the second time while the first answers are awaited.
    await page.evaluate(
        """() => {
          const connection = document.querySelector('home-assistant').hass.connection;
          const again = () => {
            connection.removeEventListener('ready', again);
            connection.reconnect(true);
          };
          connection.addEventListener('ready', again);
          connection.reconnect(true);
        }"""
    )
    go_on(offloader.instance.offload_cache, sign)
    await expect(log).to_contain_text("== completed")
    job_id = page.url.rpartition("/")[2]
    kept = await output(offloader.client, job_id)

    async def complete() -> bool:
        return await lines(screen) == kept

    await until(complete, "all lines, once each")
