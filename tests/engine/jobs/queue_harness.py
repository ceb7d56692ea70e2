"""QueueHarness: a real queue with scripted surroundings."""

from dataclasses import replace
from pathlib import Path

from custom_components.esphome_offload.engine.const import Source
from custom_components.esphome_offload.engine.job_log import JobLogs
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobEvent
from custom_components.esphome_offload.engine.jobs.pool import BuilderPool
from custom_components.esphome_offload.engine.jobs.ports import QueueSettings
from custom_components.esphome_offload.engine.jobs.queue import JobQueue

from .fakes import (
    MemoryPersistence,
    ScriptedBuilder,
    ScriptedFlasher,
    ScriptedHashes,
    ScriptedKeeper,
    ScriptedOrigins,
    VirtualTime,
    request,
    settle,
)
from .scripted_devices import ScriptedConfigurations, ScriptedDevices

SETTINGS = QueueSettings(
    parallel_uploads=2,
    wait_for_device=None,
    wait_for_builder=0.0,
    fall_back_to_local=True,
    time_zone="Europe/Berlin",
)


class QueueHarness:
    """A queue with everything around it. ``restart`` makes a new one from what was stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = VirtualTime()
        self.persistence = MemoryPersistence()
        self.keeper = ScriptedKeeper()
        self.builder = ScriptedBuilder(keeper=self.keeper)
        self.builders = BuilderPool()
        self.builders.register(self.builder)
        self.flasher = ScriptedFlasher()
        self.devices = ScriptedDevices()
        self.configurations = ScriptedConfigurations()
        self.origins = ScriptedOrigins()
        self.hashes = ScriptedHashes()
        self.settings = SETTINGS
        self.events: list[tuple[JobEvent, str]] = []
        self.leftovers_ended = 0
        self.queue = self._make()

    def _make(self) -> JobQueue:
        self.logs = JobLogs(self.folder / "logs", self.time)
        return JobQueue(
            persistence=self.persistence,
            logs=self.logs,
            builders=self.builders,
            flasher=self.flasher,
            firmware=self.keeper,
            devices=self.devices,
            configurations=self.configurations,
            settings=lambda: self.settings,
            origins=self.origins,
            hashes=self.hashes,
            on_event=lambda event, job: self.events.append((event, job.job_id)),
            end_leftovers=self._end_leftovers,
            time=self.time,
        )

    async def _end_leftovers(self) -> None:
        assert not self.builder.running
        self.leftovers_ended += 1

    def add_peer(self, builder_id: str, label: str) -> ScriptedBuilder:
        peer = ScriptedBuilder(
            builder_id, label, Source.REMOTE, pin_sha256=builder_id, keeper=self.keeper
        )
        self.builders.register(peer)
        return peer

    def set(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

    async def stop_and_remake(self) -> None:
        """Stop as Home Assistant does; a new queue stands ready, not started."""
        await self.queue.stop()
        self.queue = self._make()

    async def restart(self) -> None:
        await self.stop_and_remake()
        await self.queue.start()
        await settle()

    def submit(self, configuration: str = "lamp.yaml", **changes: object) -> FirmwareJob:
        return self.queue.submit(request(configuration, **changes))

    async def run(self, configuration: str = "lamp.yaml", **changes: object) -> FirmwareJob:
        job = self.submit(configuration, **changes)
        await settle()
        return job

    def events_of(self, job: FirmwareJob) -> list[JobEvent]:
        return [event for event, job_id in self.events if job_id == job.job_id]

    def terminal_events_of(self, job: FirmwareJob) -> list[JobEvent]:
        terminal = {JobEvent.COMPLETED, JobEvent.FAILED, JobEvent.CANCELLED}
        return [event for event in self.events_of(job) if event in terminal]
