"""Commands: how they start and end, and that nothing of them is left."""

import asyncio
import fcntl
import gc
import os
from pathlib import Path
import sys

import pytest

from custom_components.esphome_offload.engine.build.process import processes as processes_module
from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    LaunchError,
    Processes,
    ProcessResult,
    TreeLockedError,
)

from .processes import (
    FAMILY,
    LEAVES_A_FAMILY,
    STAYS,
    STUBBORN,
    alive,
    cancel,
    descriptors,
    no_descriptors,
    our_children,
    pids,
    python,
    shell,
)


async def test_exit_code_and_output_are_reported(processes: Processes, tmp_path: Path) -> None:
    result, output = await processes.capture(
        shell("echo out; echo err >&2; exit 7", tmp_path), timeout=30
    )
    assert result == ProcessResult(exit_code=7)
    assert output == "out\nerr\n"


@pytest.mark.usefixtures("measured_launcher")
async def test_the_signal_that_ended_a_command_is_reported(
    processes: Processes, tmp_path: Path
) -> None:
    result = await processes.run(shell("kill -SEGV $$", tmp_path))
    assert result == ProcessResult(exit_code=139, signal=11)


async def test_the_environment_is_what_was_given(processes: Processes, tmp_path: Path) -> None:
    program = "import os; print(sorted(os.environ.items()))"
    _, output = await processes.capture(
        Command(
            argv=(sys.executable, "-I", "-S", "-c", program),
            cwd=tmp_path,
            env={"LC_ALL": "C.UTF-8", "A": "ä b\n\udcff"},
        ),
        timeout=30,
    )
    assert dict(eval(output)) == {"LC_ALL": "C.UTF-8", "A": "ä b\n\udcff"}


