"""Scripted outside ports: builders, flasher, stores, time. Everything inside is the real thing."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
import hashlib
from pathlib import Path
from typing import override

from custom_components.esphome_offload.engine.build.model import (
    Builder,
    BuildError,
    BuilderStatus,
    BuildInfo,
    BuildRequest,
    BuildSink,
    Firmware,
    FlashRequest,
    Node,
)
from custom_components.esphome_offload.engine.build.origins import BuildState, KeptBuild
from custom_components.esphome_offload.engine.clock import Time
from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    Image,
    Operation,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobRequest
from custom_components.esphome_offload.engine.jobs.ports import (
    ConfigurationHashes,
    FirmwareKeeper,
    Flasher,
    OriginKeeper,
    Persistence,
)
from custom_components.esphome_offload.engine.jobs.store import decode_all
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

BUILD_INFO = BuildInfo("2026.10.0", "2026-10-20 10:00:00 +0000", 7)


class VirtualTime(Time):
    """Stands still until told to go on; ``jump`` sets the clock and moves no timer."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 10, 20, tzinfo=UTC)
        self.passed = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    @override
    def now(self) -> datetime:
        return self.moment

    @override
    def monotonic(self) -> float:
        return self.passed

    @override
    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        timer = (round(self.passed + seconds, 6), action)
        self._timers.append(timer)
        return lambda: self._timers.remove(timer) if timer in self._timers else None

    @property
    def next_in(self) -> list[float]:
        """Seconds until each timer."""
        return sorted(round(due - self.passed, 6) for due, _ in self._timers)

    def jump(self, hours: float) -> None:
        """Set the clock, as network time does on a machine without a clock of its own."""
        self.moment += timedelta(hours=hours)

    async def go(self, seconds: float) -> None:
        """Let time pass, timer by timer, with the loop settled in between."""
        await settle()
        end = round(self.passed + seconds, 6)
        while due := sorted((t for t in self._timers if t[0] <= end), key=lambda t: t[0]):
            timer = due[0]
            self._timers.remove(timer)
            self._pass_until(max(self.passed, timer[0]))
            timer[1]()
            await settle()
        self._pass_until(end)

    def _pass_until(self, passed: float) -> None:
        self.moment += timedelta(seconds=passed - self.passed)
        self.passed = passed


async def settle() -> None:
    """Let everything run that does not wait for something outside."""
    for _ in range(50):
        await asyncio.sleep(0)


type Act = Callable[[BuildRequest, BuildSink], Awaitable[None]]


def because(line: str) -> Reason:
    """Return a reason that can be told from others by its line."""
    return Reason(ReasonKey.UNEXPECTED, line=line)


def failing(reason: FailureReason, message: str = "no luck", exit_code: int | None = 1) -> Act:
    async def act(_request: BuildRequest, _sink: BuildSink) -> None:
        raise BuildError(reason, because(message), exit_code)

    return act


@dataclass
class ScriptedBuilder(Builder):
    """Each build does the next act of ``script``; without one it succeeds at once."""

    builder_id: str = "local"
    label: str = "This machine"
    source: Source = Source.LOCAL
    pin_sha256: str | None = None
    state: BuilderStatus = field(default_factory=lambda: BuilderStatus(available=True))
    script: list[Act] = field(default_factory=list)
    requests: list[BuildRequest] = field(default_factory=list)
    sinks: list[BuildSink] = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    clean_error: BuildError | None = None
    running: int = 0
    most: int = 0
    keeper: ScriptedKeeper | None = None
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    @override
    def status(self) -> BuilderStatus:
        return replace(self.state, busy=self.state.busy or self.running)

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def become(self, state: BuilderStatus) -> None:
        self.state = state
        for listener in tuple(self._listeners):
            listener()

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        self.requests.append(request)
        self.sinks.append(sink)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            sink.stage(Stage.COMPILING)
            sink.lines(["INFO Compiling"])
            if self.script:
                await self.script.pop(0)(request, sink)
            assert self.keeper is not None
            return self.keeper.make(request)
        finally:
            self.running -= 1

    @override
    async def clean(self, configuration: str, *, tools: bool = False) -> None:
        if self.clean_error is not None:
            raise self.clean_error
        self.cleaned.append(configuration)
        if tools:
            self.cleaned.append("tools")


