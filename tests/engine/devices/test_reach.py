"""What the expressions of a configuration reach while ESPHome is asked about it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
import socket

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.config_hash import ConfigHashes
from custom_components.esphome_offload.engine.build.launcher import landlock
from custom_components.esphome_offload.engine.build.process import reach as module
from custom_components.esphome_offload.engine.build.process.containment import Rules
from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    LaunchError,
    NoProcessError,
    Processes,
    TreeLockedError,
)
from custom_components.esphome_offload.engine.build.process.reach import (
    can_contain,
    reach,
    run_within,
)
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector

from ..build.conftest import uv_of
from ..build.marks import needs_landlock
from .folder import CACHE, KITCHEN, VERSION, write

slow = pytest.mark.slow
pytestmark = pytest.mark.usefixtures("socket_enabled")

# Any object leads to all of Python.
EXPRESSION = (
    "${{ (''.__class__.__mro__[1].__subclasses__() | selectattr('__name__', 'equalto', '_wrap_close')"
    " | first).__init__.__globals__['__builtins__']['eval'](\"{code}\") }}"
)
READ = "open('{home}/.storage/auth').read()"
WRITE = "open('{home}/esphome/written', 'w').write('x')"
START = "__import__('subprocess').run(['touch', '{home}/started']).returncode"
CONNECT = "'sent %d' % __import__('socket').create_connection(('127.0.0.1', {port})).send(b'x')"


def evil(code: str) -> str:
    comment = EXPRESSION.format(code=code).replace("'", "''")
    return f"esphome:\n  name: evil\n  comment: '{comment}'\nhost:\n"


@dataclass
class Home:
    """Home Assistant's folder with a configuration for each attack."""

    folder: Path
    inspector: EsphomeInspector
    hashes: ConfigHashes
    listening: socket.socket

    async def ask(self, *, fetch: bool = False) -> dict[str, str | None]:
        """Return what became of each, as the comments of its device."""
        names = sorted(path.name for path in (self.folder / "esphome").glob("*.yaml"))
        answers = await self.inspector.ask(self.folder / "esphome", names, fetch=fetch)
        assert answers.keys() == set(names)
        return {name: answer.comment for name, answer in answers.items()}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    layout = CacheLayout(CACHE)
    layout.make()
    processes = Processes()
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.ensure(VERSION, lambda _lines: None)
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        write(home, {".storage/auth": "token 4711", "common.yaml": "esphome: {comment: around}\n"})
        inside = {"home": home, "port": listening.getsockname()[1]}
        attacks = {"read": READ, "write": WRITE, "start": START, "connect": CONNECT}
        write(
            home / "esphome",
            {f"{name}.yaml": evil(code.format(**inside)) for name, code in attacks.items()}
            | {"kitchen.yaml": KITCHEN + "packages: [!include ../common.yaml]\n"},
        )
        inspector = EsphomeInspector(layout, processes, toolchains, home)
        hashes = ConfigHashes(layout, processes, toolchains, home)
        yield Home(home, inspector, hashes, listening)
    await processes.aclose()


def uncontained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_contain", lambda: False)


@slow
@needs_landlock
async def test_an_attack_reaches_nothing_and_other_files_are_answered(home: Home) -> None:
    comments = await home.ask()
    assert comments.pop("kitchen.yaml") == "around"
    # That something went wrong is an answer as well.
    assert comments.pop("start.yaml") in (None, "1")
    assert set(comments.values()) == {None}
    names = {path.name for path in home.folder.iterdir()}
    assert names == {".storage", "common.yaml", "esphome"}
    assert not (home.folder / "esphome" / "written").exists()


@slow
@needs_landlock
async def test_what_fetches_packages_has_the_network_and_nothing_else(home: Home) -> None:
    comments = await home.ask(fetch=True)
    assert comments["connect.yaml"] == "sent 1"
    assert comments["read.yaml"] is None
    assert not (home.folder / "esphome" / "written").exists()


