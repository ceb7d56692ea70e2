"""The sidebar page in a real browser, on a phone and on a desk."""

from collections.abc import AsyncIterator
from pathlib import Path
import re
import time

from playwright.async_api import Browser, Locator, expect
import pytest
import pytest_asyncio

from .harness.browser import DESK, PHONE, Screen, needs_chromium, open_browser, open_screen
from .harness.device import NEW_VERSION
from .harness.jobs import all_jobs, cancel_all, follow, in_stage, job_now, output, reach, submit
from .harness.offloader import Offloader
from .harness.scripted import Part, go_on
from .harness.steps import STEPS, Task
from .harness.texts import page_text, text
from .harness.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    needs_chromium,
]

DEVICE = "Kitchen"
on_a_phone = pytest.mark.parametrize("screen", [PHONE], ids=["phone"], indirect=True)
on_a_desk = pytest.mark.parametrize("screen", [DESK], ids=["desk"], indirect=True)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(opened_offloader: Offloader) -> AsyncIterator[Browser]:
    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session", params=[PHONE, DESK], ids=["phone", "desk"])
async def screen(
    request: pytest.FixtureRequest, offloader: Offloader, browser: Browser
) -> AsyncIterator[Screen]:
    """Return a window with the devices."""
    async with open_screen(browser, offloader.client, request.param) as screen:
        await screen.open("devices")
        await expect(screen.device(DEVICE)).to_be_visible()
        yield screen


def install_button(screen: Screen) -> Locator:
    """Return the button of the device, whether it has an update or not."""
    names = (page_text("devices.install"), page_text("devices.install_again"))
    name = re.compile(f"^({'|'.join(names)}) {DEVICE}$")
    return screen.device(DEVICE).get_by_role("button", name=name)


def add_attic(offloader: Offloader) -> Path:
    """Add a second device, which is never built, and return its file."""
    attic = offloader.device.yaml.with_name("attic.yaml")
    attic.write_text(
        "esphome:\n  name: attic\n  friendly_name: Attic\nhost:\nota:\n  platform: esphome\n"
    )
    return attic


async def lines(screen: Screen) -> list[str]:
    """Return the lines of the log that is open."""
    shown: list[str] = await screen.page.locator("esphome-offload-log-lines").evaluate(
        "element => element.lines"
    )
    return shown


async def until_at_the_end(screen: Screen) -> None:
    """Wait until the end of the log that is open is in sight in its box."""

    async def at_the_end() -> bool:
        left: float = await screen.page.get_by_role("log").evaluate(
            "box => box.scrollHeight - box.scrollTop - box.clientHeight"
        )
        return left < 2

    await until(at_the_end, "the end of the log in sight")


@pytest.mark.next
async def test_an_install_is_started_watched_and_found_again(
    screen: Screen, offloader: Offloader
) -> None:
    sign = offloader.device.play(Part.TALK)
    page = screen.page
    await screen.click(install_button(screen))
    assert screen.steps == STEPS[Task.INSTALL].ours

    log = page.get_by_role("log")
    await expect(log).to_contain_text("still talking")
    assert screen.steps - STEPS[Task.INSTALL].ours == STEPS[Task.LOG].ours
    await expect(page).to_have_url(re.compile(r"/esphome-offload/job/[0-9a-f]{32}$"))
    await screen.shows("log.live")
    before = len(await lines(screen))

    async def grown() -> bool:
        return len(await lines(screen)) > before + 2

    await until(grown, "more lines")
    await screen.assert_usable()
    go_on(offloader.instance.offload_cache, sign)
    await screen.shows("status.completed")
    await expect(log).to_contain_text("== completed")

    # Nothing more comes that would be followed.
    await page.get_by_text(page_text("why_builder")).click()
    await until_at_the_end(screen)
    shown = await lines(screen)
    assert shown.count("== uploading") == 1
    await page.reload()
    await expect(log).to_contain_text("== completed")
    assert await lines(screen) == shown, "a finished job reads the same"
    await screen.go_to("jobs")
    row = page.locator("esphome-offload-job-row").first
    await expect(row).to_contain_text(NEW_VERSION)
    await expect(row).to_contain_text(page_text("status.completed"))
    await screen.assert_usable()


