"""The pictures in docs/: what a person sees of two real Home Assistants and four devices.

“home” has the devices, “workshop” builds for it: one device has an update, one was changed, one
fails, and one needs nothing. Run it as ``script/screenshots``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
import os
from pathlib import Path
import re
import signal
from typing import Final

from PIL import Image
from playwright.async_api import Browser, Locator, expect

from tests.e2e.harness.browser import DESK, PHONE, Screen, open_browser, open_screen
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import Client, Json
from tests.e2e.harness.device import FIRST_VERSION, NEW_VERSION
from tests.e2e.harness.esphome_env import link_toolchain
from tests.e2e.harness.instance import QUICK_LOOKS, QUICK_RECONNECTS
from tests.e2e.harness.jobs import cancel_all, follow, reach, submit
from tests.e2e.harness.pair import Pair
from tests.e2e.harness.texts import page_text, text
from tests.e2e.harness.workspace import REPOSITORY, claim

DOCS: Final = REPOSITORY / "docs"
_DIALOG: Final = (640, 760)
_ENOUGH: Final = 70  # percent of a build: no path of this machine is in sight any more

_INCOMPLETE: Final = "number:\n  - platform: template\n    name: Brightness\n"


async def main() -> None:
    """Open everything, and take one picture after another."""
    with claim("screenshots") as folder:
        async with open_home(folder) as pair, open_browser() as browser:
            await lend_by_dialog(pair.builder, browser)
            await pair.introduce(pair.builder.url)
            await pair.connected()
            await prepare_devices(pair)
            await take_the_page(pair, browser)


@asynccontextmanager
async def open_home(folder: Path) -> AsyncIterator[Pair[Builder]]:
    """Open both instances, which do not know each other, and the devices."""
    builder = Builder(folder / "workshop", name="workshop")
    builder.instance.reset()
    pair = Pair(folder, builder, home="home", devices=("kitchen", "hall", "porch", "office"))
    kitchen, *others = pair.offloader.devices
    pair.offloader.instance.add_component(QUICK_LOOKS)
    pair.offloader.instance.add_component(QUICK_RECONNECTS)
    for cache in (pair.offloader.instance.offload_cache, builder.cache):
        link_toolchain(NEW_VERSION, cache)
    try:
        await kitchen.flash(FIRST_VERSION)
        for device in others:
            await device.flash(NEW_VERSION)
        await pair.offloader.open()
        await builder.boot()
        # It listens on this address alone, which Home Assistant cannot find out.
        await builder.client.call("config/core/update", internal_url=builder.url)
        await builder.set_up()
        yield pair
    finally:
        await pair.close()


async def lend_by_dialog(builder: Builder, browser: Browser) -> None:
    """Have the builder accept builds, and show the dialogs of that."""
    async with open_screen(browser, builder.client, _DIALOG) as screen:
        page = screen.page
        await page.goto(f"{builder.url}/config/integrations/integration/esphome_offload")
        await page.get_by_role("button", name="Configure", exact=True).click()
        lending = text("options.step.init.menu_options.lending")
        await page.get_by_text(lending, exact=True).click()
        # By key: a click, which would have to be forced, misses it while the dialog still moves.
        accept = page.get_by_role("switch").first
        await accept.press("Space")
        await expect(accept).to_be_checked()
        await take(screen, "lending.png")
        await page.get_by_role("button", name="Submit", exact=True).click()
        await expect(page.get_by_text(re.compile(r"^\d{4} ?\d{4}$"))).to_be_visible()
        await take(screen, "pairing.png")
        await page.get_by_role("button", name="Close", exact=True).click()


async def prepare_devices(pair: Pair[Builder]) -> None:
    """Have one device have a changed file, and one fail."""
    client = pair.offloader.client
    _, _, porch, office = pair.offloader.devices
    office.components = _INCOMPLETE
    office.configure()
    for device in (porch, office):
        entity = await pair.offloader.update_entity(device.configuration)
        job = await submit(client, "install", entity)
        await follow(client, job["job_id"])
    porch.components = "button:\n  - platform: restart\n    name: Restart\n"
    porch.configure()


async def take_the_page(pair: Pair[Builder], browser: Browser) -> None:
    """Take the pictures of a build that goes on, which stands still meanwhile."""
    client, builder = pair.offloader.client, pair.builder
    kitchen = pair.offloader.device
    entity = await pair.offloader.update_entity(kitchen.configuration)
    async with AsyncExitStack() as stack:

        async def window(of: Client, size: tuple[int, int], scale: float = 1) -> Screen:
            return await stack.enter_async_context(open_screen(browser, of, size, scale=scale))

        devices, phone = await window(client, DESK), await window(client, PHONE, 2)
        log, update = await window(client, DESK), await window(client, _DIALOG)
        owner = await window(builder.client, DESK)
        await devices.open("devices")
        await expect(devices.device("Porch")).to_contain_text(page_text("devices.changed"))

        job = await submit(client, "install", entity)
        await reach(client, job["job_id"], is_built_for(_ENOUGH))
        stopped = list(builder.build_processes())
        signal_all(stopped, signal.SIGSTOP)
        try:
            await phone.open("devices")
            await expect(phone.device("Kitchen")).to_be_visible()
            await log.open(f"job/{job['job_id']}")
            await expect(log.page.get_by_role("log")).to_contain_text("CXX")
            await owner.open("builders")
            await expect(building(owner, kitchen.configuration)).to_be_visible()
            await update.page.goto(f"{client.url}/config/entities?more-info-entity-id={entity}")
            await expect(
                update.page.get_by_text(re.compile(r"Installing \(\d+%\)"))
            ).to_be_visible()
            await take(devices, "devices.png")
            await take(phone, "phone.png")
            await take(log, "log.png")
            await take(owner, "builders.png")
            await take(update, "install.png")
        finally:
            signal_all(stopped, signal.SIGCONT)
        await cancel_all(client)


def is_built_for(percent: int) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: so much of a job is compiled."""
    return lambda event: (
        event["job"]["stage"] == "compiling" and (event["job"]["progress"] or 0) >= percent
    )


def building(screen: Screen, configuration: str) -> Locator:
    """Return what the page shows of a build for a guest."""
    return screen.main.get_by_text(re.compile(re.escape(configuration))).first


def signal_all(processes: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, of which some may have ended."""
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


async def take(screen: Screen, name: str) -> None:
    """Write a picture of a window into docs/."""
    path = DOCS / name
    await screen.page.screenshot(path=path, animations="disabled")
    with Image.open(path) as image:
        image.convert("RGB").save(path, optimize=True)
    print(f"{path.relative_to(REPOSITORY)}  {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    asyncio.run(main())
