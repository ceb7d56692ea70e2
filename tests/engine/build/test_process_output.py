"""What a command prints, line by line, and who reads it."""

import asyncio
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.process.processes import (
    Processes,
    ProcessResult,
)

from .processes import (
    FAMILY,
    LEAVES_A_FAMILY,
    LONG,
    STAYS,
    STUBBORN,
    alive,
    cancel,
    our_children,
    pids,
    python,
    shell,
)


async def test_lines_and_progress_are_handed_on(processes: Processes, tmp_path: Path) -> None:
    lines: list[str] = []
    progress: list[float] = []
    result = await processes.run_lines(
        shell(
            r"printf '\\033[32mINFO hello\\033[0m\n[1/4] CC\n[4/4] LD\nunfinished'; exit 1",
            tmp_path,
        ),
        lines.extend,
        progress.append,
    )
    assert result == ProcessResult(exit_code=1)
    assert lines == ["INFO hello", "[1/4] CC", "[4/4] LD", "unfinished"]
    assert progress[-1] == 100.0


async def test_an_accepted_line_returns_at_once_and_the_rest_is_ended_behind(
    processes: Processes, tmp_path: Path, impatient: None
) -> None:
    lines: list[str] = []
    command = python(
        LEAVES_A_FAMILY + "print('OTA successful\\nnever seen', flush=True);" + STAYS,
        str(tmp_path),
        STUBBORN,
        cwd=tmp_path,
    )
    result = await processes.run_lines(command, lines.extend, until="OTA successful".__eq__)
    family = await pids(tmp_path, (*FAMILY, STUBBORN))
    assert result == ProcessResult(exit_code=0)
    assert lines == ["family is there", "OTA successful"]
    # One of them ignores SIGTERM, so this did not wait for their end.
    assert any(map(alive, family))
    await processes.aclose()
    assert not any(map(alive, family))
    assert not our_children()


async def test_an_accepted_last_line_without_newline_counts(
    processes: Processes, tmp_path: Path
) -> None:
    result = await processes.run_lines(
        shell("printf done; exit 5", tmp_path), lambda _: None, until="done".__eq__
    )
    assert result.exit_code == 0


async def test_lines_can_be_cancelled_and_time_out(processes: Processes, tmp_path: Path) -> None:
    command = shell(f"echo ready; sleep {LONG}", tmp_path)
    ready = asyncio.Event()
    task = asyncio.create_task(processes.run_lines(command, lambda _: ready.set()))
    await ready.wait()
    await cancel(task)
    with pytest.raises(TimeoutError):
        await processes.run_lines(command, lambda _: None, timeout=0.2)
    assert not our_children()


async def test_capture_keeps_the_end_of_long_output(processes: Processes, tmp_path: Path) -> None:
    _, output = await processes.capture(shell("seq 100000", tmp_path), timeout=60, limit=12)
    assert output == "9999\n100000\n"[-12:]


async def test_a_slow_consumer_holds_the_command_back(processes: Processes, tmp_path: Path) -> None:
    """Nothing piles up in memory: the command is at most some buffers ahead of the consumer."""
    counter = tmp_path / "written"
    program = (
        "import os\n"
        "file = os.open('written', os.O_RDWR | os.O_CREAT)\n"
        "for number in range(1, 1001):\n"
        "    os.write(1, b'x' * 65536)\n"
        "    os.pwrite(file, str(number * 65536).encode(), 0)\n"
    )
    consumed = 0
    furthest = 0

    def on_output(chunk: bytes) -> None:
        nonlocal consumed, furthest
        consumed += len(chunk)
        furthest = max(
            furthest, int(counter.read_text() or 0) - consumed if counter.exists() else 0
        )

    await processes.run(python(program, cwd=tmp_path), on_output)
    assert consumed == 1000 * 65536
    assert furthest < 1024 * 1024


async def test_a_flood_of_lines_lets_the_loop_turn_between_chunks(
    processes: Processes, tmp_path: Path
) -> None:
    turns = 0
    most = 0
    seen = -1

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def on_lines(lines: object) -> None:
        nonlocal seen, most
        assert isinstance(lines, list)
        # Never two batches within one turn of the loop, and none of them large.
        assert turns != seen
        seen = turns
        most = max(most, len(lines))

    ticker = asyncio.create_task(tick())
    program = "print('\\n'.join(f'[{n}/20000] CXX obj/src/some/component_{n}.cpp.o' for n in range(20000)))"
    await processes.run_lines(python(program, cwd=tmp_path), on_lines)
    ticker.cancel()
    assert 0 < most < 1000


async def test_a_flood_of_empty_lines_comes_in_small_batches(
    processes: Processes, tmp_path: Path
) -> None:
    batches: list[int] = []
    program = "import os; os.write(1, b'\\n' * 60_000)"
    await processes.run_lines(
        python(program, cwd=tmp_path), lambda lines: batches.append(len(lines))
    )
    assert sum(batches) == 60_000
    assert max(batches) <= 500


async def test_a_consumer_that_fails_ends_the_command(processes: Processes, tmp_path: Path) -> None:
    def on_output(_chunk: bytes) -> None:
        raise RuntimeError("consumer")

    command = python(LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path)
    with pytest.raises(RuntimeError, match="consumer"):
        await processes.run(command, on_output)
    assert not any(map(alive, await pids(tmp_path)))
