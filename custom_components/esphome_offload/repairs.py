"""The repairs with a dialog: which device a configuration is for, an installation that failed."""

from abc import abstractmethod
from typing import override

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.selector import (
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
import probatio

from .batch.retry import async_retry
from .const import DOMAIN, job_url
from .coordinator import DATA_COORDINATOR
from .engine.const import Operation
from .engine.target import TargetId, configuration_of
from .inventory.choices import NO_DEVICE
from .texts.reasons import exception_text

_DEVICE = "device"


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the dialog of a repair."""
    data = data or {}
    target = TargetId(str(data["target"]))
    if (job_id := data.get("job_id")) is not None:
        return RetryFlow(target, str(job_id))
    return ChooseDeviceFlow(target)


class _OffloadRepair(RepairsFlow):
    """A dialog with one form."""

    async def async_step_init(self, _issue: dict[str, str] | None = None) -> RepairsFlowResult:
        """Show the form; this step itself is called with what Home Assistant knows of the repair."""
        return await self.async_step_confirm()

    @abstractmethod
    async def async_step_confirm(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Show the form, or do what was entered."""


class RetryFlow(_OffloadRepair):
    """Says where the log of an installation that failed is, and does it once more."""

    def __init__(self, target: TargetId, job_id: str) -> None:
        self._target = target
        self._job_id = job_id

    @override
    async def async_step_confirm(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Ask whether to try again."""
        if user_input is not None:
            try:
                await self._async_retry()
            except ServiceValidationError as err:
                return self.async_abort(
                    reason="refused",
                    description_placeholders={"error": exception_text(self.hass, err)},
                )
            return self.async_create_entry(data={})
        issue = ir.async_get(self.hass).async_get_issue(DOMAIN, self.issue_id)
        placeholders = {} if issue is None else issue.translation_placeholders or {}
        return self.async_show_form(
            step_id="confirm",
            data_schema=probatio.Schema({}),
            description_placeholders={**placeholders, "log": job_url(self._job_id)},
        )

    async def _async_retry(self) -> None:
        coordinator = self.hass.data[DATA_COORDINATOR]
        job = coordinator.queue.get(self._job_id)
        if job is None:  # it was long ago
            await coordinator.async_submit(self._target, Operation.INSTALL)
            return
        await async_retry(coordinator, job)


class ChooseDeviceFlow(_OffloadRepair):
    """Lets a person choose the device of a target; remembered until another is chosen."""

    def __init__(self, target: TargetId) -> None:
        self._target = target

    @override
    async def async_step_confirm(
        self, user_input: dict[str, str] | None = None
    ) -> RepairsFlowResult:
        """Show the devices that it could be for."""
        inventory = self.hass.data[DATA_COORDINATOR].inventory
        if user_input is not None:
            await inventory.async_choose(self._target, user_input[_DEVICE])
            return self.async_create_entry(data={})
        options = [
            SelectOptionDict(
                value=device.mac,
                label=f"{device.friendly_name} ({device.host or device.mac}, {device.mac})",
            )
            for device in inventory.candidates(self._target)
            if device.mac is not None
        ]
        selector = SelectSelector(
            SelectSelectorConfig(
                options=[*options, SelectOptionDict(value=NO_DEVICE, label=NO_DEVICE)],
                translation_key="chosen_device",
                mode=SelectSelectorMode.LIST,
            )
        )
        return self.async_show_form(
            step_id="confirm",
            data_schema=probatio.Schema({probatio.Required(_DEVICE): selector}),
            description_placeholders={"file": configuration_of(self._target)},
        )
