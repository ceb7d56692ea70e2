"""The running builder, as its guests and its owner see it."""

import asyncio
from collections.abc import Iterable
import json
from pathlib import Path
import stat

import aiohttp
from click.testing import CliRunner, Result
from esphome_offload_builder import __version__, control, program
from esphome_offload_builder.announcement import Announcement
from esphome_offload_builder.cli import main
from esphome_offload_builder.control_client import ControlClient
from esphome_offload_builder.engine.build.model import BuilderStatus
from esphome_offload_builder.engine.build.process.machine_containment import containment_here
from esphome_offload_builder.engine.host.announcement import AnnouncedBuilder
from esphome_offload_builder.engine.protocol.identity import load_or_create
from esphome_offload_builder.pairing import show_code
from esphome_offload_builder.settings import RefusedError, Settings
import pytest

from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import Program
from custom_components.esphome_offload.engine.protocol.messages import SendBundle, Submit
from custom_components.esphome_offload.engine.protocol.pairing import PairingError
from custom_components.esphome_offload.engine.protocol.payloads import BuildParameters

from ..engine.host.builder import LAMP, make_bundle
from ..engine.host.guest_link import digest
from .running import Guest, running, settings_of


async def call(settings: Settings, *arguments: str) -> Result:
    """Run a command in a thread, as a process of its own would."""
    argv = ["--data", str(settings.folder.root), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, argv)


