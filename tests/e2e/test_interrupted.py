"""An install that is interrupted while it compiles: by a cancel, a reload, a crash."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
import re
import threading

import psutil
import pytest

from .harness.device import Device
from .harness.jobs import follow, has_printed, reach, submit
from .harness.offloader import Offloader
from .harness.processes import at_work, mentioning
from .harness.scripted import Part, go_on
from .harness.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

OTHER_OPTIONS = {"parallel_builds": 2, "parallel_uploads": 3, "wait_hours": 12}


def build_processes(offloader: Offloader) -> dict[int, str]:
    """Return the processes of builds, also those that tried to escape."""
    return mentioning(offloader.instance.builds)


_COMPILE = re.compile(r" -m esphome .*\bcompile ")


@contextmanager
def watching_for_two_builds(offloader: Offloader) -> Iterator[list[str]]:
    """Yield a list that gets an entry whenever two builds work in one tree at a time.

    ESPHome is one process of a build. Its compilers do not tell builds apart: while a build is
    ended, each of them may be left alone for a moment.
    """
    overlaps: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            processes = build_processes(offloader)
            at_work = {
                pid: command
                for pid, command in processes.items()
                if _COMPILE.search(command) and not _is_child_of_a_compile(pid, processes)
            }
            if len(at_work) > 1:
                overlaps.append(" | ".join(at_work.values()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield overlaps
    finally:
        over.set()
        watcher.join()


def _is_child_of_a_compile(pid: int, processes: Mapping[int, str]) -> bool:
    """Return whether a process is a copy of its parent that has not started its program yet."""
    with suppress(psutil.Error):
        return _COMPILE.search(processes.get(psutil.Process(pid).ppid(), "")) is not None
    return True  # it has ended


async def test_cancel_leaves_no_process_behind(
    offloader: Offloader, compiling: str, entity: str
) -> None:
    before = build_processes(offloader)
    assert any("cc1plus" in command for command in before.values())
    assert any("escapee" in command for command in before.values())
    await offloader.client.service("esphome_offload.cancel", {"entity_id": entity})
    assert build_processes(offloader) == {}
    job = await follow(offloader.client, compiling)
    assert (job["status"], job["failure_reason"]) == ("cancelled", "cancelled")


async def test_build_goes_on_while_the_entry_is_reloaded_and_its_options_change(
    offloader: Offloader, entity: str
) -> None:
    sign = offloader.device.play(Part.TALK)
    job_id = (await submit(offloader.client, "install", entity))["job_id"]
    await reach(offloader.client, job_id, has_printed("still talking"))
    # ESPHome's working folder: of a call in a warm Python nothing else tells.
    builders = set(mentioning(str(offloader.instance.esphome.resolve())))
    await offloader.client.reload(offloader.entry_id)
    await offloader.client.change_options(offloader.entry_id, "settings", **OTHER_OPTIONS)
    await offloader.client.reload(offloader.entry_id)
    # Still the same processes, so it was not started over.
    assert builders & set(mentioning(str(offloader.instance.esphome.resolve())))
    go_on(offloader.instance.offload_cache, sign)
    job = await follow(offloader.client, job_id)
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert len(job["attempts"]) == 1
    assert await offloader.update_entity() == entity


async def test_job_ends_well_after_a_crash_of_home_assistant(
    offloader: Offloader, device: Device, compiling: str, entity: str
) -> None:
    with watching_for_two_builds(offloader) as two_builds:
        await offloader.crash()
        # What is built again then takes no minutes.
        device.configure()
        await offloader.boot()
        job = await follow(offloader.client, compiling)
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert two_builds == []
    assert len(job["attempts"]) == 2
    assert build_processes(offloader) == {}
    await offloader.device_connected()


async def test_nothing_runs_when_there_is_nothing_to_do(offloader: Offloader) -> None:
    async def idle() -> bool:
        return not at_work(str(offloader.instance.offload_cache))

    # The look for the newest version, made when the entry is set up, may still go on.
    await until(idle, "the end of all processes that Home Assistant has started")
