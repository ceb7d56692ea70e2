"""The buttons of each device, for administrators: install, cancel, clean."""

from abc import abstractmethod
from typing import override

from homeassistant.components.button import ButtonEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry, OffloadCoordinator
from .engine.const import Operation
from .engine.jobs.model import FirmwareJob
from .entity import OffloadEntity, async_add_to_targets, async_require_admin
from .inventory.tracker import OffloadDevice
from .texts.errors import validation_error

# The job queue decides what runs at the same time.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: OffloadConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the buttons of every target that is there or appears."""
    await async_add_to_targets(entry, async_add_entities, InstallButton, CancelButton, CleanButton)


class OffloadButton(OffloadEntity, ButtonEntity):
    """A button of a device, for administrators."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_translation_key: str

    def __init__(self, coordinator: OffloadCoordinator, device: OffloadDevice) -> None:
        super().__init__(coordinator, device, self._attr_translation_key)

    @override
    async def async_press(self) -> None:
        await async_require_admin(self)
        await self._async_pressed()

    @abstractmethod
    async def _async_pressed(self) -> None:
        """Do it: an administrator pressed the button."""


class SubmitButton(OffloadButton):
    """A button that starts a job, and returns at once."""

    _operation: Operation
    _rebuild = False

    @override
    async def _async_pressed(self) -> None:
        await self.coordinator.async_submit(
            self.target, self._operation, context=self._context, rebuild=self._rebuild
        )

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        """Write no state: nothing that happens to the device changes it."""


class InstallButton(SubmitButton):
    """Builds and flashes, also when nothing has changed."""

    _attr_translation_key = "rebuild"
    _operation = Operation.INSTALL
    _rebuild = True


class CleanButton(SubmitButton):
    """Deletes the build files, so that the next build starts from scratch."""

    _attr_entity_registry_enabled_default = False
    _attr_translation_key = "clean"
    _operation = Operation.CLEAN


class CancelButton(OffloadButton):
    """Cancels the job that runs or waits; available while there is one."""

    _attr_translation_key = "cancel"

    @property
    def _job(self) -> FirmwareJob | None:
        return self.coordinator.queue.active(self.target)

    @property
    @override
    def available(self) -> bool:
        return self._job is not None

    @override
    async def _async_pressed(self) -> None:
        if (job := self._job) is None:  # it has ended while the button was pressed
            raise validation_error("nothing_to_cancel", devices=self.target)
        await self.coordinator.async_cancel(job.job_id)
