"""The page: its registration, what it is sent, and what its buttons do."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from http import HTTPStatus
import json
from pathlib import Path
import re
from typing import Any
from unittest.mock import patch
from zipfile import ZipFile

from aiohttp.test_utils import TestClient
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import (
    ClientSessionGenerator,
    MockHAClientWebSocket,
    WebSocketGenerator,
)

from custom_components.esphome_offload import page
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import Elsewhere, Firmware
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    Image,
    JobStatus,
    Operation,
)
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.messages import Acknowledge, AttemptState
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from script import release_zip

from ..engine.jobs.fakes import BUILD_INFO, Block
from .conftest import Stage
from .guest_client import OffloaderClient
from .sources import REPOSITORY, english, leaves

SUBSCRIBE = "esphome_offload/page/subscribe"

type Ask = Callable[..., Awaitable[dict[str, Any]]]


class Page:
    """What a browser that follows the page has."""

    def __init__(self, client: MockHAClientWebSocket) -> None:
        self.client = client
        self.devices: dict[str, Any] = {}
        self.overview: dict[str, Any] = {}

    async def event(self) -> dict[str, Any]:
        message = await self.client.receive_json()
        assert message["type"] == "event", message
        event: dict[str, Any] = message["event"]
        if event["snapshot"]:
            self.devices.clear()
        for name in event["removed"]:
            del self.devices[name]
        self.devices |= event["devices"]
        self.overview = event.get("overview", self.overview)
        return event

    async def until(self, fulfilled: Callable[[Page], bool]) -> None:
        while not fulfilled(self):
            await self.event()


@pytest.fixture
async def shown(coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator) -> Page:
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": SUBSCRIBE})
    answer = await client.receive_json()
    assert answer["success"], answer
    shown = Page(client)
    await shown.event()
    return shown


@pytest.fixture
async def ask(coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator) -> Ask:
    client = await hass_ws_client()

    async def ask(command: str, **fields: Any) -> dict[str, Any]:
        await client.send_json_auto_id({"type": f"esphome_offload/{command}", **fields})
        answer: dict[str, Any] = await client.receive_json()
        return answer

    return ask


# Registration


@pytest.fixture
def built(tmp_path: Path) -> Path:
    module = tmp_path / "page.js"
    module.write_text("// the page\n")
    return module


async def test_administrators_find_the_page_in_the_sidebar(
    hass: HomeAssistant, coordinator: OffloadCoordinator, built: Path
) -> None:
    assert await async_setup_component(hass, "http", {})
    hass.config.components.add("frontend")
    with patch.object(page, "_MODULE", built):
        await page.async_register_page(hass)
        await page.async_register_page(hass)

    panel = hass.data["frontend_panels"][page.PAGE_URL]
    assert panel.require_admin
    custom = panel.config["_panel_custom"]
    assert custom["name"] == "esphome-offload-panel"
    assert re.fullmatch(r"/esphome_offload_static/page\.js\?[0-9a-f]{16}", custom["module_url"])


async def test_the_page_goes_with_this_instance_and_comes_again_with_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, built: Path
) -> None:
    assert await async_setup_component(hass, "http", {})
    hass.config.components.add("frontend")
    with patch.object(page, "_MODULE", built):
        await hass.config_entries.async_reload(entry.entry_id)
        assert page.PAGE_URL in hass.data["frontend_panels"]
        await hass.config_entries.async_remove(entry.entry_id)
        assert page.PAGE_URL not in hass.data["frontend_panels"]
        await hass.config_entries.async_add(entry)
    assert page.PAGE_URL in hass.data["frontend_panels"]


async def test_another_build_of_the_page_has_another_address(built: Path) -> None:
    with patch.object(page, "_MODULE", built):
        first = page._digest()
        built.write_text("// another\n")
        assert page._digest() != first


async def test_a_checkout_without_the_built_page_works_without_it(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hass.config.components.add("frontend")
    with patch.object(page, "_MODULE", tmp_path / "missing.js"):
        await page.async_register_page(hass)
    assert "The page is not built" in caplog.text


# What it is sent


async def test_the_first_event_has_everything(shown: Page) -> None:
    assert shown.devices["lamp.yaml"] == {
        "id": "lamp.yaml",
        "configuration": "lamp.yaml",
        "name": "Desk lamp",
        "node_name": "lamp",
        "comment": None,
        "platform": "host",
        "device_id": shown.devices["lamp.yaml"]["device_id"],
        "online": None,
        "deep_sleep": False,
        "installed_version": None,
        "wanted_version": "2026.10.0",
        "pinned": False,
        "configuration_changed": None,
        "update": True,
        "over_the_air": True,
        "rivals": [],
    }
    overview = shown.overview
    assert (overview["set_up"], overview["folder"]) == (True, "esphome")
    assert overview["builders"][0]["id"] == "local"
    assert overview["lending"] == {
        "accepts_builds": False,
        "why_not": None,
        "disk_used": 0,
        "code": None,
        "seconds_left": None,
        "guests": [],
    }


async def test_only_what_changed_is_sent_again(
    shown: Page, config_dir: Path, coordinator: OffloadCoordinator
) -> None:
    (config_dir / "kitchen.yaml").write_text("esphome:\n  name: kitchen\nhost:\n")
    await coordinator.inventory.async_rescan()
    event = await shown.event()
    assert list(event["devices"]) == ["kitchen.yaml"]
    assert "overview" not in event

    (config_dir / "kitchen.yaml").unlink()
    await coordinator.inventory.async_rescan()
    assert (await shown.event())["removed"] == ["kitchen.yaml"]


async def test_files_that_cannot_be_read_are_shown_with_their_reason(
    shown: Page, config_dir: Path, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    (config_dir / "lamp.yaml").write_text("esphome: [\n")
    reason = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": "lamp.yaml", "row": "1"})
    stage.inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml", broken=True, says_device=True, problem=reason, reads=("lamp.yaml",)
    )
    await coordinator.inventory.async_rescan()
    await shown.until(lambda shown: bool(shown.overview["unreadable"]))
    assert shown.overview["unreadable"] == {"lamp.yaml": "lamp.yaml is not valid YAML (line 1)"}
    assert shown.devices, "its device is kept"


async def test_it_is_for_administrators_only(
    coordinator: OffloadCoordinator,
    hass_ws_client: WebSocketGenerator,
    hass_admin_user: MockUser,
) -> None:
    client = await hass_ws_client()
    hass_admin_user.groups = []
    await client.send_json_auto_id({"type": SUBSCRIBE})
    answer = await client.receive_json()
    assert answer["error"]["code"] == "unauthorized"
    await client.send_json_auto_id({"type": "esphome_offload/pairing/open"})
    answer = await client.receive_json()
    assert answer["error"]["code"] == "unauthorized"


async def test_an_older_version_than_the_device_has_is_no_update(
    hass: HomeAssistant, coordinator: OffloadCoordinator, shown: Page, stage: Stage
) -> None:
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, version="2026.10.0")
    await coordinator.async_wait(job)
    await shown.until(lambda shown: shown.devices["lamp.yaml"]["installed_version"] == "2026.10.0")
    assert shown.devices["lamp.yaml"]["update"] is False
    stage.versions.newest_stable = "2026.9.0"
    await coordinator.versions.async_refresh()
    await shown.until(lambda shown: shown.devices["lamp.yaml"]["wanted_version"] == "2026.9.0")
    assert shown.devices["lamp.yaml"]["update"] is False
    stage.versions.newest_stable = "2026.12.0"
    await coordinator.versions.async_refresh()
    await shown.until(lambda shown: shown.devices["lamp.yaml"]["update"])


# Buttons


async def test_a_job_is_submitted_and_cancelled(
    coordinator: OffloadCoordinator, stage: Stage, ask: Ask
) -> None:
    _job, block = await stage.start_blocked(coordinator)
    job = coordinator.queue.jobs()[-1]
    answer = await ask("job/cancel", job_id=job.job_id)
    assert answer["result"]["job"]["status"] == "cancelled"
    assert not block.release.is_set()

    answer = await ask(
        "job/submit", device="lamp.yaml", operation="compile", version="2026.9.0", batch="all"
    )
    job = coordinator.queue.get(answer["result"]["job"]["job_id"])
    assert job.request.operation is Operation.COMPILE
    assert job.request.esphome_version == "2026.9.0"
    assert job.request.user_id is not None
    assert job.request.batch == "all"
    await coordinator.async_wait(job)
    assert job.status is JobStatus.COMPLETED


async def test_a_job_is_done_once_more_with_all_that_was_asked_for(
    coordinator: OffloadCoordinator, ask: Ask
) -> None:
    asked = await coordinator.async_submit(
        "lamp.yaml", Operation.COMPILE, version="2026.9.0", clean=True, address="192.0.2.7"
    )
    await coordinator.async_wait(asked)
    answer = await ask("job/retry", job_id=asked.job_id)
    again = coordinator.queue.get(answer["result"]["job"]["job_id"])
    assert again is not asked
    assert again.request.address == "192.0.2.7"
    assert again.request.esphome_version == "2026.9.0"
    assert again.request.clean
    assert again.request.user_id is not None
    await coordinator.async_wait(again)
    answer = await ask("job/retry", job_id=asked.job_id, source="local")
    here = coordinator.queue.get(answer["result"]["job"]["job_id"])
    assert here.request.requested_source == "local"
    await coordinator.async_wait(here)

    answer = await ask("job/retry", job_id="gone")
    assert answer["error"]["translation_key"] == "unknown_job"


async def test_what_cannot_be_done_is_said(ask: Ask) -> None:
    answer = await ask("job/submit", device="gone.yaml", operation="install")
    assert answer["error"]["translation_key"] == "unknown_configuration"
    assert "gone.yaml" in answer["error"]["message"]
    answer = await ask("pairing/open")
    assert answer["error"]["translation_key"] == "lending_off"


async def test_builds_are_accepted_or_not_and_a_code_is_shown(
    lent: OffloadCoordinator, shown: Page, ask: Ask
) -> None:
    assert (await ask("pairing/open"))["success"]
    await shown.until(lambda shown: shown.overview["lending"]["code"] is not None)
    assert shown.overview["lending"]["code"] == lent.lender.pairing.state.code
    assert 0 < shown.overview["lending"]["seconds_left"] <= 300
    assert (await ask("pairing/close"))["success"]
    await shown.until(lambda shown: shown.overview["lending"]["code"] is None)

    assert (await ask("accept_builds", accept=False))["success"]
    await shown.until(lambda shown: not shown.overview["lending"]["accepts_builds"])
    assert (await ask("accept_builds", accept=True))["success"]
    await shown.until(lambda shown: shown.overview["lending"]["accepts_builds"])
    assert lent.lender.lending is Lending.ON


async def test_a_build_for_a_guest_is_shown_and_stopped(
    lent: OffloadCoordinator,
    stage: Stage,
    client: TestClient,
    tmp_path: Path,
    shown: Page,
    ask: Ask,
) -> None:
    def builds(shown: Page) -> list[dict[str, Any]]:
        guests = shown.overview["lending"]["guests"]
        return [build for each in guests for build in each["builds"]]

    guest = OffloaderClient(client, tmp_path)
    await guest.pair(lent.lender.open_window().code)
    async with guest.connected() as link:
        await shown.until(
            lambda shown: (
                [each["connected"] for each in shown.overview["lending"]["guests"]] == [True]
            )
        )
        block = Block()
        stage.guests.script = [block]
        attempt_id = await link.submit()
        await block.entered.wait()
        await shown.until(lambda shown: bool(builds(shown)))
        (build,) = builds(shown)
        assert (build["attempt_id"], build["over"]) == (attempt_id, False)
        pin = shown.overview["lending"]["guests"][0]["pin_sha256"]
        assert (await ask("guest_build/stop", pin_sha256=pin, attempt_id=attempt_id))["success"]
        await shown.until(lambda shown: [each["over"] for each in builds(shown)] == [True])
        assert "stopped" in builds(shown)[0]["reason"]
        events = await link.built(attempt_id)
        assert events[-1]["reason"]["key"] == "stopped_by_owner"
    again = await ask("guest_build/stop", pin_sha256=pin, attempt_id=attempt_id)
    assert again["success"], "it has ended already"


async def test_the_output_of_a_build_for_a_guest_is_read_while_it_runs_and_after_the_guest_has_it(
    lent: OffloadCoordinator,
    stage: Stage,
    client: TestClient,
    tmp_path: Path,
    hass_ws_client: WebSocketGenerator,
) -> None:
    browser = await hass_ws_client()
    guest = OffloaderClient(client, tmp_path)
    await guest.pair(lent.lender.open_window().code)
    pin = lent.lender.guests.all()[0].pin_sha256
    async with guest.connected() as link:
        block = Block()
        stage.guests.script = [block]
        attempt_id = await link.submit()
        await block.entered.wait()
        follow = {
            "type": "esphome_offload/guest_build/follow",
            "pin_sha256": pin,
            "attempt_id": attempt_id,
        }
        await browser.send_json_auto_id(follow)
        assert (await browser.receive_json())["success"]
        event = (await browser.receive_json())["event"]
        assert (event["build"]["over"], event["terminal"]) == (False, False)
        block.release.set()
        lines = list(event["lines"])
        while not event["terminal"]:
            event = (await browser.receive_json())["event"]
            lines += event["lines"]
        assert event["build"]["state"] == "completed"
        assert event["build"]["progress"] is None
        await link.session.call(Acknowledge(attempt_id))

    await browser.send_json_auto_id(follow)
    assert (await browser.receive_json())["success"]
    again = (await browser.receive_json())["event"]
    assert (again["lines"], again["terminal"]) == (lines, True)
    await browser.send_json_auto_id({**follow, "attempt_id": "0" * 32})
    error = (await browser.receive_json())["error"]
    assert error["translation_key"] == "unknown_guest_build"


async def test_without_lending_there_is_no_build_to_stop(ask: Ask) -> None:
    answer = await ask("guest_build/stop", pin_sha256="0" * 64, attempt_id="0" * 32)
    assert answer["success"]


# Dialogs of a device


async def test_a_device_says_where_it_would_be_built_and_what_was_built(
    coordinator: OffloadCoordinator, ask: Ask
) -> None:
    answer = await ask("device/details", device="lamp.yaml")
    details = answer["result"]
    assert details["builder"] == coordinator.builders.get("local").label
    assert details["reason"]
    assert details["why_not"] == {}
    assert "2026.10.0" in details["versions"]
    assert details["firmware"] is None

    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(job)
    firmware = (await ask("device/details", device="lamp.yaml"))["result"]["firmware"]
    assert firmware["sha256"] == job.firmware_sha256
    assert firmware["esphome_version"] == "2026.10.0"
    assert firmware["built_at"] == "2026-10-20T10:00:00+00:00"
    assert firmware["images"][0] == "ota"


async def test_a_device_that_cannot_be_built_says_why(
    coordinator: OffloadCoordinator, ask: Ask, stage: Stage
) -> None:
    why = Reason(ReasonKey.MEMORY_LOW, {"free": "1", "needed": "2"})
    stage.builder.state = replace(stage.builder.state, available=False, why_not=why)
    details = (await ask("device/details", device="lamp.yaml"))["result"]
    assert details["builder"] is None
    assert "1 MiB" in details["reason"]


async def test_kept_firmware_is_downloaded_by_administrators(
    coordinator: OffloadCoordinator,
    ask: Ask,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hass_client: ClientSessionGenerator,
    hass_admin_user: MockUser,
) -> None:
    image = tmp_path / "firmware.ota.bin"
    image.write_bytes(b"the image")
    elf = tmp_path / "firmware.elf"
    elf.write_bytes(b"its symbols")
    store = FirmwareStore(stage.layout)
    kept = await store.keep("lamp.yaml", "lamp", BuildResult(image, BUILD_INFO, images=(elf,)))
    monkeypatch.setattr(stage, "firmware", store)
    details = (await ask("device/details", device="lamp.yaml"))["result"]
    assert details["firmware"]["images"] == ["ota", "elf"]
    fields = {"device": "lamp.yaml", "sha256": kept.sha256, "image": "ota"}
    url = (await ask("firmware/prepare", **fields))["result"]["url"]

    client = await hass_client()
    response = await client.get(url)
    assert await response.read() == b"the image"
    symbols = await client.get(url.replace("/ota", "/elf"))
    assert await symbols.read() == b"its symbols"
    assert "lamp-2026.10.0.elf" in symbols.headers["Content-Disposition"]
    assert "lamp-2026.10.0-ota.bin" in response.headers["Content-Disposition"]
    for other in (url.replace("/ota", "/factory"), url.replace(kept.sha256, "0" * 64)):
        assert (await client.get(other)).status == HTTPStatus.NOT_FOUND

    (stage.layout.firmware("lamp.yaml") / kept.sha256 / image.name).write_bytes(b"altered")
    assert (await client.get(url)).status == HTTPStatus.NOT_FOUND
    answer = await ask("firmware/prepare", **fields)
    assert answer["error"]["translation_key"] == "firmware_changed"

    hass_admin_user.groups = []
    assert (await client.get(url)).status == HTTPStatus.UNAUTHORIZED


async def test_a_file_that_only_its_builder_keeps_is_fetched_when_it_is_asked_for(
    coordinator: OffloadCoordinator,
    ask: Ask,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = tmp_path / "firmware.ota.bin"
    image.write_bytes(b"the image")
    store = FirmwareStore(stage.layout)
    elsewhere = Elsewhere("local", (Image.ELF,))
    result = BuildResult(image, BUILD_INFO, elsewhere=elsewhere)
    kept = await store.keep("lamp.yaml", "lamp", result)
    monkeypatch.setattr(stage, "firmware", store)
    fields = {"device": "lamp.yaml", "sha256": kept.sha256, "image": "elf"}
    details = (await ask("device/details", device="lamp.yaml"))["result"]
    assert details["firmware"]["images"] == ["ota", "elf"]
    answer = await ask("firmware/prepare", **fields)
    assert answer["error"]["translation_key"] == "image_gone", "no builder of ours has it"
    assert stage.origins.forgotten == ["lamp.yaml"], "or it would not be built again"

    async def fetch(firmware: Firmware, _image: Image) -> Firmware:
        elf = tmp_path / "firmware.elf"
        elf.write_bytes(b"its symbols")
        return await store.add_image(firmware, elf.name, elf) or firmware

    monkeypatch.setattr(stage.builder, "fetch_image", fetch)
    assert (await ask("firmware/prepare", **fields))["result"]["url"].endswith("/elf")


async def test_a_file_that_is_not_kept_is_said_to_be_gone(
    coordinator: OffloadCoordinator, ask: Ask
) -> None:
    answer = await ask("firmware/prepare", device="lamp.yaml", sha256="0" * 64, image="elf")
    assert answer["error"]["translation_key"] == "image_gone"


# Texts


def test_every_text_that_the_page_uses_is_there_and_every_one_is_used() -> None:
    texts = {".".join(path) for path, _text in leaves(english()["config_panel"])}
    source = "".join(
        path.read_text() for path in sorted((REPOSITORY / "frontend" / "src").glob("*.ts"))
    )
    # In a choice of keys each is a literal of its own; a composed one names its section.
    named = set(re.findall(r"\"([a-z_]+(?:\.[a-z_]+)?)\"", source))
    sections = {f"{name}." for name in re.findall(r"`([a-z_]+)\.\$\{", source)}
    called = set(re.findall(r"text\(\s*\"([a-z_.]+)\"", source))
    counted = set(re.findall(r"counted\(this\.hass, \"([a-z_.]+)\"", source))
    forms = {f"{key}_{form}" for key in counted for form in ("one", "other")}
    called |= forms
    named |= forms
    assert called <= texts, called - texts
    unused = {
        key for key in texts if key not in named and not any(key.startswith(s) for s in sections)
    }
    assert not unused
    assert sections == {f"{section}." for section in SECTIONS}


SECTIONS = {
    "tab",
    "status",
    "stage",
    "operation",
    "program",
    "attempt",
    "builders",
    "hint",
    "image",
    "image_for",
}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        # One that runs shows its stage; one that somebody ended needs no hint.
        ("status", {*JobStatus, FailureReason.SUPERSEDED} - {JobStatus.RUNNING}),
        ("operation", Operation),
        ("attempt", AttemptState),
        ("hint", {*FailureReason} - {FailureReason.CANCELLED, FailureReason.SUPERSEDED}),
        ("image", Image),
        ("image_for", Image),
    ],
)
def test_every_value_has_a_text(section: str, values: Iterable[StrEnum]) -> None:
    assert set(english()["config_panel"][section]) == {value.value for value in values}


def test_the_page_defines_only_elements_with_our_prefix() -> None:
    sources = sorted((REPOSITORY / "frontend" / "src").glob("*.ts"))
    elements = re.findall(r'customElement\("([^"]+)"\)', "".join(p.read_text() for p in sources))
    assert elements
    assert all(name.startswith("esphome-offload-") for name in elements)
    assert json.loads((REPOSITORY / "frontend" / "package.json").read_text())["private"] is True


def test_the_page_has_only_the_colors_of_home_assistant() -> None:
    color = re.compile(r"#[0-9a-f]{3,8}\b|\brgba?\(|\bhsla?\(|\b(?:black|white)\b(?!-)")
    sources = sorted((REPOSITORY / "frontend" / "src").glob("*.ts"))
    assert [p.name for p in sources if color.search(p.read_text())] == []


# What a release ships


def test_a_release_has_the_built_page_and_nothing_that_was_left_behind(tmp_path: Path) -> None:
    release_zip.pack(tmp_path / "first.zip")
    release_zip.pack(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with ZipFile(tmp_path / "first.zip") as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {"manifest.json", "page/built/page.js", "translations/en.json"} <= names
    assert not [name for name in names if "__pycache__" in name or ".stamp" in name]
    assert (tmp_path / "installed" / "page" / "built" / "page.js").stat().st_size > 10_000
    hacs = json.loads((REPOSITORY / "hacs.json").read_text())
    assert hacs["zip_release"] is True
    assert hacs["filename"] == "esphome_offload.zip"


def test_a_release_without_the_page_is_refused(tmp_path: Path) -> None:
    with (
        patch.object(release_zip, "BUILT", tmp_path / "missing.js"),
        pytest.raises(FileNotFoundError, match="not built"),
    ):
        release_zip.pack(tmp_path / "release.zip")
