"""The command: what its options and variables mean, and what it says when it fails."""

import asyncio
import logging
import os
from pathlib import Path
import runpy
import signal
from types import SimpleNamespace
from typing import NoReturn

import aiohttp
from aiohttp import web
from click.testing import CliRunner
from esphome_offload_builder import pairing, serve
from esphome_offload_builder.cli import main
from esphome_offload_builder.control_client import ControlClient
from esphome_offload_builder.log import log_to_stdout
from esphome_offload_builder.payloads import STATUS
from esphome_offload_builder.process import read_arguments
from esphome_offload_builder.settings import DataFolder, RefusedError, Settings, Supervisor
import pytest

from .running import free_port, settings_of

PIN = "ab" * 32
OTHER = "cd" * 32


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Return the settings of all runs, which do nothing."""
    found: list[Settings] = []

    def become(_program: str, argv: list[str]) -> None:
        # Everybody on this machine can read it.
        assert "secret" not in argv[-1]
        settings, verbose = read_arguments(argv[-1])
        assert not verbose
        found.append(settings)

    monkeypatch.setattr("os.execv", become)
    return found


def test_options_are_settings(tmp_path: Path, served: list[Settings]) -> None:
    pins = tmp_path / "pins"
    pins.write_text(f"{OTHER} # kitchen\n")
    argv = ["--data", str(tmp_path), "run", "--port", "17000", "--host", "::1", "--name", "attic"]
    argv += [
        "--slots",
        "3",
        "--disk",
        "7",
        "--ccache",
        "2",
        "--guest",
        PIN,
        "--guests-file",
        str(pins),
    ]
    result = CliRunner().invoke(main, [*argv, "--uncontained", "--no-announce"])
    assert result.exit_code == 0, result.output
    expected = Settings(
        DataFolder(tmp_path), "attic", 17000, "::1", 3, 7, 2, (PIN, OTHER), True, announce=False
    )
    assert served == [expected]


def test_variables_are_settings(tmp_path: Path, served: list[Settings]) -> None:
    variables = {
        "DATA": str(tmp_path),
        "PORT": "17000",
        "NAME": "attic",
        "SLOTS": "2",
        "GUESTS": f"{PIN} {OTHER}",
        "ANNOUNCE": "0",
    }
    env = {f"ESPHOME_OFFLOAD_{name}": value for name, value in variables.items()}
    result = CliRunner().invoke(main, ["run"], env=env)
    assert result.exit_code == 0, result.output
    expected = Settings(
        DataFolder(tmp_path), "attic", 17000, slots=2, guests=(PIN, OTHER), announce=False
    )
    assert served == [expected]


def test_options_in_a_file_give_way_to_all_others(tmp_path: Path, served: list[Settings]) -> None:
    options = tmp_path / "options.json"
    options.write_text('{"name": "attic", "slots": 3, "disk": 7, "port": null, "other": 1}')
    env = {
        "ESPHOME_OFFLOAD_DATA": str(tmp_path),
        "ESPHOME_OFFLOAD_OPTIONS_FILE": str(options),
        "ESPHOME_OFFLOAD_DISK": "8",
    }
    result = CliRunner().invoke(main, ["run", "--slots", "2"], env=env)
    assert result.exit_code == 0, result.output
    assert served == [Settings(DataFolder(tmp_path), "attic", slots=2, disk_gib=8)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read"),
        ("[]", "There are no options in"),
        (None, "cannot be read"),
        ('{"slots": 0}', "0 is not in the range"),
    ],
)
def test_options_that_are_none_are_refused(
    tmp_path: Path, served: list[Settings], content: str | None, why: str
) -> None:
    options = tmp_path / "options.json"
    if content is not None:
        options.write_text(content)
    result = CliRunner().invoke(main, ["--options-file", str(options), "run"])
    assert result.exit_code != 0
    assert why in result.output
    assert served == []


def test_supervisor_is_known_by_its_token(tmp_path: Path, served: list[Settings]) -> None:
    data = ["--data", str(tmp_path)]
    for env in (
        {},
        {"SUPERVISOR_TOKEN": "secret"},
        {"SUPERVISOR_TOKEN": "secret", "SUPERVISOR_API": "u/"},
    ):
        assert CliRunner().invoke(main, [*data, "run"], env=env).exit_code == 0
    assert [each.supervisor for each in served] == [
        None,
        Supervisor("http://supervisor", "secret"),
        Supervisor("u", "secret"),
    ]
    assert "secret" not in repr(served)


def test_it_is_a_module_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["esphome-offload-builder", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("esphome_offload_builder", run_name="__main__")
    assert ended.value.code == 0


async def test_sigterm_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(serve, "_end_at_the_latest", lambda: None)
    running = asyncio.create_task(serve._serve(settings_of(tmp_path)))
    async with asyncio.timeout(30):
        while "Ready" not in caplog.text:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert caplog.messages[-2:] == ["Stopping", "Stopped"]


async def test_what_refuses_to_start_is_stopped_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_end_at_the_latest", lambda: None)
    (tmp_path / "data" / "cache").mkdir(mode=0o755, parents=True)
    with pytest.raises(RefusedError):
        await serve._serve(settings_of(tmp_path, port=free_port()))


async def test_a_stop_that_takes_too_long_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(_code: int) -> None:
        loop.call_soon_threadsafe(ended.set)

    monkeypatch.setattr(serve, "os", SimpleNamespace(_exit=note))
    monkeypatch.setattr(serve, "STOP_TIMEOUT", 0.01)
    serve._end_at_the_latest()
    async with asyncio.timeout(10):
        await ended.wait()


def test_serving_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def close(work: object) -> None:
        work.close()  # type: ignore[attr-defined]

    monkeypatch.setattr(serve.asyncio, "run", close)
    serve.serve(settings_of(tmp_path), verbose=True)
    logger = logging.getLogger("esphome_offload_builder")
    assert logger.level == logging.DEBUG
    log_to_stdout(verbose=False)
    assert logger.level == logging.INFO
    logger.setLevel(logging.NOTSET)


async def test_on_a_terminal_the_time_left_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(pairing, "sys", terminal)
    window = {"code": "12345678", "seconds_left": 65, "tries_left": 3, "end": None}
    over = window | {"code": None, "end": "expired", "newest_guest": None}

    class Client:
        async def open_window(self) -> object:
            return window

        async def window(self) -> object:
            return over

    monkeypatch.setattr(pairing, "_EVERY", 0)
    assert not await pairing.show_code(Client())  # type: ignore[arg-type]
    output = capsys.readouterr().out
    assert "Time left: 1:05   Tries left: 3" in output
    assert "The time is over." in output


async def test_an_answer_that_makes_no_sense_is_said(tmp_path: Path) -> None:
    async def broken(_request: web.Request) -> NoReturn:
        raise web.HTTPInternalServerError

    application = web.Application()
    application.router.add_get(STATUS, broken)
    runner = web.AppRunner(application)
    await runner.setup()
    folder = DataFolder(tmp_path)
    await web.UnixSite(runner, str(folder.control)).start()
    try:
        with pytest.raises(RefusedError, match="did not answer"):
            await ControlClient(folder).status()
        with pytest.raises(RefusedError, match="no such guest"):
            await ControlClient(folder).remove_guest(PIN)
    finally:
        await runner.cleanup()


async def test_another_users_builder_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(_self: object, request: aiohttp.ClientRequest, *_: object) -> NoReturn:
        error = PermissionError(13, "Permission denied")
        raise aiohttp.ClientConnectorError(request.connection_key, error)

    monkeypatch.setattr(aiohttp.UnixConnector, "_create_connection", denied)
    with pytest.raises(RefusedError, match="another user"):
        await ControlClient(DataFolder(tmp_path)).status()
