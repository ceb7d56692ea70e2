"""The page inside Home Assistant: for Supervisor's requests on behalf of a user, and nobody else."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
import re

import aiohttp
from esphome_offload_builder import program
from esphome_offload_builder.app import ingress
from esphome_offload_builder.app.ingress import INGRESS_GATEWAY, ingress_application
import pytest

from .running import Guest, running, settings_of
from .supervisor_stand_in import SupervisorStandIn

GATEWAY = "127.0.0.2"
"""It stands in for Supervisor's address; the tests' other connections come from 127.0.0.1."""

HEADERS = {
    "X-Ingress-Path": "/api/hassio_ingress/token",
    "X-Remote-User-Id": "0" * 32,
    "X-Remote-User-Display-Name": "Anna",
}
PAGE = Path(ingress.__file__).with_name("page")


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Run the app and return where its page is."""
    monkeypatch.setattr(
        program, "ingress_application", partial(ingress_application, gateway=GATEWAY)
    )
    supervisor = SupervisorStandIn()
    async with supervisor.serving():
        settings = settings_of(tmp_path, supervisor=supervisor.access)
        async with running(settings) as builder, aiohttp.ClientSession() as http:
            await supervisor.told(1)
            guest = Guest(settings, http)
            await guest.pair(builder._window.open().code)
            yield f"http://127.0.0.1:{supervisor.ingress_port}/"


@pytest.fixture
async def home_assistant() -> AsyncIterator[aiohttp.ClientSession]:
    """Supervisor, on behalf of a user who is logged in."""
    connector = aiohttp.TCPConnector(local_addr=(GATEWAY, 0))
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        yield session


@pytest.mark.parametrize("path", ["", "page.css", "page.js", "texts.js", "status", "pairing"])
async def test_the_page_is_for_home_assistant_alone(
    url: str, home_assistant: aiohttp.ClientSession, http: aiohttp.ClientSession, path: str
) -> None:
    async with home_assistant.get(url + path) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    # Another machine, or another program of this one, whatever it claims.
    async with http.get(url + path, headers=HEADERS) as response:
        assert response.status == 403
        assert await response.text() == "Open this page in Home Assistant."


@pytest.mark.parametrize("missing", ["X-Ingress-Path", "X-Remote-User-Id"])
async def test_what_supervisor_requests_for_no_user_is_refused(url: str, missing: str) -> None:
    """The watchdog of another app can be made to request it."""
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    connector = aiohttp.TCPConnector(local_addr=(GATEWAY, 0))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        async with session.get(url + "pairing") as response:
            assert response.status == 403
        async with session.post(url + "pairing") as response:
            assert response.status == 403


async def test_the_window_is_opened_and_closed_on_the_page(
    url: str, home_assistant: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with home_assistant.post(url + "pairing") as response:
        window = await response.json()
    assert re.fullmatch("[0-9]{8}", window["code"])
    assert (window["seconds_left"], window["tries_left"]) == (300, 3)
    async with home_assistant.delete(url + "pairing") as response:
        assert (await response.json())["code"] is None
    said = [each.message for each in caplog.records if " on the page: " in each.message]
    assert said == [
        "Anna on the page: POST /pairing",
        "Anna on the page: DELETE /pairing",
    ]
    assert window["code"] not in caplog.text


async def test_a_guest_is_removed_on_the_page(
    url: str, home_assistant: aiohttp.ClientSession
) -> None:
    async with home_assistant.get(url + "status") as response:
        (guest,) = (await response.json())["guests"]
    async with home_assistant.delete(f"{url}guests/{guest['pin_sha256']}") as response:
        assert response.status == 204
    async with home_assistant.get(url + "status") as response:
        assert (await response.json())["guests"] == []


async def test_the_page_can_do_no_more_than_it_shows(
    url: str, home_assistant: aiohttp.ClientSession
) -> None:
    async with home_assistant.delete(url + "cache") as response:
        assert response.status == 404
    async with home_assistant.get(url + "../app/ingress.py") as response:
        assert response.status == 404


def test_supervisor_has_the_address_that_its_documentation_gives() -> None:
    assert INGRESS_GATEWAY == "172.30.32.2"


def test_texts_of_guests_are_never_read_as_html() -> None:
    script = (PAGE / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML\s*=|insertAdjacent|document\.write|eval\(", script)


def test_the_page_works_below_any_path() -> None:
    """Home Assistant serves it below a path that has a token in it."""
    html, script = (PAGE / "index.html").read_text(), (PAGE / "page.js").read_text()
    assert re.findall(r'(?:href|src)="([^"]*)"', html) == ["page.css", "texts.js", "page.js"]
    assert not re.search(r"""["'`](?:/|https?:)""", script)
    assert not re.search(r"<script>|<style|style=| on\w+=", html), "its policy forbids them"


def test_each_language_of_the_page_has_every_text() -> None:
    """The same keys and placeholders, and exactly those that the page uses."""
    languages = {
        language: dict(re.findall(r'^    (\w+): "(.*)",$', block, re.MULTILINE))
        for language, block in re.findall(
            r"^  (\w\w): \{\n(.*?)^  \},$",
            (PAGE / "texts.js").read_text(),
            re.MULTILINE | re.DOTALL,
        )
    }
    assert languages.keys() == {"en", "de", "nl"}
    html, script = (PAGE / "index.html").read_text(), (PAGE / "page.js").read_text()
    states = {f"stage_{each}" for each in ("queued", "preparing", "downloading", "compiling")}
    used = {
        *re.findall(r'\btext\("(\w+)"', script),
        *re.findall(r'data-(?:text|label)="(\w+)"', html),
        *re.findall(r'"(\w+)"', re.findall(r"new Set\(\[(.*)\]\)", script)[0]),
        *states,
    }
    english = languages["en"]
    for language, texts in languages.items():
        assert texts.keys() == used, language
        for key, text in texts.items():
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[key]))
