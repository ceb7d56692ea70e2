"""A fleet in fake time: the real queue, lanes, router and slots; builds and flashes only wait."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import heapq
from itertools import count, cycle
from pathlib import Path
import random
from typing import override

from custom_components.esphome_offload.engine.build.model import (
    Builder,
    BuildError,
    BuilderStatus,
    BuildRequest,
    BuildSink,
    Firmware,
    FlashRequest,
)
from custom_components.esphome_offload.engine.build.slots import Slots
from custom_components.esphome_offload.engine.clock import Time, sleep
from custom_components.esphome_offload.engine.const import FailureReason, Source, Stage
from custom_components.esphome_offload.engine.job_log import JobLogs
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.jobs.model import (
    Attempt,
    FirmwareJob,
    JobEvent,
    Routing,
)
from custom_components.esphome_offload.engine.jobs.pool import BuilderPool
from custom_components.esphome_offload.engine.jobs.ports import Flasher, QueueSettings
from custom_components.esphome_offload.engine.jobs.queue import JobQueue
from custom_components.esphome_offload.engine.reason import Reason

from .fakes import (
    MemoryPersistence,
    ScriptedHashes,
    ScriptedKeeper,
    ScriptedOrigins,
    VirtualTime,
    because,
    request,
)
from .scripted_devices import ScriptedConfigurations, ScriptedDevices

SETTINGS = QueueSettings(
    parallel_uploads=2,
    wait_for_device=None,
    wait_for_builder=600.0,
    fall_back_to_local=True,
    time_zone="UTC",
)
_SWITCHES = 12
"""Of tasks: more than it takes from one thing that happens to all that follows at once."""

type Act = Callable[[str], None]
"""Is called with the configuration that is built or flashed; may raise BuildError."""


class FleetTime(VirtualTime):
    """Goes from one timer to the next; ``run`` ends when there are none."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._cancelled: set[int] = set()

    @override
    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        number = next(self._numbers)
        heapq.heappush(self._heap, (self.passed + seconds, number, action))
        return lambda: self._cancelled.add(number)

    async def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until nothing is left to happen, or that is so."""
        await _settle()
        while self._heap and not until():
            due, number, action = heapq.heappop(self._heap)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            self._pass_until(max(self.passed, due))
            action()
            await _settle()


async def _settle() -> None:
    for _ in range(_SWITCHES):
        await asyncio.sleep(0)


class _NoPersistence(MemoryPersistence):
    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[FirmwareJob] = []

    @override
    async def load(self) -> list[FirmwareJob]:
        return self.jobs

    @override
    def save_soon(self, job: FirmwareJob) -> None:
        """Keep nothing: how jobs are stored is another matter."""


class _NoLogs(JobLogs):
    @override
    def open(self, job_id: str) -> None:
        """Keep nothing."""

    @override
    def append(self, job_id: str, lines: Sequence[str]) -> None:
        """Keep nothing."""

    @override
    def finish(self, job_id: str) -> None:
        """Keep nothing."""

    @override
    def forget(self, job_ids: Sequence[str]) -> None:
        """Nothing was kept."""


@dataclass
class FleetBuilder(Builder):
    """A machine with slots of its own; each build takes the work in it times ``slowness``."""

    builder_id: str
    fleet: Fleet
    slowness: float
    machine: Slots
    source: Source = Source.REMOTE
    owner: str = "us"
    why_not: Reason | None = None
    asked: int = 0
    """How often it was asked for its status."""
    warm: set[str] = field(default_factory=set)
    built: list[tuple[str, float]] = field(default_factory=list)
    """What, and when it was done."""
    on_build: Act = lambda _configuration: None
    _listeners: list[Callable[[], None]] = field(default_factory=list)
    _builds: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.label = self.pin_sha256 = self.builder_id
        self.machine.subscribe(self._notify)

    @override
    def status(self) -> BuilderStatus:
        self.asked += 1
        return BuilderStatus(
            available=self.why_not is None,
            why_not=self.why_not,
            slots=self.machine.count,
            busy=self.machine.busy,
            queue_length=self.machine.waiting,
            warm=frozenset(self.warm),
        )

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def vanish(self) -> None:
        """Lose all that is built there, as a machine that is switched off."""
        self.why_not = because("switched off")
        for build in tuple(self._builds):
            build.cancel()
        self._notify()

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        configuration = request.configuration
        build = asyncio.ensure_future(self._compile(configuration, sink))
        self._builds.add(build)
        try:
            await build
        except asyncio.CancelledError:
            build.cancel()
            if self.why_not is not None:
                raise BuildError(FailureReason.BUILDER_UNAVAILABLE, self.why_not) from None
            raise
        finally:
            self._builds.discard(build)
        self.built.append((configuration, self.fleet.time.passed))
        self.warm.add(configuration)
        return self.fleet.keeper.make(request)

    async def _compile(self, configuration: str, sink: BuildSink) -> None:
        async with self.machine.slot(self.owner, sink.place):
            sink.stage(Stage.COMPILING)
            self.on_build(configuration)
            await sleep(self.fleet.time, self.fleet.seconds(configuration) * self.slowness)

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


class FleetFlasher(Flasher):
    """Takes 20 seconds for each device."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.running = 0
        self.most = 0
        self.on_flash: Act = lambda _configuration: None

    @override
    async def flash(self, request: FlashRequest, sink: BuildSink) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await sleep(self.time, 20)
            self.on_flash(request.configuration)
        finally:
            self.running -= 1