@on_a_phone
async def test_an_install_is_cancelled_from_its_log(screen: Screen, offloader: Offloader) -> None:
    offloader.device.play(Part.TALK)
    await install_button(screen).click()
    await expect(screen.page.get_by_role("log")).to_contain_text("still talking")
    await screen.click(screen.main.get_by_role("button", name=page_text("cancel"), exact=True))
    await screen.shows("status.cancelled")
    assert screen.steps == STEPS[Task.CANCEL].ours
    job_id = screen.page.url.rpartition("/")[2]
    assert (await job_now(offloader.client, job_id))["status"] == "cancelled"


@pytest.mark.next
@on_a_desk
async def test_an_install_is_watched_and_cancelled_by_keyboard_alone(
    screen: Screen, offloader: Offloader
) -> None:
    offloader.device.play(Part.TALK)
    await screen.press(install_button(screen))
    log = screen.page.get_by_role("log")
    await expect(log).to_contain_text("still talking")
    await screen.press(screen.main.get_by_role("button", name=page_text("cancel"), exact=True))
    await screen.shows("status.cancelled")


async def test_a_failure_is_explained_and_tried_again(screen: Screen, offloader: Offloader) -> None:
    page = screen.page
    device = offloader.device
    device.components = "number:\n  - platform: template\n    name: Incomplete\n"
    device.configure()
    try:
        await install_button(screen).click()
        await screen.shows("status.failed")
        await expect(page.get_by_role("alert")).to_contain_text("number.template")
        await screen.assert_usable()
    finally:
        device.components = ""
        device.configure()
    await screen.main.get_by_role("button", name=page_text("retry"), exact=True).click()
    await screen.shows("status.completed")


async def test_a_changed_file_shows_and_is_installed(
    screen: Screen, offloader: Offloader, entity: str
) -> None:
    # What is on the device is known from then on.
    job = await submit(offloader.client, "install", entity)
    assert (await follow(offloader.client, job["job_id"]))["status"] == "completed"
    greeting = f"seen by test {time.monotonic_ns()}"
    changed = screen.device(DEVICE).get_by_text(page_text("devices.changed"))
    offloader.device.configure(greeting=greeting)
    await expect(changed).to_be_visible()
    await screen.assert_usable()
    await screen.click(
        screen.device(DEVICE).get_by_role(
            "button", name=f"{page_text('devices.install')} {DEVICE}", exact=True
        )
    )
    await screen.shows("status.completed")
    assert screen.steps == STEPS[Task.REBUILD].ours
    await offloader.device_says(greeting)
    await screen.go_to("devices")
    await expect(changed).to_be_hidden()


@on_a_phone
async def test_a_lost_connection_loses_and_doubles_no_line(
    screen: Screen, offloader: Offloader
) -> None:
    sign = offloader.device.play(Part.TALK)
    page = screen.page
    await install_button(screen).click()
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


@on_a_phone
async def test_a_command_whose_answer_is_lost_says_so(screen: Screen, offloader: Offloader) -> None:
    before = await all_jobs(offloader.client)
    button = install_button(screen)
    # The command is lost with the connection.
    await button.evaluate(
        """button => {
          const connection = document.querySelector('home-assistant').hass.connection;
          connection.sendMessage = () => {};
          button.click();
          delete connection.sendMessage;
          connection.reconnect(true);
        }"""
    )
    alert = screen.page.get_by_role("alert")
    await expect(alert.get_by_role("paragraph")).to_have_text([page_text("no_answer")])
    await expect(button).to_be_enabled()
    assert await all_jobs(offloader.client) == before


@pytest.mark.next
async def test_each_part_is_accessible_in_the_dark_and_from_right_to_left(
    offloader: Offloader, browser: Browser
) -> None:
    async with open_screen(browser, offloader.client, PHONE, dark=True, language="he") as screen:
        for section in ("builders", "jobs", "devices"):
            await screen.open(section)
            part = screen.page.locator(f"esphome-offload-{section}")
            await expect(part).to_be_visible()
            await expect(part).to_have_css("direction", "rtl")
            await screen.assert_usable()
        more = page_text("devices.more_of", device=DEVICE)
        await screen.page.get_by_role("button", name=more).click()
        await expect(screen.page.get_by_role("menu", name=more)).to_be_visible()
        await screen.assert_usable()
        for dialog in ("devices.choose_build", "devices.show_why", "devices.download"):
            await screen.page.get_by_role("button", name=more).click()
            await screen.page.get_by_role("menuitem", name=page_text(dialog)).click()
            await expect(screen.page.get_by_role("dialog", name=DEVICE)).to_be_visible()
            await screen.assert_usable()
            await screen.page.keyboard.press("Escape")


