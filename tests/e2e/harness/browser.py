"""A real browser on the pages of a Home Assistant: headless Chromium."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import json
import re
import shutil
import time
from typing import Final

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect
import pytest

from .client import Client, Json
from .texts import page_text
from .workspace import REPOSITORY

PHONE: Final = (390, 844)
DESK: Final = (1280, 860)

_AXE: Final = REPOSITORY / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE: Final = 120_000
"""Milliseconds: the machine may be busy."""
_TABS: Final = 80
"""More controls than a page has."""

expect.set_options(timeout=_PATIENCE)

# script/test installs it where it may; a developer without it still runs all the other tests.
_CHROMIUM: Final = shutil.which("chromium")
needs_chromium: Final = pytest.mark.skipif(
    _CHROMIUM is None, reason="there is no Chromium: install Debian's package chromium"
)


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Start the browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


class Screen:
    """A window of the browser in which somebody is logged in.

    ``steps`` counts the clicks and the fields that were filled.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self.steps = 0
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("console", self._listen)

    def _listen(self, message: ConsoleMessage) -> None:
        # Pictures of other integrations are somewhere on the internet.
        if message.type == "error" and "/api/brands/" not in message.location["url"]:
            self._note(message.text)

    def _note(self, error: str) -> None:
        # Of Home Assistant's own frontend, on each of its pages: it asks for parts that this instance
        # does not load, and does not await what goes with a lost connection.
        known = ('"unknown_command"', '"not_found"', '"Connection lost"')
        # The same once more, as the browser tells it.
        if error != "Object" and not any(each in error for each in known):
            self.errors.append(error)

    @property
    def main(self) -> Locator:
        """Our page without its header."""
        return self.page.locator("esphome-offload-panel").get_by_role("main")

    async def open(self, section: str) -> None:
        """Open a section of our page by its URL."""
        await self.page.goto(f"{self._url}/esphome-offload/{section}")

    async def go_to(self, section: str) -> None:
        """Choose a section of our page."""
        name = re.compile(f"^{page_text(f'tab.{section}')}")
        sections = self.page.get_by_role("navigation", name=page_text("sections"))
        await self.click(sections.get_by_role("link", name=name))

    def device(self, name: str) -> Locator:
        """Return the row of a device among the devices."""
        devices = self.page.get_by_role("list", name=page_text("tab.devices"), exact=True)
        return devices.get_by_role("listitem").filter(
            has=self.page.get_by_role("heading", name=re.compile(f"^{name}"))
        )

    async def click(self, target: Locator) -> None:
        """Click something: one step."""
        await target.click()
        self.steps += 1

    async def fill(self, field: Locator, content: str) -> None:
        """Fill a field: one step."""
        await field.fill(content)
        self.steps += 1

    async def press(self, target: Locator) -> None:
        """Reach something by the keyboard alone, see that the focus shows, and press Enter."""
        await expect(target).to_be_visible()
        for _ in range(_TABS):
            await self.page.keyboard.press("Tab")
            if await target.evaluate("element => element.matches(':focus-visible')"):
                break
        else:
            raise AssertionError(f"cannot be reached by the keyboard: {target}")
        style = await target.evaluate("element => getComputedStyle(element).outlineStyle")
        assert style != "none", f"the focus does not show: {target}"
        await self.page.keyboard.press("Enter")

    async def shows(self, key: str) -> None:
        """Wait until our page shows one of its texts."""
        shown = self.main.get_by_text(page_text(key), exact=True)
        await expect(shown.filter(visible=True).first).to_be_visible()

    async def assert_usable(self) -> None:
        """Check that our page, as it is now, is accessible and fits on a phone and on a desk."""
        before = self.page.viewport_size
        assert before is not None
        for width, height in (PHONE, DESK):
            await self.page.set_viewport_size({"width": width, "height": height})
            assert await self._serious_findings() == []
            assert not await self._overflows(), f"wider than {width}"
        await self.page.set_viewport_size(before)

    async def _serious_findings(self) -> list[str]:
        """Return what the accessibility check finds in our page, if it is serious."""
        if not await self.page.evaluate("() => 'axe' in window"):
            await self.page.add_script_tag(path=_AXE)
        found: Json = await self.page.evaluate("async () => await axe.run(document)")
        return [
            f"{violation['id']}: {target}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
            if "esphome-offload" in (target := json.dumps(node["target"]))
        ]

    async def _overflows(self) -> bool:
        """Return whether the page can be scrolled sideways."""
        wide: bool = await self.page.evaluate(
            "() => document.scrollingElement.scrollWidth > window.innerWidth"
        )
        return wide


@asynccontextmanager
async def open_screen(
    browser: Browser,
    client: Client,
    size: tuple[int, int],
    *,
    dark: bool = False,
    language: str = "en",
    scale: float = 1,
) -> AsyncIterator[Screen]:
    """Open a window of this size, logged in as the user of ``client``.

    When it is closed, nothing may have gone wrong in its console. Pictures of it have ``scale`` times
    its size.
    """
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme="dark" if dark else "light",
    )
    tokens = {
        "access_token": client.token,
        "token_type": "Bearer",
        "refresh_token": "",
        "expires_in": 1800,
        "expires": int((time.time() + 1800) * 1000),
        "hassUrl": client.url,
        "clientId": f"{client.url}/",
    }
    page = await context.new_page()
    # Else all that is told of an error that is no Error is that it is an object.
    await page.add_init_script(
        "addEventListener('unhandledrejection', (event) => {"
        " console.error('not handled:', JSON.stringify(event.reason)); })"
    )
    page.set_default_timeout(_PATIENCE)
    stored = {"hassTokens": json.dumps(tokens), "selectedLanguage": json.dumps(language)}
    await page.add_init_script(
        f"for (const [key, value] of Object.entries({json.dumps(stored)}))"
        " localStorage.setItem(key, value);"
    )
    try:
        screen = Screen(page, client.url)
        yield screen
        assert screen.errors == []
    finally:
        await context.close()