class Fleet:
    """Devices with more and less to compile, and a queue for all of them."""

    def __init__(self, folder: Path, devices: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.work = {
            f"device{number:04}.yaml": self._random.lognormvariate(5.0, 0.5)
            for number in range(devices)
        }
        self.time = FleetTime()
        self.keeper = ScriptedKeeper()
        self.flasher = FleetFlasher(self.time)
        self.devices = ScriptedDevices()
        self.builders = BuilderPool()
        self.events: list[tuple[JobEvent, FirmwareJob]] = []
        self.settings = SETTINGS
        self._kept = _NoPersistence()
        self.queue = JobQueue(
            persistence=self._kept,
            logs=_NoLogs(folder, self.time),
            builders=self.builders,
            flasher=self.flasher,
            firmware=self.keeper,
            devices=self.devices,
            configurations=ScriptedConfigurations(),
            settings=lambda: self.settings,
            origins=ScriptedOrigins(),
            hashes=ScriptedHashes(),
            on_event=lambda event, job: self.events.append((event, job)),
            time=self.time,
        )

    def seconds(self, configuration: str) -> float:
        """Return what a build takes on a machine of slowness 1; no two are quite the same."""
        return self.work[configuration] * self._random.uniform(0.97, 1.03)

    def builder(
        self, name: str, slowness: float, slots: int = 1, machine: Slots | None = None
    ) -> FleetBuilder:
        """Make a builder; it is not registered yet."""
        return FleetBuilder(name, self, slowness, machine or Slots(slots))

    def add_unequal_builders(self) -> list[FleetBuilder]:
        """Register four builders; the first has two slots, each eight times as fast as the last."""
        added = [
            self.builder("tower", 0.5, 2),
            self.builder("mini", 1.0),
            self.builder("laptop", 1.5),
            self.builder("board", 4.0),
        ]
        for builder in added:
            self.builders.register(builder)
        return added

    def remember(self, version: str = "2026.10.0") -> None:
        """Let an earlier installation of everything be known, each device on one builder."""
        for (name, work), builder in zip(self.work.items(), cycle(self.builders.builders)):
            assert isinstance(builder, FleetBuilder)
            now = self.time.now()
            job_id = new_id()
            attempt = Attempt(
                job_id, builder.builder_id, builder.source, builder.label, now, finished_at=now
            )
            job = FirmwareJob(job_id, request(name, esphome_version=version), now)
            job.start(now)
            job.start_attempt(attempt, Routing(builder.source))
            job.spend(Stage.COMPILING, work * builder.slowness)
            job.spend(Stage.UPLOADING, 20)
            job.complete(now, verified=True)
            builder.warm.add(name)
            self._kept.jobs.append(job)

    def bound(self) -> float:
        """Return the seconds that all builds take when no slot of any builder is ever idle."""
        speed = sum(
            each.machine.count / each.slowness
            for each in self.builders.builders
            if isinstance(each, FleetBuilder)
        )
        return sum(self.work.values()) / speed

    def install_all(self, version: str, **changes: object) -> list[FirmwareJob]:
        """Ask for all of them at once, in whatever order."""
        names = list(self.work)
        self._random.shuffle(names)
        changes = {"esphome_version": version, "batch": version, **changes}
        return [self.queue.submit(request(name, **changes)) for name in names]
