"""Calls of ESPHome in a Python that has it imported: as in a new one, and nothing is left."""

import asyncio
from collections.abc import AsyncIterator, Callable
import json
import os
from pathlib import Path
import signal
import sys
import sysconfig
import textwrap
from typing import Any
import venv

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process import warm as warm_module
from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    Processes,
    ProcessResult,
)
from custom_components.esphome_offload.engine.build.process.reach import reach
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains

from .conftest import uv_of
from .marks import needs_landlock
from .measured import measured
from .processes import FAMILY, LEAVES_A_FAMILY, STAYS, alive, gone, pids

REPOSITORY = Path(__file__).parents[3]
CACHE = REPOSITORY / ".cache" / "test-toolchains"
VERSION = "2026.10.0"

# An ESPHome of which only matters when it is imported, and what a call can see of its process.
ESPHOME = """
import json, os, sys, time
def main():
    import esphome.config
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    esphome.config.calls += 1
    print(json.dumps({
        "argv": sys.argv, "cwd": os.getcwd(), "variable": os.environ.get("VARIABLE"),
        "names": sorted(os.environ), "zone": time.tzname, "stdin": sys.stdin.read(),
        "calls": esphome.config.calls, "open": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
        "nice": os.nice(0), "name": __name__,
    }))
    if kind == "refuse":
        return 2
    if kind == "say":
        sys.exit("what is wrong")
    if kind == "raise":
        raise ValueError("a defect")
    if kind == "killed":
        os.kill(os.getpid(), 9)
    if kind == "at-exit":
        import atexit, threading
        atexit.register(print, "registered")
        threading.Timer(0.05, print, ["a thread"]).start()
if __name__ == "__main__":
    sys.exit(main())
"""
CONFIG = """
import os
calls = 0
with open(os.path.join(os.path.dirname(__file__), "imports"), "a") as file:
    file.write("x")
"""


class Toolchain:
    """A virtual environment with that ESPHome."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.folder = folder
        self.python = folder / "bin" / "python"
        version = sysconfig.get_python_version()
        self.package = folder / "lib" / f"python{version}" / "site-packages" / "esphome"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        (self.package / "__main__.py").write_text(ESPHOME)
        (self.package / "config.py").write_text(CONFIG)

    @property
    def imports(self) -> int:
        """How many Pythons imported ESPHome's larger half."""
        return len((self.package / "imports").read_text())

    def command(self, *arguments: str, **changes: Any) -> Command:
        settings: dict[str, Any] = {
            "argv": (str(self.python), "-P", "-m", "esphome", *arguments),
            "cwd": self.folder,
            "env": {
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "TZ": "Asia/Tokyo",
                "VARIABLE": "from the call",
            },
            "nice": 0,
            "warm": (str(self.python), "-P"),
        }
        return Command(**settings | changes)

    def program(self, text: str, *arguments: str) -> Command:
        return self.command(argv=(str(self.python), "-P", "-c", text, *arguments))


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    return Toolchain(tmp_path / "toolchain")


@pytest.fixture
def pythons(monkeypatch: pytest.MonkeyPatch) -> WarmPythons:
    monkeypatch.setattr(warm_module, "_PROGRAM", measured(warm_module._PROGRAM))
    return WarmPythons()


@pytest.fixture
async def processes(pythons: WarmPythons) -> AsyncIterator[Processes]:
    processes = Processes(warm=pythons)
    yield processes
    await processes.aclose()


def pid_of(pythons: WarmPythons) -> int:
    (warm,) = pythons._warm.values()
    return warm.process.pid


async def run(processes: Processes, command: Command) -> tuple[ProcessResult, str]:
    return await processes.capture(command, timeout=60)


async def answer(processes: Processes, command: Command) -> dict[str, Any]:
    result, output = await run(processes, command)
    assert result.exit_code == 0, output
    answer: dict[str, Any] = json.loads(output)
    return answer


# A call is as in a new Python


async def test_a_call_sees_what_it_would_see_in_a_new_python(
    processes: Processes, toolchain: Toolchain
) -> None:
    warm = await answer(processes, toolchain.command("bundle", "kitchen.yaml"))
    cold = await answer(Processes(), toolchain.command("bundle", "kitchen.yaml"))
    assert warm["argv"][1:] == cold["argv"][1:] == ["bundle", "kitchen.yaml"]
    for key in ("argv", "cwd", "variable", "names", "zone", "stdin", "nice", "name"):
        assert warm[key] == cold[key], key
    assert warm["zone"] == ["JST", "JST"]
    assert warm["open"] == cold["open"] == ["0", "1", "2"], "nothing else is inherited"


