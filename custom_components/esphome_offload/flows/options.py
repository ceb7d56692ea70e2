"""Options flow of "this instance"."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import probatio

from ..coordinator import DATA_COORDINATOR
from ..engine.build.toolchain.versions import VersionError, normal_version
from ..engine.reason import ReasonKey
from ..options import (
    NUMBERS,
    EntryKey,
    NoBuilder,
    OffloadOptions,
    VersionChannel,
)
from .automatic import AutomaticSteps
from .fields import choice, whole_number
from .lending import LendingSteps

# Without a network a version cannot be checked; it is then accepted.
_VERSION_ERRORS = {
    ReasonKey.VERSION_UNKNOWN: "version_not_found",
    ReasonKey.VERSION_OTHER_PYTHON: "version_unsupported",
}

_TARGETS: Final = "files"

FIXED_VERSION_SCHEMA = probatio.Schema({probatio.Required(EntryKey.FIXED_VERSION): TextSelector()})


_SECTIONS: Final[Mapping[str, Mapping[EntryKey, object]]] = {
    "version": {EntryKey.VERSION_CHANNEL: choice(VersionChannel, "version_channel")},
    "parallel": {
        EntryKey.PARALLEL_BUILDS: whole_number(EntryKey.PARALLEL_BUILDS),
        EntryKey.PARALLEL_UPLOADS: whole_number(EntryKey.PARALLEL_UPLOADS),
        EntryKey.COMPILER_CACHE_GIB: whole_number(EntryKey.COMPILER_CACHE_GIB),
    },
    "waiting": {
        EntryKey.WAIT_FOR_DEVICE: BooleanSelector(),
        EntryKey.WAIT_HOURS: whole_number(EntryKey.WAIT_HOURS),
        EntryKey.PENDING_IS_ERROR: BooleanSelector(),
        EntryKey.WAIT_FOR_GOOD_BOOT: BooleanSelector(),
    },
    "builders": {
        EntryKey.NO_BUILDER: choice(NoBuilder, "no_builder"),
        EntryKey.WAIT_FOR_BUILDER_MINUTES: whole_number(EntryKey.WAIT_FOR_BUILDER_MINUTES),
    },
}
OPTIONS_SCHEMA: Final = probatio.Schema(
    {
        probatio.Required(name): section(
            probatio.Schema({probatio.Required(key): field for key, field in fields.items()})
        )
        for name, fields in _SECTIONS.items()
    }
)


class OffloadOptionsFlow(AutomaticSteps, LendingSteps):
    """Changes the options; the entry's update listener applies them at once."""

    def __init__(self) -> None:
        self._chosen: dict[str, Any] = {}

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what to change."""
        choices = ["choices"] if self._targets_with_choice() else []
        return self.async_show_menu(
            step_id="init",
            menu_options=["settings", "automatic", *choices, *self.guest_steps()],
        )

    async def async_step_choices(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the configurations whose device is to be chosen again."""
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        if coordinator is None:
            return self.async_abort(reason="not_loaded")
        if user_input is not None:
            await coordinator.inventory.async_forget_choices(user_input[_TARGETS])
            return self.async_create_entry(data=dict(self.config_entry.options))
        targets = SelectSelector(
            SelectSelectorConfig(
                options=list(self._targets_with_choice()),
                multiple=True,
                mode=SelectSelectorMode.LIST,
            )
        )
        return self.async_show_form(
            step_id="choices", data_schema=probatio.Schema({probatio.Required(_TARGETS): targets})
        )

    async def async_step_settings(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the options of own devices, except for a fixed version."""
        if user_input is None:
            return self.async_show_form(
                step_id="settings",
                data_schema=self.add_suggested_values_to_schema(
                    OPTIONS_SCHEMA, _by_section(self.current)
                ),
            )
        self._chosen = _flat(user_input)
        if self._chosen[EntryKey.VERSION_CHANNEL] == VersionChannel.FIXED:
            return await self.async_step_fixed_version()
        return self._save(self._chosen)

    async def async_step_fixed_version(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the fixed version."""
        errors: dict[str, str] = {}
        if user_input is None:
            version = self.current.fixed_version or self._latest_version
        else:
            version = user_input[EntryKey.FIXED_VERSION]
            try:
                version = normal_version(version)
            except VersionError:
                errors[EntryKey.FIXED_VERSION] = "version_invalid"
            else:
                errors = await self._version_errors(version)
            if not errors:
                return self._save({**self._chosen, EntryKey.FIXED_VERSION: version})
        return self.async_show_form(
            step_id="fixed_version",
            data_schema=self.add_suggested_values_to_schema(
                FIXED_VERSION_SCHEMA, {EntryKey.FIXED_VERSION: version}
            ),
            errors=errors,
            description_placeholders={"version": version},
        )

    def _save(self, chosen: Mapping[str, Any]) -> ConfigFlowResult:
        """Store the chosen options beside those of other steps."""
        others = {
            key: value
            for key, value in self.config_entry.options.items()
            if key != EntryKey.FIXED_VERSION
        }
        return self.async_create_entry(data={**others, **chosen})

    def _targets_with_choice(self) -> Sequence[str]:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        return [] if coordinator is None else coordinator.inventory.targets_with_choice

    @property
    def _latest_version(self) -> str:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        return (coordinator and coordinator.versions.latest) or ""

    async def _version_errors(self, version: str) -> dict[str, str]:
        """Return an error if a version is known not to exist or not to run here."""
        if (coordinator := self.hass.data.get(DATA_COORDINATOR)) is None:
            return {}
        try:
            await coordinator.build_services.versions.check(version)
        except VersionError as error:
            if (key := _VERSION_ERRORS.get(error.reason.key)) is not None:
                return {EntryKey.FIXED_VERSION: key}
        return {}


def _by_section(options: OffloadOptions) -> dict[str, dict[str, Any]]:
    values = asdict(options)
    if not options.no_builder.waits:
        minutes = NUMBERS[EntryKey.WAIT_FOR_BUILDER_MINUTES].default
        values[EntryKey.WAIT_FOR_BUILDER_MINUTES] = minutes
    return {name: {key: values[key] for key in fields} for name, fields in _SECTIONS.items()}


def _flat(user_input: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for group in user_input.values() for key, value in group.items()}