async def answer(settings: Settings, *arguments: str) -> str:
    result = await call(settings, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


async def code_of(settings: Settings) -> str:
    code: str = json.loads(await answer(settings, "pair", "--json"))["code"]
    return code


async def test_a_guest_pairs_with_the_code_and_sees_a_standalone_builder(
    settings: Settings, guest: Guest
) -> None:
    paired = await guest.pair(await code_of(settings))
    assert paired.label == "attic"
    async with guest.connected(paired.public) as link:
        assert link.introduction is not None
        assert link.introduction.program is Program.STANDALONE_BUILDER
        assert link.introduction.offer.version == __version__
        assert link.status is not None
        assert link.status.available
        assert link.status.slots == 1
        assert "living room: connected, 0 builds" in await answer(settings, "guests")


async def test_a_wrong_code_pairs_nobody(settings: Settings, guest: Guest) -> None:
    code = await code_of(settings)
    with pytest.raises(PairingError) as error:
        await guest.pair("1" * 8 if code[0] != "1" else "2" * 8)
    assert error.value.code is ErrorCode.WRONG_CODE
    assert "Guests: none" in await answer(settings, "guests")


async def test_pair_shows_the_code_until_somebody_has_paired(
    settings: Settings, guest: Guest
) -> None:
    showing = asyncio.create_task(call(settings, "pair"))
    client = ControlClient(settings.folder)
    async with asyncio.timeout(20):
        while (code := (await client.window())["code"]) is None:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
    await guest.pair(code)
    result = await showing
    assert result.exit_code == 0
    assert f"Code: {code}" in result.output
    assert "Paired with living room." in result.output


async def test_three_wrong_codes_close_the_window_and_are_logged(
    settings: Settings, guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    code = await code_of(settings)
    for digit in "123":
        with pytest.raises(PairingError):
            await guest.pair(digit * 7 + ("0" if code[-1] != "0" else "9"))
    assert (await ControlClient(settings.folder).window())["end"] == "wrong_codes"
    assert "Wrong codes from 127.0.0.1 closed the pairing window" in caplog.messages
    assert code not in caplog.text


async def test_it_announces_itself_unless_it_shall_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[tuple[AnnouncedBuilder, int, tuple[str, ...]]] = []

    async def start(
        _self: Announcement, builder: AnnouncedBuilder, port: int, listening: Iterable[str]
    ) -> None:
        announced.append((builder, port, tuple(listening)))

    monkeypatch.setattr(Announcement, "start", start)
    settings = settings_of(tmp_path, announce=True)
    async with running(settings):
        await asyncio.sleep(0)
    pin = load_or_create(settings.folder.identity).pin_sha256
    assert announced == [(AnnouncedBuilder(pin, "attic"), settings.port, ("127.0.0.1",))]


async def test_a_cache_that_cannot_be_pruned_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(_self: object, _known: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(program.BuildServices, "make_room", fails)
    async with running(settings_of(tmp_path)) as builder:
        await builder._prune()
    assert "The cache cannot be pruned" in caplog.text


async def test_pair_says_why_the_window_is_over(settings: Settings) -> None:
    showing = asyncio.create_task(call(settings, "pair"))
    client = ControlClient(settings.folder)
    async with asyncio.timeout(20):
        while (await client.window())["code"] is None:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
    await client.close_window()
    result = await showing
    assert result.exit_code == 1
    assert "The window was closed." in result.output


async def test_a_code_that_is_shown_no_more_is_worth_nothing(settings: Settings) -> None:
    """Ctrl-C while it is shown."""
    client = ControlClient(settings.folder)
    showing = asyncio.create_task(show_code(client))
    async with asyncio.timeout(20):
        while (await client.window())["code"] is None:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
    showing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await showing
    assert (await client.window())["end"] == "closed"


async def test_a_build_that_waits_is_in_the_status(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    settings = settings_of(tmp_path)
    guest = Guest(settings, http)
    async with running(settings) as builder:
        assert builder._services is not None
        assert builder._services.builder.slots.take("own") is not None
        paired = await guest.pair(await code_of(settings))
        async with guest.connected(paired.public) as link:
            bundle = make_bundle(tmp_path / "bundle.tar.gz", LAMP)
            content = bundle.read_bytes()
            attempt_id = new_id()
            parameters = BuildParameters(
                new_id(), attempt_id, "lamp.yaml", "lamp", "2026.10.0", "Europe/Vienna"
            )
            await link.send_bundle(SendBundle(attempt_id, digest(content), len(content)), bundle)
            await link.submit(Submit(parameters, digest(content)))
            status = json.loads(await answer(settings, "status", "--json"))
            await link.cancel(attempt_id)
    (build,) = status["builds"]
    assert (build["guest"], build["device"]) == ("living room", "lamp")
    assert (build["stage"], build["ahead"]) == ("queued", 0)
    assert (status["busy"], status["queued"]) == (1, 1)


async def test_a_guest_that_is_removed_has_to_pair_again(settings: Settings, guest: Guest) -> None:
    await guest.pair(await code_of(settings))
    pin = guest.identity.pin_sha256
    refused = await call(settings, "guests", "remove", "0" * 64)
    assert refused.exit_code == 1
    assert "0 guests have a pin" in refused.output
    assert "living room" in await answer(settings, "guests", "remove", pin[:12])
    assert json.loads(await answer(settings, "guests", "--json")) == []


async def test_a_guest_known_beforehand_needs_no_code(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    settings = settings_of(tmp_path)
    guest = Guest(settings, http)
    known = settings_of(tmp_path, port=settings.port, guests=(guest.identity.pin_sha256,))
    async with running(known):
        public = load_or_create(known.folder.identity).public
        async with guest.connected(type(guest.identity.public)(public.raw)):
            pass
        assert "living room" in await answer(known, "guests")


async def test_guests_and_identity_survive_a_restart(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    settings = settings_of(tmp_path)
    guest = Guest(settings, http)
    async with running(settings):
        paired = await guest.pair(await code_of(settings))
    async with running(settings), guest.connected(paired.public):
        assert "living room: connected" in await answer(settings, "guests")


async def test_all_that_is_kept_is_for_its_user_alone(settings: Settings, guest: Guest) -> None:
    await guest.pair(await code_of(settings))
    folder = settings.folder
    # Users of guests' builds pass it, and can neither list nor read it.
    assert folder.root.stat().st_mode & 0o066 == 0
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in folder.root.iterdir()
        if path != folder.cache
    }
    assert set(modes) == {"identity", "guests.json", "control.sock", "lock"}
    assert set(modes.values()) == {0o600}


async def test_status_says_what_the_machine_does(settings: Settings) -> None:
    text = await answer(settings, "status")
    assert f"attic, version {__version__}, port {settings.port}" in text
    assert "Accepts builds" in text
    assert "Slots: 0 of 1 in use, 0 builds wait" in text
    status = json.loads(await answer(settings, "status", "--json"))
    assert status["pin_sha256"] == load_or_create(settings.folder.identity).pin_sha256
    assert (status["builds"], status["toolchains"]) == ([], [])
    here = containment_here(settings.folder.cache, (settings.folder.root,))
    assert (status["containment"], status["containment_text"]) == (here.degree, str(here.reason))
    assert str(here.reason) in text


async def test_clean_leaves_nothing_that_is_not_in_use(settings: Settings) -> None:
    stray = settings.folder.cache / "toolchains" / "2026.1.0"
    stray.mkdir(parents=True)
    (stray / "file").write_bytes(bytes(1000))
    assert "0 MiB" in await answer(settings, "clean")
    assert not stray.exists()


async def test_health_is_for_orchestrators(
    settings: Settings, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{settings.port}/health"
    async with http.get(url) as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    full = BuilderStatus(available=True, disk_mib=1)
    monkeypatch.setattr(program.BuildServices, "builder", _Full(full), raising=False)
    monkeypatch.setattr(program, "why_no_build", lambda _status: control.why_no_build(full))
    async with http.get(url) as response:
        assert response.status == 503
        assert "disk" in (await response.json())["reason"]
    # What restarts a program that does not answer would not make room on the disk.
    async with http.get(f"{url}/live") as response:
        assert response.status == 200


class _Full:
    def __init__(self, status: BuilderStatus) -> None:
        self._status = status

    def status(self) -> BuilderStatus:
        return self._status


async def test_the_public_port_has_no_commands(
    settings: Settings, http: aiohttp.ClientSession
) -> None:
    for path in (control.STATUS, control.PAIRING, control.GUESTS, control.CACHE):
        async with http.get(f"http://127.0.0.1:{settings.port}{path}") as response:
            assert response.status == 404


async def test_a_second_builder_with_the_same_folder_is_refused(settings: Settings) -> None:
    with pytest.raises(RefusedError, match="runs already"):
        async with running(settings):
            pass
    assert "Accepts builds" in await answer(settings, "status")


async def test_a_port_that_is_taken_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="--port"):
        async with running(settings_of(tmp_path / "other", port=settings.port)):
            pass


async def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="too long"):
        async with running(settings_of(tmp_path / ("long" * 25))):
            pass


async def test_a_damaged_identity_is_refused_and_not_replaced(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    settings.folder.root.mkdir(mode=0o700)
    settings.folder.identity.write_text("nonsense")
    with pytest.raises(RefusedError, match="damaged"):
        async with running(settings):
            pass
    assert settings.folder.identity.read_text() == "nonsense"


@pytest.mark.parametrize("command", [["status"], ["guests"], ["pair"], ["clean"]])
def test_without_a_running_builder_a_command_says_so(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(main, ["--data", str(tmp_path), *command])
    assert result.exit_code == 1
    assert "No builder runs with" in result.output
