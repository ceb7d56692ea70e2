"""Options flow of "this instance"."""

from collections.abc import Mapping
from typing import Any

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
from ..engine.build.toolchain.versions import VersionError, VersionProblem, normal_version
from ..options import (
    DEFAULT_WAIT_FOR_BUILDER_MINUTES,
    MAX_PARALLEL_BUILDS,
    MAX_PARALLEL_UPLOADS,
    MAX_WAIT_FOR_BUILDER_MINUTES,
    MAX_WAIT_HOURS,
    EntryKey,
    NoBuilder,
    OffloadOptions,
    VersionChannel,
)
from .fields import whole_number
from .lending import LendingSteps

SECTION_VERSION = "version"
SECTION_PARALLEL = "parallel"
SECTION_WAITING = "waiting"
SECTION_BUILDERS = "builders"

# Without a network a version cannot be checked; it is then accepted.
_VERSION_ERRORS = {
    VersionProblem.UNKNOWN: "version_not_found",
    VersionProblem.UNSUPPORTED_PYTHON: "version_unsupported",
}

FIXED_VERSION_SCHEMA = probatio.Schema({probatio.Required(EntryKey.FIXED_VERSION): TextSelector()})


class OffloadOptionsFlow(LendingSteps):
    """Changes the options; the entry's update listener applies them at once."""

    def __init__(self) -> None:
        self._chosen: dict[str, Any] = {}

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what to change."""
        return self.async_show_menu(step_id="init", menu_options=["settings", *self.guest_steps()])

    async def async_step_settings(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the options of own devices, except for a fixed version."""
        if user_input is None:
            return self.async_show_form(
                step_id="settings",
                data_schema=self.add_suggested_values_to_schema(
                    _options_schema(), _by_section(self.current)
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

    @property
    def _latest_version(self) -> str:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        return (coordinator and coordinator.latest_version) or ""

    async def _version_errors(self, version: str) -> dict[str, str]:
        """Return an error if a version is known not to exist or not to run here."""
        if (coordinator := self.hass.data.get(DATA_COORDINATOR)) is None:
            return {}
        try:
            await coordinator.build_services.versions.check(version)
        except VersionError as error:
            if (key := _VERSION_ERRORS.get(error.problem)) is not None:
                return {EntryKey.FIXED_VERSION: key}
        return {}


def _options_schema() -> probatio.Schema:
    return probatio.Schema(
        {
            probatio.Required(SECTION_VERSION): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.VERSION_CHANNEL): SelectSelector(
                            SelectSelectorConfig(
                                options=list(VersionChannel),
                                mode=SelectSelectorMode.LIST,
                                translation_key="version_channel",
                            )
                        )
                    }
                )
            ),
            probatio.Required(SECTION_PARALLEL): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.PARALLEL_BUILDS): whole_number(
                            1, MAX_PARALLEL_BUILDS
                        ),
                        probatio.Required(EntryKey.PARALLEL_UPLOADS): whole_number(
                            1, MAX_PARALLEL_UPLOADS
                        ),
                    }
                )
            ),
            probatio.Required(SECTION_WAITING): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.WAIT_FOR_DEVICE): BooleanSelector(),
                        probatio.Required(EntryKey.WAIT_HOURS): whole_number(
                            0, MAX_WAIT_HOURS, unit="h"
                        ),
                        probatio.Required(EntryKey.PENDING_IS_ERROR): BooleanSelector(),
                        probatio.Optional(
                            EntryKey.WAIT_FOR_GOOD_BOOT, default=True
                        ): BooleanSelector(),
                    }
                )
            ),
            probatio.Required(SECTION_BUILDERS): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.NO_BUILDER): SelectSelector(
                            SelectSelectorConfig(
                                options=list(NoBuilder),
                                mode=SelectSelectorMode.LIST,
                                translation_key="no_builder",
                            )
                        ),
                        probatio.Required(EntryKey.WAIT_FOR_BUILDER_MINUTES): whole_number(
                            1, MAX_WAIT_FOR_BUILDER_MINUTES, unit="min"
                        ),
                    }
                )
            ),
        }
    )


def _by_section(options: OffloadOptions) -> dict[str, dict[str, Any]]:
    return {
        SECTION_VERSION: {EntryKey.VERSION_CHANNEL: options.version_channel},
        SECTION_PARALLEL: {
            EntryKey.PARALLEL_BUILDS: options.parallel_builds,
            EntryKey.PARALLEL_UPLOADS: options.parallel_uploads,
        },
        SECTION_WAITING: {
            EntryKey.WAIT_FOR_DEVICE: options.wait_for_device,
            EntryKey.WAIT_HOURS: options.wait_hours,
            EntryKey.PENDING_IS_ERROR: options.pending_is_error,
            EntryKey.WAIT_FOR_GOOD_BOOT: options.wait_for_good_boot,
        },
        SECTION_BUILDERS: {
            EntryKey.NO_BUILDER: options.no_builder,
            EntryKey.WAIT_FOR_BUILDER_MINUTES: options.wait_for_builder_minutes
            or DEFAULT_WAIT_FOR_BUILDER_MINUTES,
        },
    }


def _flat(user_input: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for group in user_input.values() for key, value in group.items()}
