"""Bring devices up to date, the most outdated first, within limits."""

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from homeassistant.const import STATE_ON
from homeassistant.core import Context
from homeassistant.exceptions import HomeAssistantError
from packaging.version import Version

from ..coordinator import OffloadCoordinator
from ..engine.clock import SystemTime, Time
from ..engine.const import REQUESTED_AUTO, JobStatus, Operation
from ..engine.jobs.model import FirmwareJob
from ..engine.target import TargetId
from ..inventory.versions import comparable
from ..registry import async_entity
from ..texts.reasons import common_text, exception_text


class Why(StrEnum):
    """Why a device is left out, unless its job is refused: the keys of texts."""

    OFFLINE = "left_out_offline"
    WAITING = "left_out_waiting"
    FAILURES = "left_out_failures"
    TIME = "left_out_time"
    OTHER_VERSION = "left_out_other_version"
    NEWER_VERSION = "left_out_newer_version"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one call goes. None sets no limit."""

    at_once: int = 1
    failures: int | None = None
    start_within: timedelta | None = None
    skip_offline: bool = False

    def reached(self, failures: int, seconds: float) -> Why | None:
        """Return why no more devices are started after so many failures and seconds."""
        if self.failures is not None and failures >= self.failures:
            return Why.FAILURES
        if self.start_within is not None and seconds >= self.start_within.total_seconds():
            return Why.TIME
        return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do with each device; as in ``RequestOptions``."""

    operation: Operation = Operation.INSTALL
    version: str | None = None
    source: str = REQUESTED_AUTO


class OutdatedRun:
    """One call: ``jobs`` are those that it started, ``left_out`` why which devices have none."""

    def __init__(
        self,
        coordinator: OffloadCoordinator,
        wanted: Wanted,
        limits: Limits,
        context: Context,
        *,
        time: Time | None = None,
    ) -> None:
        self._hass = coordinator.hass
        self._coordinator = coordinator
        self._wanted = wanted
        self._limits = limits
        self._context = context
        self._time = time or SystemTime()
        self._remaining: deque[TargetId] = deque()
        self.jobs: list[FirmwareJob] = []
        self.left_out: dict[TargetId, str] = {}

    @property
    def completed(self) -> list[FirmwareJob]:
        """The jobs that ended well."""
        return [job for job in self.jobs if job.status is JobStatus.COMPLETED]

    @property
    def failed(self) -> list[FirmwareJob]:
        """The jobs that failed or were cancelled."""
        return [job for job in self.jobs if job.status in (JobStatus.FAILED, JobStatus.CANCELLED)]

    @property
    def waiting(self) -> list[FirmwareJob]:
        """The jobs whose firmware waits for the device."""
        return [job for job in self.jobs if job.pending]

    async def async_run(self, targets: Collection[TargetId]) -> None:
        """Return when every device is done, waited for or left out.

        Cancelling this leaves the jobs that were started running.
        """
        self._remaining.extend(self._outdated(targets))
        started = self._time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._limits.at_once, len(self._remaining))):
                group.create_task(self._work(started))

    def _outdated(self, targets: Collection[TargetId]) -> list[TargetId]:
        """Return those that have an update to ask for, the most outdated first."""
        outdated = []
        for target in targets:
            job = self._coordinator.queue.active(target)
            if job is not None and job.pending:
                self._leave_out(target, Why.WAITING)
            elif self._has_update(target):
                if (why := self._unwanted(target)) is None:
                    outdated.append(target)
                else:
                    self._leave_out(target, why)
        return sorted(outdated, key=lambda each: (self._age(each), each))

    def _has_update(self, target: TargetId) -> bool:
        entity = async_entity(self._hass, target)
        state = None if entity is None else self._hass.states.get(entity.entity_id)
        if state is None or state.state != STATE_ON:
            return False
        # It may be an update to another version than the one that is wanted.
        return (
            self._wanted.version is None
            or self._coordinator.installed_version(target) != self._wanted.version
            or bool(self._coordinator.firmware.is_changed(target))
        )

    def _unwanted(self, target: TargetId) -> Why | None:
        """Return why a device does not get the version of the call."""
        if (version := comparable(self._wanted.version or "")) is None:
            return None
        if self._coordinator.device_settings.get(target).version is not None:
            own = self._coordinator.versions.wanted(target)
            if own is None or comparable(own) != version:
                return Why.OTHER_VERSION
        return Why.NEWER_VERSION if self._age(target) > version else None

    def _age(self, target: TargetId) -> Version:
        return comparable(self._coordinator.installed_version(target) or "") or Version("0")

    async def _work(self, started: float) -> None:
        while self._remaining:
            # What a person cancelled or replaced says nothing about the next device.
            failures = sum(job.status is JobStatus.FAILED for job in self.jobs)
            why = self._limits.reached(failures, self._time.monotonic() - started)
            target = self._remaining.popleft()
            if not self._has_update(target):
                continue  # somebody else has updated it meanwhile
            if why is None and self._limits.skip_offline and self._is_offline(target):
                why = Why.OFFLINE
            if why is None:
                await self._async_update(target)
            else:
                self._leave_out(target, why)

    def _is_offline(self, target: TargetId) -> bool:
        device = self._coordinator.devices.get(target)
        return device is None or device.core is None or device.core.online is not True

    async def _async_update(self, target: TargetId) -> None:
        try:
            job = await self._coordinator.async_submit(
                target,
                self._wanted.operation,
                context=self._context,
                version=self._wanted.version,
                source=self._wanted.source,
            )
        except HomeAssistantError as refused:
            self.left_out[target] = exception_text(self._hass, refused)
            return
        number = len(self.jobs)
        self.jobs.append(job)
        self.jobs[number] = await self._coordinator.async_wait(job)

    def _leave_out(self, target: TargetId, why: Why) -> None:
        self.left_out[target] = common_text(self._hass, why)
