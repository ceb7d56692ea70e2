"""How many builds automatic updates may start."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from custom_components.esphome_offload.automatic.build_slots import free_slots
from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.const import Operation, Source
from custom_components.esphome_offload.engine.jobs.pool import BuilderPool


@dataclass
class Machine:
    builder_id: str
    source: Source
    slots: int = 1
    busy: int = 0
    available: bool = True
    used: bool = True

    @property
    def label(self) -> str:
        return self.builder_id

    def subscribe(self, _listener: object) -> Callable[[], None]:
        return lambda: None

    def status(self) -> BuilderStatus:
        return BuilderStatus(available=self.available, slots=self.slots, busy=self.busy)


@dataclass
class Request:
    operation: Operation = Operation.INSTALL


@dataclass
class Attempt:
    builder_id: str


@dataclass
class Job:
    current_attempt: Attempt | None = None
    request: Request = field(default_factory=Request)
    terminal: bool = False
    pending: bool = False
    firmware_sha256: str | None = None


HERE = Machine("local", Source.LOCAL, slots=2)
PEER = Machine("peer", Source.REMOTE, slots=2)
AWAY = Machine("peer", Source.REMOTE, slots=2, available=False)


def free(*machines: Any, jobs: tuple[Any, ...] = (), **other: Any) -> int:
    pool = BuilderPool()
    for machine in machines:
        pool.register(machine, use=machine.used)
    return free_slots(pool, jobs, **{"peers_expected": 0.0, "falls_back": True, **other})


def test_this_machine_does_not_count_while_a_peer_can_build() -> None:
    assert free(HERE, PEER) == 2
    assert free(HERE, AWAY) == 2
    assert free(HERE) == 2


def test_without_peers_this_machine_counts_only_if_it_may_build() -> None:
    assert free(HERE, AWAY, falls_back=False) == 0
    assert free(HERE, AWAY, peers_expected=20.0) == 0
    assert free(HERE, falls_back=False) == 2


def test_a_builder_that_is_switched_off_does_not_count() -> None:
    unused = Machine("peer", Source.REMOTE, slots=5, used=False)
    assert free(HERE, unused) == 2
    assert free(HERE, unused, PEER, jobs=(Job(),)) == 1


@pytest.mark.parametrize(
    ("busy", "jobs", "count"),
    [
        (1, (), 1),
        (3, (), 0),
        (1, (Job(Attempt("peer")),), 1),
        (0, (Job(Attempt("peer")),), 1),
        (1, (Job(),), 0),
        (0, (Job(pending=True), Job(firmware_sha256="0" * 64)), 2),
        (0, (Job(Attempt("local")),), 2),
    ],
)
def test_what_is_busy_or_waits_does_not_count(busy: int, jobs: tuple[Any, ...], count: int) -> None:
    assert free(HERE, Machine("peer", Source.REMOTE, slots=2, busy=busy), jobs=jobs) == count