class ScriptedKeeper(FirmwareKeeper):
    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Firmware] = {}
        self.altered = False
        self.node: Node | None = None
        self.validated: dict[str, Path] = {}
        self.images: dict[Image, Path] = {Image.ELF: Path("firmware.elf")}

    def make(self, request: BuildRequest) -> Firmware:
        sha256 = hashlib.sha256(request.attempt_id.encode()).hexdigest()
        firmware = Firmware(
            sha256,
            request.configuration,
            request.device_name,
            Path("ota.bin"),
            replace(BUILD_INFO, esphome_version=request.esphome_version),
            node=self.node,
            validated=self.validated,
            images=self.images,
        )
        self.kept[request.configuration, sha256] = firmware
        return firmware

    @override
    async def latest(self, configuration: str) -> Firmware | None:
        mine = [each for (name, _), each in self.kept.items() if name == configuration]
        return mine[-1] if mine else None

    @override
    async def load(self, configuration: str, sha256: str) -> Firmware | None:
        if self.altered:
            raise BuildError(FailureReason.INTEGRITY, because("the digest is wrong"))
        return self.kept.get((configuration, sha256))

    @override
    async def renew(self, firmware: Firmware) -> None:
        key = firmware.configuration, firmware.sha256
        self.kept[key] = self.kept.pop(key)

    @override
    async def rename(self, old: str, new: str) -> None:
        for (name, sha256), firmware in list(self.kept.items()):
            if name == old:
                self.kept[new, sha256] = replace(firmware, configuration=new)


class ScriptedOrigins(OriginKeeper):
    """Keeps every state as it is."""

    def __init__(self) -> None:
        self.noted: list[tuple[BuildState, KeptBuild]] = []
        self.moment: int | None = 7
        self.forgotten: list[str | None] = []

    @override
    async def begin(self) -> int | None:
        return self.moment

    @override
    async def note(self, state: BuildState, built: KeptBuild, started: int) -> None:
        assert started == self.moment
        self.noted.append((state, built))

    @override
    async def find(self, state: BuildState) -> list[KeptBuild]:
        return [kept for noted, kept in reversed(self.noted) if noted == state]

    @override
    async def forget(self, configuration: str | None) -> None:
        self.forgotten.append(configuration)
        self.noted = [
            each for each in self.noted if configuration not in (None, each[0].configuration)
        ]


class ScriptedHashes(ConfigurationHashes):
    """The hash that firmware has as well."""

    def __init__(self) -> None:
        self.present: int | None = BUILD_INFO.config_hash
        self.background: int | None = None
        self.asked = 0

    @override
    def known(self, request: JobRequest, fingerprint: str) -> int | None:
        return self.background

    @override
    async def ask(self, request: JobRequest, fingerprint: str) -> int | None:
        self.asked += 1
        return self.present


type FlashAct = Callable[[FlashRequest, BuildSink], Awaitable[None]]


def flash_failing(reason: FailureReason, message: str = "no luck") -> FlashAct:
    async def act(_request: FlashRequest, _sink: BuildSink) -> None:
        raise BuildError(reason, because(message), 1)

    return act


class ScriptedFlasher(Flasher):
    """Each flash does the next act of ``script``; without one it succeeds at once."""

    def __init__(self) -> None:
        self.script: list[FlashAct] = []
        self.flashed: Callable[[Firmware], None] | None = None
        """What the device does that was flashed."""
        self.requests: list[FlashRequest] = []
        self.sinks: list[BuildSink] = []
        self.running: Counter[str] = Counter()
        self.most = 0
        self.most_of_one_device = 0

    @override
    async def flash(self, request: FlashRequest, sink: BuildSink) -> None:
        self.requests.append(request)
        self.sinks.append(sink)
        name = request.firmware.device_name
        self.running[name] += 1
        self.most = max(self.most, self.running.total())
        self.most_of_one_device = max(self.most_of_one_device, self.running[name])
        try:
            sink.progress(50)
            if self.script:
                await self.script.pop(0)(request, sink)
            if self.flashed is not None:
                self.flashed(request.firmware)
        finally:
            self.running[name] -= 1


class MemoryPersistence(Persistence):
    """Takes the stored form at each transition, as if each were written at once."""

    def __init__(self) -> None:
        self.stored: list[dict[str, object]] = []
        self.saves = 0

    @override
    async def load(self) -> list[FirmwareJob]:
        return decode_all(self.stored)

    @override
    def save_soon(self, job: FirmwareJob) -> None:
        self.saves += 1
        by_id = {record.get("job_id"): record for record in self.stored}
        by_id[job.job_id] = encode(job)
        self.stored = list(by_id.values())

    @override
    async def flush(self) -> None:
        pass

    @override
    async def aclose(self) -> None:
        pass


def request(configuration: str = "lamp.yaml", **changes: object) -> JobRequest:
    base = JobRequest(
        operation=Operation.INSTALL,
        configuration=configuration,
        device_name=configuration.removesuffix(".yaml"),
        esphome_version="2026.10.0",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


class Block:
    """An act that goes on until it is released."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = False

    async def __call__(self, _request: object, _sink: BuildSink) -> None:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Stuck:
    """An act that does not end when it is cancelled, until it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, _request: object, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.release.wait()
            raise
