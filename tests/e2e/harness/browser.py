"""A real browser on the pages of a Home Assistant: headless Chromium."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import json
import shutil
import time
from typing import Final

from playwright.async_api import Browser, Page, async_playwright

from .client import Client, Json
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


def find_chromium() -> str | None:
    """Return the browser on this machine."""
    return shutil.which("chromium")


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Start the browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=list(_FLAGS)
        )
        try:
            yield browser
        finally:
            await browser.close()


class Screen:
    """A window of the browser in which somebody is logged in."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on(
            "console",
            lambda message: self._note(message.text) if message.type == "error" else None,
        )

    def _note(self, error: str) -> None:
        # Of Home Assistant's own frontend, on each of its pages: it asks for parts that this instance
        # does not load, and does not await what goes with a lost connection.
        known = ('"unknown_command"', '"not_found"', '"Connection lost"')
        # The same once more, as the browser tells it.
        if error != "Object" and not any(each in error for each in known):
            self.errors.append(error)

    async def open(self, section: str) -> None:
        """Open a section of our page by its URL."""
        await self.page.goto(f"{self._url}/esphome-offload/{section}")

    async def serious_findings(self) -> list[str]:
        """Return what the accessibility check finds in our page, if it is serious."""
        await self.page.add_script_tag(path=_AXE)
        found: Json = await self.page.evaluate("async () => await axe.run(document)")
        return [
            f"{violation['id']}: {target}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
            if "esphome-offload" in (target := json.dumps(node["target"]))
        ]

    async def overflows(self) -> bool:
        """Return whether the page can be scrolled sideways."""
        wide: bool = await self.page.evaluate(
            "() => document.scrollingElement.scrollWidth > window.innerWidth"
        )
        return wide


@asynccontextmanager
async def open_screen(
    browser: Browser, client: Client, size: tuple[int, int], *, dark: bool = False
) -> AsyncIterator[Screen]:
    """Open a window of this size, logged in as the user of ``client``."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
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
    await page.add_init_script(
        f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))})"
    )
    try:
        yield Screen(page, client.url)
    finally:
        await context.close()