@slow
@needs_landlock
async def test_a_hash_that_is_asked_for_in_the_background_reaches_nothing_either(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = home.hashes.calculate("kitchen.yaml", home.folder / "esphome", VERSION, "UTC")
    config_hash = await asked
    assert config_hash is not None
    for name in ("read.yaml", "write.yaml"):
        assert await home.hashes.calculate(name, home.folder / "esphome", VERSION, "UTC") is None
    assert not (home.folder / "esphome" / "written").exists()
    uncontained(monkeypatch)
    write_hash = home.hashes.calculate("write.yaml", home.folder / "esphome", VERSION, "UTC")
    assert await write_hash is not None
    assert (home.folder / "esphome" / "written").exists()


@slow
async def test_where_nothing_contains_it_the_attack_is_real_but_for_the_network(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncontained(monkeypatch)
    comments = await home.ask()
    assert comments == {
        "connect.yaml": None,
        "kitchen.yaml": "around",
        "read.yaml": "token 4711",
        "start.yaml": "0",
        "write.yaml": "1",
    }
    assert (home.folder / "started").exists()
    assert (home.folder / "esphome" / "written").exists()


@slow
@needs_landlock
async def test_rules_that_cannot_be_kept_are_done_without(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    command = home.inspector._command

    def impossible(question: object) -> Command:
        rules = reach(home.folder, needed=(), write=[home.folder / "missing"])
        return replace(command(question), rules=rules)  # type: ignore[arg-type]

    monkeypatch.setattr(home.inspector, "_command", impossible)
    assert (await home.ask())["kitchen.yaml"] == "around"
    assert "cannot be contained" in caplog.text


class Launcher:
    """Refuses what has rules, or everything."""

    def __init__(self, error: LaunchError, *, always: bool = False) -> None:
        self.error = error
        self.always = always
        self.ran: list[Command] = []

    async def run(self, command: Command) -> str:
        self.ran.append(command)
        if self.always or command.rules is not None:
            raise self.error
        return "ran"


COMMAND = Command(argv=("x",), cwd=Path("/"), env={}, rules=Rules())


async def test_what_cannot_be_contained_runs_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    launcher = Launcher(LaunchError("no such folder"))
    assert await run_within(launcher.run, COMMAND) == "ran"
    assert [each.rules for each in launcher.ran] == [Rules(), None]
    assert "cannot be contained: no such folder" in caplog.text


@pytest.mark.parametrize(
    ("error", "command", "runs"),
    [
        (LaunchError("x"), COMMAND, 2),
        (LaunchError("x"), replace(COMMAND, rules=None), 1),
        # Another command has its folder; it was waited for.
        (TreeLockedError("x"), COMMAND, 1),
        # It could be contained: a moment later it may be.
        (NoProcessError("x"), COMMAND, 1),
    ],
)
async def test_what_cannot_run_at_all_is_told(
    error: LaunchError, command: Command, runs: int
) -> None:
    launcher = Launcher(error, always=True)
    with pytest.raises(LaunchError):
        await run_within(launcher.run, command)
    assert len(launcher.ran) == runs


@needs_landlock
def test_all_is_visible_but_what_is_private_in_the_folder_of_home_assistant(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    names = (".storage/auth", "secrets.yaml", "home-assistant_v2.db", "esphome/a.yaml", ".cache/a")
    write(home, dict.fromkeys(names, ""))
    (home / "link").symlink_to(".storage")
    (tmp_path / "share").mkdir()
    cache = home / ".cache" / "a"
    rules = reach(home, needed=(cache, tmp_path), write=[tmp_path])
    assert rules is not None
    in_home = {path.name for path in rules.run if path.is_relative_to(home)}
    assert in_home == {"esphome", "secrets.yaml", "a"}
    assert tmp_path / "share" in rules.run
    # None that holds the private ones, and no way to other processes.
    whole = {Path("/"), *home.parents, home, Path("/proc"), Path("/dev"), Path("/run")}
    assert whole.isdisjoint(rules.run)
    assert rules.write == (tmp_path,)


@needs_landlock
def test_without_a_folder_of_home_assistant_all_files_are_visible(tmp_path: Path) -> None:
    rules = reach(None, needed=(), write=())
    assert rules is not None
    assert Path("/usr") in rules.run


def test_a_kernel_without_landlock_contains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> int:
        raise OSError

    monkeypatch.setattr(landlock, "abi", missing)
    assert not can_contain()
    assert reach(None, needed=(), write=()) is None