@on_a_desk
async def test_a_rebuild_in_place_of_a_job_that_waits_is_asked_about_and_is_a_rebuild(
    screen: Screen, offloader: Offloader
) -> None:
    attic, client, page = add_attic(offloader), offloader.client, screen.page
    command, rebuild = "esphome_offload/job/submit", page_text("devices.rebuild")

    async def press_rebuild() -> None:
        more = page_text("devices.more_of", device="Attic")
        await page.get_by_role("button", name=more).click()
        await page.get_by_role("menuitem", name=rebuild).click()

    # Other tests leave room for more.
    await client.change_options(offloader.entry_id, "settings", parallel_builds=1)
    try:
        await expect(screen.device("Attic")).to_be_visible()
        offloader.device.play(Part.TALK)
        kitchen = offloader.device.yaml.name
        builds = await client.call(command, device=kitchen, operation="compile", rebuild=True)
        await reach(client, builds["job"]["job_id"], in_stage("compiling"))
        waits = (await client.call(command, device=attic.name, operation="install"))["job"]
        cancel = f"{page_text('cancel')} Attic"
        await expect(screen.device("Attic").get_by_role("button", name=cancel)).to_be_visible()

        await press_rebuild()
        await expect(page.get_by_role("dialog", name=f"{rebuild} · Attic")).to_be_visible()
        question = page.locator("esphome-offload-device-confirm")
        await expect(question).to_contain_text(
            page_text(
                "confirm.replaces",
                operation=page_text("operation.install"),
                stage=page_text("status.queued"),
            )
        )
        await screen.assert_usable()
        await question.get_by_role("button", name=rebuild).click()
        job_page = re.compile(r"/job/[0-9a-f]{32}$")
        await expect(page).to_have_url(job_page)
        job_id = page.url.rpartition("/")[2]
        assert (await job_now(client, job_id))["rebuild"] is True
        assert (await job_now(client, waits["job_id"]))["failure_reason"] == "superseded"

        # Once more it is the same job: there is nothing to ask.
        await screen.go_to("devices")
        await press_rebuild()
        await expect(page).to_have_url(job_page)
        assert page.url.rpartition("/")[2] == job_id
    finally:
        await cancel_all(client)
        attic.unlink()


@on_a_phone
async def test_the_page_leads_to_the_settings_of_automatic_updates(screen: Screen) -> None:
    page = screen.page
    await page.get_by_role("button", name=page_text("devices.automatic_updates")).click()
    help_ = page.locator("esphome-offload-dialog")
    await expect(help_.get_by_text(page_text("devices.automatic_updates_help"))).to_be_visible()
    await screen.assert_usable()
    await help_.get_by_role("link", name=page_text("welcome.settings")).click()
    await page.get_by_role("button", name="Configure").click()
    menu = text("options.step.init.menu_options.automatic")
    await page.get_by_text(menu, exact=True).click()
    first = text("options.step.automatic.data.automatic_canary")
    await expect(page.get_by_text(first, exact=True).first).to_be_visible()


@on_a_desk
async def test_a_row_moves_only_when_nobody_is_at_it(screen: Screen, offloader: Offloader) -> None:
    attic, page = add_attic(offloader), screen.page
    names = page.get_by_role("list", name=page_text("tab.devices"), exact=True).get_by_role(
        "heading"
    )
    more = screen.device(DEVICE).get_by_role(
        "button", name=page_text("devices.more_of", device=DEVICE)
    )
    try:
        await expect(names).to_contain_text(["Attic", DEVICE])
        await page.mouse.move(0, 0)
        await more.focus()
        await page.keyboard.press("Enter")
        menu = page.get_by_role("menuitem", name=page_text("devices.show_why"))
        await menu.focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name=DEVICE)
        await expect(dialog).to_be_visible()

        offloader.device.play(Part.TALK)
        await offloader.client.call(
            "esphome_offload/job/submit",
            device=offloader.device.yaml.name,
            operation="compile",
            clean=True,
        )
        await expect(page.get_by_text(page_text("why.job"))).to_be_visible()
        assert await dialog.evaluate("element => element.matches(':modal')")
        await page.keyboard.press("Escape")
        await expect(more).to_be_focused()
        await expect(names).to_contain_text(["Attic", DEVICE])

        await page.get_by_role("searchbox").focus()
        await expect(names).to_contain_text([DEVICE, "Attic"])
        name = f"{page_text('cancel')} {DEVICE}"
        await screen.device(DEVICE).get_by_role("button", name=name, exact=True).click()
    finally:
        attic.unlink()
