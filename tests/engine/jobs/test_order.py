"""The order in which jobs get a slot."""

from datetime import timedelta

import pytest

from custom_components.esphome_offload.engine.const import JobStatus
from custom_components.esphome_offload.engine.jobs.build_times import BuildTimes
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.jobs.order import GIVES_WAY, QueueOrder

from .fakes import Block, VirtualTime, request, settle
from .queue_harness import QueueHarness

NEW = "2026.11.0"


class Orders:
    """Jobs that are asked for one after the other."""

    def __init__(self) -> None:
        self.clock = VirtualTime()
        self.order = QueueOrder(BuildTimes())
        self.jobs: list[FirmwareJob] = []

    def ask(self, name: str, **changes: object) -> FirmwareJob:
        changes = {"esphome_version": NEW, "from_version": "2026.10.0", **changes}
        asked = request(name, **changes)
        job = FirmwareJob(new_id(), asked, self.clock.now())
        self.order.ask(job, asked)
        self.jobs.append(job)
        return job

    def later(self, seconds: float) -> None:
        self.clock.moment += timedelta(seconds=seconds)

    @property
    def names(self) -> list[str]:
        return [job.request.configuration for job in sorted(self.jobs, key=self.order.rank)]


@pytest.fixture
def orders() -> Orders:
    return Orders()


def test_one_after_the_other_as_they_were_asked_for(orders: Orders) -> None:
    for name in ("c", "a", "b"):
        orders.ask(name, user_id="anna")
        orders.later(1)
    assert orders.names == ["c", "a", "b"]


def test_what_a_person_asks_for_alone_comes_before_a_batch(orders: Orders) -> None:
    for name in ("a", "b"):
        orders.ask(name, batch="all", user_id="anna")
    orders.later(3600)
    orders.ask("alone", batch="one", user_id="anna")
    assert orders.names == ["alone", "a", "b"]


def test_what_no_person_asks_for_comes_after_it(orders: Orders) -> None:
    orders.ask("automatic")
    orders.later(3600)
    orders.ask("alone", user_id="anna")
    assert orders.names == ["alone", "automatic"]


def test_a_batch_gives_way_for_a_day_and_then_no_more(orders: Orders) -> None:
    for name in ("a", "b"):
        orders.ask(name, batch="all", user_id="anna")
    orders.later(GIVES_WAY + 1)
    orders.ask("alone", user_id="anna")
    assert orders.names == ["a", "b", "alone"]


def test_a_second_batch_comes_after_the_first(orders: Orders) -> None:
    orders.ask("b", batch="first")
    orders.ask("c", batch="first")
    orders.later(1)
    orders.ask("a", batch="second", from_version="2020.1.0")
    orders.ask("d", batch="second", from_version=None)
    assert orders.names == ["b", "c", "d", "a"]


def test_in_a_batch_what_is_furthest_behind_comes_first(orders: Orders) -> None:
    for name, runs in {
        "newest": NEW,
        "patch": "2026.10.3",
        "month": "2026.10.0",
        "years": "2023.12.8",
        "unknown": None,
        "newer": "2026.12.0-dev",
        "odd": "dev",
    }.items():
        orders.ask(name, batch="all", from_version=runs)
    assert orders.names[:4] == ["unknown", "years", "month", "patch"]


def test_what_somebody_looks_at_comes_first_of_all_until_they_look_away(orders: Orders) -> None:
    orders.ask("alone", user_id="anna")
    watched = orders.ask("watched", batch="all")
    orders.ask("other", batch="all")
    looks = [orders.order.watch(watched.job_id) for _ in range(2)]
    assert orders.names == ["watched", "alone", "other"]
    for _ in range(2):
        # Called twice it ends once.
        looks[0]()
    assert orders.names[0] == "watched"
    looks[1]()
    assert orders.names == ["alone", "watched", "other"]


def test_asking_alone_for_one_of_a_batch_takes_it_out_of_it(orders: Orders) -> None:
    orders.ask("a", batch="all", user_id="anna")
    job = orders.ask("b", batch="all", user_id="anna")
    orders.order.ask(job, request("b", batch="again", user_id="anna"))
    assert orders.names == ["b", "a"]


def test_asking_for_all_leaves_one_that_was_asked_for_alone_in_its_place(orders: Orders) -> None:
    job = orders.ask("alone", batch="one", user_id="anna")
    orders.later(1)
    orders.ask("a", batch="all", user_id="anna")
    orders.order.ask(job, request("alone", batch="all", user_id="anna"))
    assert orders.names == ["alone", "a"]


def test_the_last_of_a_batch_is_still_one_of_it_after_a_restart(orders: Orders) -> None:
    done = orders.ask("a", batch="all", user_id="anna")
    orders.ask("b", batch="all", user_id="anna")
    orders.later(1)
    orders.ask("alone", batch="one", user_id="anna")
    done.cancel(orders.clock.now())
    orders.order = QueueOrder(BuildTimes())
    orders.order.ask_all(orders.jobs)
    orders.jobs.remove(done)
    assert orders.names == ["alone", "b"]


def test_nothing_is_kept_of_jobs_that_have_ended(orders: Orders) -> None:
    for name in ("a", "b"):
        orders.ask(name, batch="all")
    for job in orders.jobs:
        orders.order.end(job.job_id)
        orders.order.end(job.job_id)
    assert not orders.order._batches
    assert not orders.order._asked


async def test_the_queue_builds_in_this_order(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    await harness.run("running.yaml")
    for name, runs in (("b.yaml", "2026.8.0"), ("a.yaml", "2026.9.0")):
        await harness.run(name, batch="all", from_version=runs)
    watched = await harness.run("watched.yaml", batch="all", from_version="2026.9.0")
    await harness.run("alone.yaml", user_id="anna")
    places = {
        job.request.configuration: harness.queue.forecast(job).place for job in harness.queue.jobs()
    }
    assert places == {
        "running.yaml": None,
        "alone.yaml": 1,
        "b.yaml": 2,
        "a.yaml": 3,
        "watched.yaml": 4,
    }
    look_away = harness.queue.watch(watched.job_id)
    assert harness.queue.forecast(watched).place == 1
    look_away()
    assert harness.queue.forecast(watched).place == 4
    harness.queue.watch(watched.job_id)
    block.release.set()
    await settle()
    order = [each.configuration for each in harness.builder.requests]
    assert order == ["running.yaml", "watched.yaml", "alone.yaml", "b.yaml", "a.yaml"]
    assert watched.status is JobStatus.COMPLETED


async def test_asking_again_alone_brings_a_job_of_a_batch_forward(harness: QueueHarness) -> None:
    harness.builder.script = [Block()]
    await harness.run("running.yaml")
    for name in ("a.yaml", "b.yaml"):
        job = await harness.run(name, batch="all", user_id="anna")
    assert harness.queue.forecast(job).place == 2
    assert harness.submit("b.yaml", batch="again", user_id="anna") is job
    assert harness.queue.forecast(job).place == 1