async def test_esphome_is_imported_once_and_no_call_sees_what_another_changed(
    processes: Processes, toolchain: Toolchain
) -> None:
    answers = [await answer(processes, toolchain.command()) for _ in range(3)]
    assert [each["calls"] for each in answers] == [1, 1, 1]
    assert toolchain.imports == 1


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("refuse", 2, ""),
        ("say", 1, "what is wrong"),
        ("raise", 1, "ValueError: a defect"),
        ("at-exit", 0, "a thread\nregistered"),
    ],
)
async def test_a_call_ends_as_in_a_new_python(
    processes: Processes, toolchain: Toolchain, kind: str, code: int, said: str
) -> None:
    results = [await run(each, toolchain.command(kind)) for each in (processes, Processes())]
    for result, output in results:
        assert result == ProcessResult(exit_code=code)
        assert said in output


async def test_a_call_that_a_signal_ends_says_which(
    processes: Processes, toolchain: Toolchain
) -> None:
    result, _output = await run(processes, toolchain.command("killed"))
    assert result == ProcessResult(exit_code=137, signal=signal.SIGKILL)


async def test_scripts_and_programs_run_as_well(
    processes: Processes, toolchain: Toolchain, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print(__name__, sys.argv[1:]); sys.exit(5)")
    command = toolchain.command(argv=(str(toolchain.python), "-P", str(script), "one"))
    assert await run(processes, command) == (ProcessResult(5), "__main__ ['one']\n")
    program = toolchain.program("import sys; print(__name__, sys.argv)", "two")
    assert await run(processes, program) == (ProcessResult(0), "__main__ ['-c', 'two']\n")


async def test_calls_at_the_same_time_do_not_wait_for_each_other(
    processes: Processes, toolchain: Toolchain, tmp_path: Path
) -> None:
    meeting = textwrap.dedent("""
        import os, sys, time
        open(sys.argv[1] + str(os.getpid()), "w").close()
        while len(os.listdir(sys.argv[1])) < 3:
            time.sleep(0.01)
        """)
    folder = tmp_path / "meeting"
    folder.mkdir()
    command = toolchain.program(meeting, f"{folder}/")
    results = await asyncio.gather(*(run(processes, command) for _ in range(3)))
    assert [result.exit_code for result, _output in results] == [0, 0, 0]


# Nothing is left


async def test_cancelling_a_call_ends_all_that_it_started(
    processes: Processes, toolchain: Toolchain, tmp_path: Path
) -> None:
    task = asyncio.create_task(
        run(processes, toolchain.program(LEAVES_A_FAMILY + STAYS, str(tmp_path)))
    )
    family = await pids(tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(map(alive, family)), "before the cancellation returns"
    assert (await answer(processes, toolchain.command()))["calls"] == 1


async def test_the_warm_python_that_is_killed_takes_its_calls_along(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain, tmp_path: Path
) -> None:
    task = asyncio.create_task(
        run(processes, toolchain.program(LEAVES_A_FAMILY + STAYS, str(tmp_path)))
    )
    family = await pids(tmp_path, FAMILY)
    os.kill(pid_of(pythons), signal.SIGKILL)
    result, _output = await task
    assert result.exit_code != 0
    await gone(*family)
    assert (await answer(processes, toolchain.command()))["calls"] == 1, "the next has another"


async def starting(
    processes: Processes, pythons: WarmPythons, command: Command
) -> asyncio.Task[Any]:
    """Return a call that waits for its launcher, because the warm Python does not move."""
    os.kill(pid_of(pythons), signal.SIGSTOP)
    task = asyncio.create_task(run(processes, command))
    (warm,) = pythons._warm.values()
    async with asyncio.timeout(30):
        while not warm.starting:  # noqa: ASYNC110 nothing notifies
            await asyncio.sleep(0.01)
    return task


async def test_a_call_that_is_cancelled_before_it_has_a_launcher_runs_nothing(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain, tmp_path: Path
) -> None:
    await run(processes, toolchain.command())
    ran = tmp_path / "ran"
    task = await starting(
        processes, pythons, toolchain.program("import sys; open(sys.argv[1], 'w')", str(ran))
    )
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.kill(pid_of(pythons), signal.SIGCONT)
    # In the same Python, which has dealt with the cancelled one before.
    assert (await answer(processes, toolchain.command()))["calls"] == 1
    assert toolchain.imports == 1
    assert not ran.exists()


async def test_a_call_after_a_cancelled_one_has_a_launcher_of_its_own(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    await run(processes, toolchain.command())
    first = await starting(processes, pythons, toolchain.program("print('first')"))
    second = asyncio.create_task(run(processes, toolchain.program("print('second')")))
    (warm,) = pythons._warm.values()
    async with asyncio.timeout(30):
        while len(warm.starting) < 2:  # noqa: ASYNC110 nothing notifies
            await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait({first})
    os.kill(pid_of(pythons), signal.SIGCONT)
    assert await second == (ProcessResult(0), "second\n")


async def test_a_call_in_a_toolchain_that_is_made_anew_goes_on(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain, tmp_path: Path
) -> None:
    waits = (
        "import os, sys, time\n"
        "open(sys.argv[1] + '/began', 'w').close()\n"
        "while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.01)\n"
        "print('done')"
    )
    task = asyncio.create_task(run(processes, toolchain.program(waits, str(tmp_path))))
    async with asyncio.timeout(30):
        while not (tmp_path / "began").exists():  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    former = pid_of(pythons)
    remake(toolchain)
    await answer(processes, toolchain.command())
    assert pid_of(pythons) != former
    (tmp_path / "go").touch()
    assert await task == (ProcessResult(0), "done\n")
    await gone(former)


async def test_a_closed_pipe_is_an_error_as_in_a_new_python(
    processes: Processes, toolchain: Toolchain
) -> None:
    program = textwrap.dedent("""
        import os
        read, write = os.pipe()
        os.close(read)
        try:
            os.write(write, b"x")
        except BrokenPipeError:
            print("handled")
        """)
    for each in (processes, Processes()):
        assert await run(each, toolchain.program(program)) == (ProcessResult(0), "handled\n")


async def test_a_call_whose_warm_python_is_killed_before_it_has_a_launcher_is_made_anyway(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    await run(processes, toolchain.command())
    task = await starting(processes, pythons, toolchain.program("print('made')"))
    os.kill(pid_of(pythons), signal.SIGKILL)
    assert await task == (ProcessResult(0), "made\n")


async def test_a_warm_python_that_does_not_end_is_killed(
    processes: Processes,
    pythons: WarmPythons,
    toolchain: Toolchain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(warm_module, "_END_TIMEOUT", 0.1)
    await run(processes, toolchain.command())
    pid = pid_of(pythons)
    os.kill(pid, signal.SIGSTOP)
    await processes.aclose()
    await gone(pid)


async def test_a_killed_launcher_is_noticed(
    processes: Processes, toolchain: Toolchain, tmp_path: Path
) -> None:
    task = asyncio.create_task(
        run(processes, toolchain.program(LEAVES_A_FAMILY + STAYS, str(tmp_path)))
    )
    family = await pids(tmp_path)
    (running,) = processes._running.values()
    running.process.kill()
    result, _output = await task
    assert result.terminated
    await gone(*family)


async def test_an_idle_one_ends_and_the_next_call_starts_another(
    toolchain: Toolchain,
) -> None:
    pythons = WarmPythons(idle=0.0)
    processes = Processes(warm=pythons)
    await answer(processes, toolchain.command())
    async with asyncio.timeout(30):
        while pythons._warm:  # noqa: ASYNC110 nothing notifies
            await asyncio.sleep(0.01)
    await answer(processes, toolchain.command())
    assert toolchain.imports == 2
    await processes.aclose()


async def test_closing_ends_it(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    await answer(processes, toolchain.command())
    pid = pid_of(pythons)
    await processes.aclose()
    await gone(pid)


async def test_it_ends_with_the_program_that_started_it(toolchain: Toolchain) -> None:
    parent = textwrap.dedent("""
        import asyncio, sys
        from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
        async def main():
            pythons = WarmPythons()
            await pythons.start((sys.argv[1], "-P"))
            (warm,) = pythons._warm.values()
            print(warm.process.pid, flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
        """)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        parent,
        str(toolchain.python),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert alive(pid)
    process.kill()
    await process.wait()
    await gone(pid)


# Where it cannot be had, or must not be used


def break_import(toolchain: Toolchain) -> None:
    (toolchain.package / "config.py").write_text("import os; os._exit(3)")


def remove_environment(toolchain: Toolchain) -> None:
    (toolchain.folder / "pyvenv.cfg").unlink()


@pytest.mark.parametrize("harm", [break_import, remove_environment])
async def test_without_one_a_call_gets_a_python_of_its_own(
    processes: Processes,
    pythons: WarmPythons,
    toolchain: Toolchain,
    harm: Callable[[Toolchain], None],
) -> None:
    harm(toolchain)
    for _ in range(2):
        result, output = await run(processes, toolchain.program("print(6 * 7)"))
        assert (result.exit_code, output) == (0, "42\n")
    assert not pythons._warm


async def test_one_that_cannot_start_is_not_started_again_until_it_is_made_anew(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    config = toolchain.package / "config.py"
    config.write_text(CONFIG + "os._exit(3)\n")
    for _ in range(2):
        await run(processes, toolchain.program("pass"))
    assert toolchain.imports == 1

    config.write_text(CONFIG)
    remake(toolchain)
    await answer(processes, toolchain.command())
    assert pythons._warm


def remake(toolchain: Toolchain) -> None:
    settings = toolchain.folder / "pyvenv.cfg"
    again = settings.with_suffix(".new")
    again.write_text(settings.read_text())
    again.rename(settings)


async def test_a_toolchain_that_was_made_anew_is_imported_anew(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    await answer(processes, toolchain.command())
    former = pid_of(pythons)
    remake(toolchain)
    await answer(processes, toolchain.command())
    assert toolchain.imports == 2
    await gone(former)


async def test_there_are_two_at_most(
    processes: Processes, pythons: WarmPythons, tmp_path: Path
) -> None:
    toolchains = [Toolchain(tmp_path / str(number)) for number in range(3)]
    for toolchain in toolchains:
        await answer(processes, toolchain.command())
    assert [each[0] for each in pythons._warm] == [
        str(toolchain.python) for toolchain in toolchains[1:]
    ]


async def test_commands_that_do_not_name_it_never_use_it(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    """Such as those of guests."""
    await run(processes, toolchain.command(warm=None))
    assert not pythons._warm


@needs_landlock
async def test_contained_commands_are_contained_in_it(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "write").mkdir(parents=True)
    (home / ".storage").mkdir()
    (home / ".storage" / "auth").write_text("secret")
    program = (
        "import os, sys\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(open(path, 'a' if 'write' in path else 'r').fileno())\n"
        "    except PermissionError:\n"
        "        print('denied')\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
    )
    paths = [str(home / name) for name in ("write/one", ".storage/auth")]
    rules = reach(home, needed=toolchain.python.resolve().parents[1:2], write=(home / "write",))
    argv = toolchain.program(program, *paths).argv
    _result, output = await run(processes, toolchain.command(argv=argv, rules=rules))
    assert pythons._warm
    opened, denied, descriptors = output.split()
    assert (int(opened), denied) == (3, "denied")
    # The standard ones and that of the list itself.
    assert int(descriptors) == 4

    # The next one is not.
    _result, output = await run(processes, toolchain.program(program, *paths))
    assert "denied" not in output


async def test_it_is_the_first_to_go_when_memory_ends_but_its_calls_are_as_they_say(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    program = "print(open('/proc/self/oom_score_adj').read())"
    command = toolchain.command(
        argv=(str(toolchain.python), "-P", "-c", program), oom_score_adj=300
    )
    _result, output = await run(processes, command)
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(output) == max(own, 300)
    assert int(Path(f"/proc/{pid_of(pythons)}/oom_score_adj").read_text()) == max(own, 800)


@pytest.mark.slow
@pytest.mark.usefixtures("socket_enabled")
async def test_no_component_is_imported_that_a_configuration_could_replace() -> None:
    """ESPHome takes a component of the configuration's instead of its own: unless it has it already."""
    components = "print(sorted(name for name in sys.modules if 'esphome.components' in name))"
    own = f"import sys, esphome.__main__, esphome.config; {components}"
    pythons = WarmPythons()
    processes = Processes(warm=pythons)
    layout = CacheLayout(CACHE)
    layout.make()
    toolchains = Toolchains(layout, processes, uv_of(layout))
    toolchain = await toolchains.ensure(VERSION, lambda _lines: None)

    def asking(program: str) -> Command:
        python = toolchain.python_command
        argv = (*python, "-c", program)
        return Command(argv=argv, cwd=Path("/"), env={"LANG": "C.UTF-8"}, warm=python)

    _result, expected = await run(Processes(), asking(own))
    _result, output = await run(processes, asking(f"import sys; {components}"))
    assert pythons._warm
    assert "esphome.components.substitutions" in expected
    assert output == expected
    await processes.aclose()
