"""The event entity of each device: how installations on it ended."""

from enum import StrEnum
from typing import override

from homeassistant.components.event import EventEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry, OffloadCoordinator
from .engine.const import FailureReason, JobStatus
from .engine.jobs.model import FirmwareJob
from .entity import OffloadEntity, async_add_to_targets
from .inventory.tracker import OffloadDevice
from .texts.reasons import outcome_text, plain_text

# Everything is pushed.
PARALLEL_UPDATES = 0


class InstallationEnd(StrEnum):
    """How an installation ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    """It failed, because the device went back to its old firmware."""
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @classmethod
    def of(cls, job: FirmwareJob) -> InstallationEnd:
        """Return how a job ended."""
        reason = job.outcome.failure_reason
        if reason in (FailureReason.ROLLED_BACK, FailureReason.SUPERSEDED):
            return cls(reason.value)
        return cls(job.status.value)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: OffloadConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the event entity of every target that is there or appears."""
    await async_add_to_targets(entry, async_add_entities, InstallationEnded)


class InstallationEnded(OffloadEntity, EventEntity):
    """Says of each job that was to flash the device how it ended."""

    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_translation_key = "installation_ended"

    def __init__(self, coordinator: OffloadCoordinator, device: OffloadDevice) -> None:
        super().__init__(coordinator, device, "installation_ended")
        self._attr_event_types = list(InstallationEnd)
        self._going_on: dict[str, FirmwareJob] = {}
        self._note_active()

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        """Say which installations have ended; nothing else changes the state."""
        self._note_active()
        ended = [job for job in self._going_on.values() if job.terminal]
        for job in ended:
            del self._going_on[job.job_id]
            if job.request.operation.flashes and job.request.target == self.target:
                self._tell(job)

    @callback
    def _note_active(self) -> None:
        job = self.coordinator.queue.active(self.target)
        if job is not None:
            self._going_on[job.job_id] = job

    @callback
    def _tell(self, job: FirmwareJob) -> None:
        completed = job.status is JobStatus.COMPLETED
        self._trigger_event(
            InstallationEnd.of(job),
            {
                "builder": plain_text(job.routing.source_label),
                "job_id": job.job_id,
                "reason": None if completed else plain_text(outcome_text(self.hass, job)),
                "verified": job.outcome.verified,
                "version": job.request.esphome_version,
            },
        )
        self.async_write_ha_state()
