"""The repairs that a person can decide: which device a configuration is for."""

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.helpers.selector import (
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
)
import probatio

from .coordinator import DATA_COORDINATOR
from .engine.target import TargetId, configuration_of
from .inventory.choices import NO_DEVICE

_DEVICE = "device"


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the dialog of the only repair that has one."""
    return ChooseDeviceFlow(TargetId(str((data or {})["target"])))


class ChooseDeviceFlow(RepairsFlow):
    """Lets a person choose the device of a target; remembered until another is chosen."""

    def __init__(self, target: TargetId) -> None:
        self._target = target

    async def async_step_init(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
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
            step_id="init",
            data_schema=probatio.Schema({probatio.Required(_DEVICE): selector}),
            description_placeholders={"file": configuration_of(self._target)},
        )
