"""Nothing is left of calls that end in any way, nor of warm Pythons."""

import asyncio
import os
from pathlib import Path
import signal
import sys
import textwrap
from typing import Any

import pytest

from custom_components.esphome_offload.engine.build.process import warm as warm_module
from custom_components.esphome_offload.engine.build.process.launching import connect
from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    Processes,
    ProcessResult,
)
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons

from ..processes import (
    FAMILY,
    LEAVES_A_FAMILY,
    STAYS,
    alive,
    descriptors,
    gone,
    no_descriptors,
    pids,
)
from .toolchain import Toolchain, answer, pid_of, remake, run

REPOSITORY = Path(__file__).parents[4]


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


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5, 6])
async def test_a_launcher_whose_call_is_cancelled_while_it_is_connected_ends(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain, turns: int
) -> None:
    await run(processes, toolchain.command())
    before = descriptors()
    started = await pythons.start((str(toolchain.python), "-P"))
    assert started is not None
    process, pipes = started
    task = asyncio.create_task(connect(process, pipes))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(30):
        await process.wait()
    assert descriptors() == before


async def test_without_descriptors_for_a_call_a_warm_python_stays_idle(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    await run(processes, toolchain.command())
    (warm,) = pythons._warm.values()
    before = descriptors()
    for enough_for in range(6):
        with no_descriptors(but=enough_for):
            assert await pythons.start((str(toolchain.python), "-P")) is None
        assert not warm.starting
        assert descriptors() == before


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