async def test_a_program_is_found_on_the_path_that_was_given(
    processes: Processes, tmp_path: Path
) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found in $PWD\n")
    program.chmod(0o755)
    command = Command(argv=("only-here",), cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert (await processes.capture(command, timeout=30))[1] == f"found in {tmp_path}\n"


async def test_a_command_has_no_input_and_no_descriptors_of_ours(
    processes: Processes, tmp_path: Path
) -> None:
    held = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        program = (
            "import os; print(os.readlink('/proc/self/fd/0'), repr(os.read(0, 1)),"
            " [fd for fd in range(3, 1024) if os.path.exists(f'/proc/self/fd/{fd}')])"
        )
        _, output = await processes.capture(python(program, cwd=tmp_path), timeout=30)
    finally:
        os.close(held)
    assert output == "/dev/null b'' []\n"


async def test_a_command_has_default_signal_handling(processes: Processes, tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and what is ignored stays so across exec."""
    _, output = await processes.capture(
        shell(
            "while read line; do case $line in Sig[BI]*) echo $line;; esac; done < /proc/self/status",
            tmp_path,
        ),
        timeout=30,
    )
    assert {line.split()[1] for line in output.splitlines()} == {"0" * 16}


async def test_niceness_and_oom_score_are_set_on_the_command_only(
    processes: Processes, tmp_path: Path
) -> None:
    program = (
        "import os; f = lambda pid: (os.getpriority(os.PRIO_PROCESS, pid),"
        " int(open(f'/proc/{pid}/oom_score_adj').read()));"
        " print(f(os.getpid()), f(os.getppid()))"
    )
    command = python(program, cwd=tmp_path, nice=5, oom_score_adj=900)
    _, output = await processes.capture(command, timeout=30)
    (nice, score), launcher = eval(output.replace(") (", "), ("))
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert nice == min(ours + 5, 19)
    assert score == 900
    assert launcher == (ours, _oom_score())


@pytest.mark.usefixtures("measured_launcher")
async def test_a_program_that_is_not_there_is_a_launch_error(
    processes: Processes, tmp_path: Path
) -> None:
    with pytest.raises(LaunchError, match=r"No such file or directory.*missing"):
        await processes.run(Command(argv=("/missing",), cwd=tmp_path, env={}))
    with pytest.raises(LaunchError, match=r"No such file or directory.*nowhere"):
        await processes.run(shell("true", tmp_path / "nowhere"))


async def test_a_machine_without_room_for_a_process_is_a_launch_error(
    processes: Processes, tmp_path: Path
) -> None:
    with no_descriptors(), pytest.raises(LaunchError, match="Too many open files"):
        await processes.run(shell("true", tmp_path))


@pytest.mark.usefixtures("measured_launcher")
async def test_cancelling_ends_every_descendant_before_it_returns(
    processes: Processes, tmp_path: Path
) -> None:
    command = python(LEAVES_A_FAMILY + STAYS, str(tmp_path), STUBBORN, cwd=tmp_path)
    task = asyncio.create_task(processes.run(command))
    family = await pids(tmp_path, (*FAMILY, STUBBORN))
    assert all(map(alive, family))
    # Five seconds are promised; a busy machine takes longer, and the family would stay for good.
    async with asyncio.timeout(30):
        await cancel(task)
    assert not any(map(alive, family))


async def test_cancelling_again_does_not_cut_the_ending_short(
    processes: Processes, tmp_path: Path, impatient: None
) -> None:
    command = python(LEAVES_A_FAMILY + STAYS, str(tmp_path), STUBBORN, cwd=tmp_path)
    task = asyncio.create_task(processes.run(command))
    family = await pids(tmp_path, (*FAMILY, STUBBORN))
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.1)
    await cancel(task)
    assert not any(map(alive, family))


async def test_cancelling_at_any_moment_of_the_start_leaves_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    started = tmp_path / "main"
    command = python(
        f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); {STAYS}",
        cwd=tmp_path,
    )
    for turns in (0, 1, 2, 3, 5, 8, 13):
        task = asyncio.create_task(processes.run(command))
        for _ in range(turns):
            await asyncio.sleep(0)
        await cancel(task)
    await processes.aclose()
    assert not started.exists() or not alive(int(started.read_text()))
    assert not our_children()


@pytest.mark.usefixtures("measured_launcher")
async def test_what_outlives_the_command_is_ended_too(processes: Processes, tmp_path: Path) -> None:
    command = python(LEAVES_A_FAMILY + "sys.exit(3)", str(tmp_path), cwd=tmp_path)
    task = asyncio.create_task(processes.run(command))
    family = await pids(tmp_path)
    assert await task == ProcessResult(exit_code=3)
    assert not any(map(alive, family))


async def test_a_timeout_ends_everything_and_says_so(processes: Processes, tmp_path: Path) -> None:
    command = python(LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path)
    task = asyncio.create_task(processes.capture(command, timeout=1.5))
    family = await pids(tmp_path)
    with pytest.raises(TimeoutError, match="longer than 2 s"):
        await task
    assert not any(map(alive, family))


async def test_closing_ends_what_runs(tmp_path: Path) -> None:
    processes = Processes()
    command = python(LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path)
    task = asyncio.create_task(processes.run(command))
    family = await pids(tmp_path)
    await processes.aclose()
    assert not any(map(alive, family))
    assert (await task).terminated


async def test_a_killed_launcher_leaves_nothing_either(
    processes: Processes, tmp_path: Path
) -> None:
    command = python(
        LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path, lock=tmp_path / "tree.lock"
    )
    task = asyncio.create_task(processes.run(command))
    family = await pids(tmp_path)
    (launcher,) = our_children()
    os.kill(launcher, 9)
    assert await task == ProcessResult(exit_code=137, signal=9, terminated=True)
    assert not any(map(alive, family))


@pytest.mark.usefixtures("measured_launcher")
async def test_commands_with_one_lock_run_one_after_the_other(
    processes: Processes, tmp_path: Path
) -> None:
    program = (
        "import os, sys, time; name = sys.argv[1];"
        "os.mkdir('alone'); time.sleep(0.1); os.rmdir('alone'); print(name)"
    )
    commands = [
        python(program, str(number), cwd=tmp_path, lock=tmp_path / "locks" / "tree.lock")
        for number in range(4)
    ]
    results = await asyncio.gather(
        *(processes.capture(command, timeout=60) for command in commands)
    )
    assert [result for result, _ in results] == [ProcessResult(exit_code=0)] * 4


@pytest.mark.usefixtures("measured_launcher")
async def test_a_command_that_waits_for_a_lock_can_be_cancelled(
    processes: Processes, tmp_path: Path
) -> None:
    lock = tmp_path / "tree.lock"
    first = asyncio.create_task(
        processes.run(python(LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path, lock=lock))
    )
    family = await pids(tmp_path)
    second = asyncio.create_task(processes.run(python("open('ran', 'w')", cwd=tmp_path, lock=lock)))
    while len(our_children()) < 2:  # noqa: ASYNC110 no event crosses
        await asyncio.sleep(0.01)
    await cancel(second)
    assert all(map(alive, family))
    await cancel(first)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("measured_launcher")
async def test_a_lock_that_is_never_free_is_an_error(processes: Processes, tmp_path: Path) -> None:
    lock = tmp_path / "tree.lock"
    first = asyncio.create_task(
        processes.run(python(LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path, lock=lock))
    )
    await pids(tmp_path)
    with pytest.raises(TreeLockedError, match=r"tree\.lock is in use"):
        await processes.run(python("", cwd=tmp_path, lock=lock, lock_timeout=0.2))
    await cancel(first)


async def test_nothing_is_leaked(processes: Processes, tmp_path: Path) -> None:
    async def use() -> None:
        await processes.run(shell("echo", tmp_path))
        await processes.run_lines(shell("echo x; sleep 60", tmp_path), lambda _: None, until=bool)
        await processes.aclose()

    await use()
    gc.collect()
    before = descriptors()
    tasks = len(asyncio.all_tasks())
    for _ in range(3):
        await use()
    gc.collect()
    await asyncio.sleep(0)
    assert descriptors() == before
    assert len(asyncio.all_tasks()) == tasks
    assert not our_children()


def _oom_score() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


async def test_without_a_lease_nothing_is_waited_for(processes: Processes) -> None:
    assert await processes.wait_for_leftovers(timeout=0.0)


async def test_to_wait_for_leftovers_makes_no_cache(tmp_path: Path) -> None:
    """It would be open to other users."""
    processes = Processes(tmp_path / "cache" / "lease")
    assert await processes.wait_for_leftovers(timeout=0.0)
    assert not (tmp_path / "cache").exists()


async def test_leftovers_that_stay_are_waited_for_no_longer_than_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lease = tmp_path / "cache" / "lease"
    lease.parent.mkdir()
    with lease.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert not await Processes(lease).wait_for_leftovers(timeout=0.0)
        assert "have not ended" in caplog.text
        waiting = asyncio.create_task(Processes(lease).wait_for_leftovers())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await Processes(lease).wait_for_leftovers(timeout=0.0)


async def test_a_launcher_that_breaks_is_said_in_its_own_words(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "import sys; sys.stderr.write('no launcher here')"
    monkeypatch.setattr(processes_module, "_LAUNCHER", broken)
    with pytest.raises(LaunchError, match="no launcher here"):
        await processes.run(shell("true", tmp_path))
