"""The event entity of each device: how installations on it ended."""

from enum import StrEnum
from typing import override

from homeassistant.components.event import EventEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry, OffloadCoordinator
from .engine.const import FailureReason, JobStatus
from .engine.jobs.model import FirmwareJob, JobEvent
from .engine.text import without_markup
from .entity import OffloadEntity, async_add_to_targets
from .inventory.tracker import OffloadDevice
from .texts.reasons import outcome_text

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

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.queue.subscribe(None, self._job_changed))

    @override
    @callback
    def async_entity_id_changed(self, old_entity_id: str) -> None:
        """Change nothing, as the base: it has to stand beside ``async_added_to_hass``."""

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        """Write no state: nothing but an event changes it."""

    @callback
    def _job_changed(self, _event: JobEvent, job: FirmwareJob) -> None:
        request = job.request
        if not job.terminal or request.target != self.target or not request.operation.flashes:
            return
        completed = job.status is JobStatus.COMPLETED
        builder = job.routing.source_label
        self._trigger_event(
            InstallationEnd.of(job),
            {
                # Automations show them in notifications, which are Markdown.
                "builder": None if builder is None else without_markup(builder),
                "job_id": job.job_id,
                "reason": None if completed else without_markup(outcome_text(self.hass, job)),
                "verified": job.outcome.verified,
                "version": request.esphome_version,
            },
        )
        self.async_write_ha_state()
