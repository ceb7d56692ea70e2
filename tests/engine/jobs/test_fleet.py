"""Everything is installed at once: the real queue, lanes, router and slots in fake time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
import logging
from pathlib import Path
from statistics import mean
import time

import pytest

from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.slots import Slots
from custom_components.esphome_offload.engine.clock import sleep
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus
from custom_components.esphome_offload.engine.jobs import build_lane
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.jobs.router import Bind, Fail, Snapshot, Wait
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import because, request
from .simulated_fleet import Fleet, FleetBuilder

NEW = "2026.11.0"

type MakeFleet = Callable[[int], Awaitable[Fleet]]


@pytest.fixture
async def fleet_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Callable[..., Fleet]]:
    """Return what makes a fleet of so many devices; its queue is to be started."""
    loop = asyncio.get_running_loop()
    debug = loop.get_debug()
    # A thousand jobs with each call recorded take a minute.
    loop.set_debug(False)
    caplog.set_level(logging.WARNING, "custom_components.esphome_offload")
    fleets: list[Fleet] = []

    def make(devices: int, seed: int = 1) -> Fleet:
        fleets.append(Fleet(tmp_path, devices, seed))
        return fleets[-1]

    yield make
    for fleet in fleets:
        await fleet.queue.stop()
    loop.set_debug(debug)


async def all_ended(fleet: Fleet, jobs: list[FirmwareJob]) -> None:
    await fleet.time.run(lambda: all(job.terminal for job in jobs))


def failed(jobs: list[FirmwareJob]) -> list[FirmwareJob]:
    return [job for job in jobs if job.status is not JobStatus.COMPLETED]


@pytest.mark.parametrize("seed", range(4))
async def test_a_hundred_devices_are_built_nearly_as_soon_as_is_possible(
    fleet_of: Callable[..., Fleet], seed: int
) -> None:
    fleet = fleet_of(100, seed)
    builders = fleet.add_unequal_builders()
    fleet.remember()
    await fleet.queue.start()
    jobs = fleet.install_all(NEW)
    await all_ended(fleet, jobs)

    assert not failed(jobs)
    assert sum(len(builder.built) for builder in builders) == 100
    done = max(builder.built[-1][1] for builder in builders)
    assert done <= 1.05 * fleet.bound()
    assert fleet.flasher.most == fleet.settings.parallel_uploads


async def test_the_end_is_foreseen_from_the_beginning(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of(100)
    fleet.add_unequal_builders()
    fleet.remember()
    await fleet.queue.start()
    jobs = fleet.install_all(NEW)
    await fleet.time.run(lambda: fleet.time.passed >= 0)
    foreseen = {job.job_id: fleet.queue.forecast(job) for job in jobs}
    places = sorted(each.place for each in foreseen.values() if each.place is not None)
    # Five are being built.
    assert places == list(range(1, 96))
    started = fleet.time.passed
    ended: dict[str, float] = {}
    fleet.queue.subscribe(
        None, lambda _event, job: job.terminal and ended.setdefault(job.job_id, fleet.time.passed)
    )
    await all_ended(fleet, jobs)
    expected = {job_id: started + (each.seconds or 0.0) for job_id, each in foreseen.items()}
    whole = fleet.time.passed
    # From one build of each device on one of the builders: how slow they are is only guessed.
    assert abs(max(expected.values()) - whole) < 0.12 * whole
    # One may change places with another, if something took longer than was expected.
    assert mean(abs(expected[job_id] - end) for job_id, end in ended.items()) < 0.06 * whole


async def test_a_thousand_devices_are_decided_in_less_than_a_second(
    fleet_of: Callable[..., Fleet],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    fleet = fleet_of(1000)
    builders = fleet.add_unequal_builders()
    fleet.remember()
    await fleet.queue.start()
    choices, seconds = 0, 0.0

    def choose(snapshot: Snapshot) -> Bind | Wait | Fail:
        nonlocal choices
        choices += 1
        return real_choose(snapshot)

    def serve(lane: build_lane.BuildLane) -> None:
        nonlocal seconds
        start = time.process_time()
        real_serve(lane)
        seconds += time.process_time() - start

    real_choose, real_serve = build_lane.choose, build_lane.BuildLane.serve
    monkeypatch.setattr(build_lane, "choose", choose)
    monkeypatch.setattr(build_lane.BuildLane, "serve", serve)
    jobs = fleet.install_all(NEW)
    await all_ended(fleet, jobs)

    assert not failed(jobs)
    # Each is compared with the few that are next, not with all that wait, whatever the machine.
    assert choices < 15 * len(jobs)
    assert sum(builder.asked for builder in builders) < 30 * len(jobs)
    record_property("cpu_seconds", round(seconds, 2))
    # On a quiet machine it is 0.4.
    assert seconds < 4


async def test_a_builder_that_vanishes_loses_only_what_it_was_building(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(100)
    tower, *others = fleet.add_unequal_builders()
    fleet.remember()
    await fleet.queue.start()
    jobs = fleet.install_all(NEW)
    await fleet.time.run(lambda: len(tower.built) >= 30)
    vanished_at, left = fleet.time.passed, 100 - sum(len(each.built) for each in (tower, *others))
    tower.vanish()
    await all_ended(fleet, jobs)

    assert not failed(jobs)
    assert sum(len(each.attempts) for each in jobs) == 100 + tower.machine.count
    done = max(each.built[-1][1] for each in others)
    speed = sum(1 / each.slowness for each in others)
    average = sum(fleet.work.values()) / 100
    # The longest ones were built before.
    assert done - vanished_at <= 1.15 * left * average / speed


async def test_a_builder_that_comes_later_takes_its_share(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of(100)
    late, *_others = fleet.add_unequal_builders()
    fleet.remember()
    fleet.builders.register(late)()
    await fleet.queue.start()
    jobs = fleet.install_all(NEW)
    await fleet.time.run(lambda: sum(bool(job.attempts) for job in jobs) >= 40)
    came_at = fleet.time.passed
    fleet.builders.register(late)
    left = sum(fleet.work[job.request.configuration] for job in jobs if not job.attempts)
    await all_ended(fleet, jobs)

    assert not failed(jobs)
    builders = [each for each in fleet.builders.builders if isinstance(each, FleetBuilder)]
    done = max(each.built[-1][1] for each in builders)
    speed = sum(each.machine.count / each.slowness for each in builders)
    # What was being built elsewhere has to be built to its end.
    longest = max(fleet.work.values()) * max(each.slowness for each in builders)
    assert done - came_at <= 1.05 * left / speed + longest
    assert len(late.built) > 20


async def test_a_change_for_many_jobs_is_told_a_few_at_a_time(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(300)
    tower, *others = fleet.add_unequal_builders()
    await fleet.queue.start()
    jobs = fleet.install_all(NEW)
    await fleet.time.run(lambda: fleet.time.passed >= 1)
    waiting = [job for job in jobs if job.status is JobStatus.QUEUED]
    assert len({str(job.waiting_for) for job in waiting}) == 1
    fleet.events.clear()
    tower.vanish()
    assert len(fleet.events) <= 50
    now = fleet.time.passed
    await fleet.time.run(lambda: fleet.time.passed >= now + 1)
    labels = ", ".join(each.label for each in others)
    now_waits_for = Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": labels})
    assert all(job.waiting_for == now_waits_for for job in waiting if not job.attempts)


async def test_one_failure_stops_nobody(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of(40)
    bad_build, bad_flash = list(fleet.work)[:2]

    def build(configuration: str) -> None:
        if configuration == bad_build:
            raise BuildError(FailureReason.COMPILE_FAILED, because("no such pin"))

    def flash(configuration: str) -> None:
        if configuration == bad_flash:
            raise BuildError(FailureReason.UPLOAD_REFUSED, because("no space"))

    for builder in fleet.add_unequal_builders():
        builder.on_build = build
    fleet.flasher.on_flash = flash
    await fleet.queue.start()
    jobs = fleet.install_all(NEW)
    await all_ended(fleet, jobs)
    assert sorted(job.request.configuration for job in failed(jobs)) == [bad_build, bad_flash]


async def test_what_a_person_asks_for_alone_passes_all_and_nobody_waits_for_ever(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(100)
    builders = fleet.add_unequal_builders()
    fleet.remember()
    await fleet.queue.start()
    jobs = fleet.install_all(NEW, user_id="anna")
    alone: list[FirmwareJob] = []
    asked: dict[str, float] = {}
    for number in range(40):
        await fleet.time.run(lambda due=60.0 * number: fleet.time.passed >= due)  # type: ignore[misc]
        name = f"new{number}.yaml"
        fleet.work[name] = 100.0
        alone.append(fleet.queue.submit(request(name, user_id="anna", esphome_version=NEW)))
        asked[name] = fleet.time.passed
    await all_ended(fleet, [*jobs, *alone])

    assert not failed([*jobs, *alone])
    built = dict(item for builder in builders for item in builder.built)
    # The next slot of a builder that is not the slowest, then the build itself.
    longest = max(fleet.work.values())
    assert all(built[name] - since < longest + 200 for name, since in asked.items())


async def test_no_guest_gets_more_than_its_share_of_a_builder(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(40)
    machine = Slots(2)
    fleet.builders.register(fleet.builder("shared", 1.0, machine=machine))
    await fleet.queue.start()
    granted: list[str] = []
    take = machine.take

    def watched_take(owner: str) -> object:
        if (slot := take(owner)) is not None:
            granted.append(owner)
        return slot

    machine.take = watched_take  # type: ignore[method-assign, assignment]

    async def guest(owner: str, seconds: float) -> None:
        async with machine.slot(owner, lambda _ahead: None):
            await sleep(fleet.time, seconds)

    # One of them asks for far more, and for longer builds.
    guests = [asyncio.ensure_future(guest("greedy", 400)) for _ in range(200)]
    guests += [asyncio.ensure_future(guest("modest", 50)) for _ in range(60)]
    jobs = fleet.install_all(NEW)
    await all_ended(fleet, jobs)
    assert not failed(jobs)
    # While all of them waited: in turn, whoever asks for how much.
    contended = granted[3:100]
    assert Counter(contended).most_common(1)[0][1] <= len(contended) / 3 + 2
    assert min(Counter(contended).values()) >= len(contended) / 3 - 2
    for each in guests:
        each.cancel()


async def test_the_reason_says_what_was_expected(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of(8)
    fleet.add_unequal_builders()
    fleet.remember()
    await fleet.queue.start()
    first, *jobs = fleet.install_all(NEW)
    await all_ended(fleet, [first, *jobs])
    chosen = [job.routing.reason for job in (first, *jobs)]
    assert {reason.key for reason in chosen if reason} == {ReasonKey.CHOSEN_FIRST}
