"""A call of ESPHome in a warm Python is as in a new one."""

import asyncio
from pathlib import Path
import signal
import textwrap

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    Processes,
    ProcessResult,
)
from custom_components.esphome_offload.engine.build.process.reach import reach
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains

from ..conftest import uv_of
from ..marks import needs_landlock
from .toolchain import Toolchain, answer, pid_of, run

REPOSITORY = Path(__file__).parents[4]
CACHE = REPOSITORY / ".cache" / "test-toolchains"
VERSION = "2026.10.0"


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


async def test_garbage_is_collected_in_long_calls_only(
    processes: Processes, toolchain: Toolchain
) -> None:
    program = textwrap.dedent("""
        import gc, sys
        kept = [[] for _ in range(int(sys.argv[1]))]
        print(sum(each["collections"] for each in gc.get_stats()) > int(sys.argv[2]))
        """)
    # What the warm Python itself has collected before it was frozen counts, too.
    before = "import gc; print(sum(each['collections'] for each in gc.get_stats()))"
    _result, collected = await run(processes, toolchain.program(before))
    for count, expected in ((30_000, "False\n"), (300_000, "True\n")):
        command = toolchain.program(program, str(count), collected.strip())
        assert await run(processes, command) == (ProcessResult(0), expected)


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
