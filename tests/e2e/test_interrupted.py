"""An install that is interrupted while it compiles: by its owner, by a reload, by a crash."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os
from pathlib import Path
import threading

import pytest

from .conftest import connected
from .harness.device import Device
from .harness.home import Home, until
from .harness.jobs import follow
from .harness.processes import mentioning

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

OTHER_OPTIONS = {"parallel_builds": 2, "parallel_uploads": 3, "wait_hours": 12}


def at_work(home: Home) -> dict[int, str]:
    """Return the processes of builds, also those that tried to get away."""
    return mentioning(home.instance.builds)


def parent_of(pid: int) -> int:
    """Return the parent of a process; raises OSError if it has ended."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[1])


@contextmanager
def watching_for_two_builds(home: Home) -> Iterator[list[str]]:
    """Yield a list that gets an entry whenever two builds work in one tree at a time.

    All processes of a build are in one session, but for what the configuration lets loose. That
    leaves the session before it executes its own program, and has the command line of its parent
    until then: such a process is no second build.
    """
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            sessions: dict[int, str] = {}
            commands = mentioning(home.instance.builds)
            for pid, command in commands.items():
                with suppress(OSError):
                    forked = commands.get(parent_of(pid)) == command
                    if "escapee" not in command and not forked:
                        sessions[os.getsid(pid)] = command
            if len(sessions) > 1:
                seen.append(" | ".join(sessions.values()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


async def test_cancel_leaves_no_process_behind(home: Home, compiling: str, entity: str) -> None:
    before = at_work(home)
    assert any("cc1plus" in command for command in before.values())
    assert any("escapee" in command for command in before.values())
    await home.client.service("esphome_offload.cancel", {"entity_id": entity})
    assert at_work(home) == {}
    job = await follow(home.client, compiling)
    assert (job["status"], job["failure_reason"]) == ("cancelled", "cancelled")


async def test_build_goes_on_while_the_entry_is_reloaded_and_its_options_change(
    home: Home, compiling: str, entity: str
) -> None:
    builders = set(mentioning(home.instance.builds))
    await home.client.reload(home.entry_id)
    await home.client.change_options(home.entry_id, "settings", **OTHER_OPTIONS)
    await home.client.reload(home.entry_id)
    # Still the same processes, so it was not started over.
    assert builders & set(mentioning(home.instance.builds))
    job = await follow(home.client, compiling)
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert len(job["attempts"]) == 1
    assert await home.update_entity() == entity


async def test_killed_home_assistant_ends_the_job_well_when_it_is_back(
    home: Home, device: Device, compiling: str, entity: str
) -> None:
    with watching_for_two_builds(home) as two_builds:
        await home.crash()
        await home.boot()
        job = await follow(home.client, compiling)
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert two_builds == []
    assert len(job["attempts"]) == 2
    assert at_work(home) == {}
    await connected(home)


async def test_nothing_runs_when_there_is_nothing_to_do(home: Home) -> None:
    async def idle() -> bool:
        return not mentioning(str(home.instance.offload_cache))

    # The question for the newest version, asked when the entry is set up, may still be open.
    await until(idle, "the end of all that Home Assistant had started", 120)
