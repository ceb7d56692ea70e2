"""Config flow: this instance, its folder and its options."""

from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any, override

from homeassistant.config_entries import (
    ConfigEntry,
    ConfigFlow,
    ConfigFlowResult,
    OptionsFlow,
)
from homeassistant.core import callback
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import probatio

from .builders.versions import VersionError, VersionProblem, normal_version
from .const import DOMAIN, INSTANCE_UNIQUE_ID
from .coordinator import DATA_COORDINATOR
from .options import (
    ENTRY_KIND_INSTANCE,
    MAX_PARALLEL_BUILDS,
    MAX_PARALLEL_UPLOADS,
    MAX_WAIT_HOURS,
    EntryKey,
    OffloadOptions,
    VersionChannel,
)

INSTANCE_TITLE = "This instance"
PROPOSED_FOLDER = "esphome"

SECTION_VERSION = "version"
SECTION_PARALLEL = "parallel"
SECTION_WAITING = "waiting"

# Without a network nobody can say whether a version exists; then the owner is believed.
_VERSION_ERRORS = {
    VersionProblem.UNKNOWN: "version_not_found",
    VersionProblem.UNSUPPORTED_PYTHON: "version_unsupported",
}

FOLDER_SCHEMA = probatio.Schema({probatio.Optional(EntryKey.CONFIG_DIR): TextSelector()})
FIXED_VERSION_SCHEMA = probatio.Schema({probatio.Required(EntryKey.FIXED_VERSION): TextSelector()})


class OffloadConfigFlow(ConfigFlow, domain=DOMAIN):
    """Sets up "this instance"."""

    VERSION = 1
    MINOR_VERSION = 1

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: ConfigEntry) -> OptionsFlow:
        """Return the flow behind "Configure"."""
        return OffloadOptionsFlow()

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the ESPHome configuration folder."""
        # A dialog that was left open in another browser must not keep this one shut.
        await self.async_set_unique_id(INSTANCE_UNIQUE_ID, raise_on_progress=False)
        self._abort_if_unique_id_configured()
        errors: dict[str, str] = {}
        if user_input is None:
            folder = await self._proposed_folder()
        else:
            folder = _typed_folder(user_input)
            errors = await self._folder_errors(folder)
            if not errors:
                return self.async_create_entry(
                    title=INSTANCE_TITLE,
                    data={EntryKey.KIND: ENTRY_KIND_INSTANCE, EntryKey.CONFIG_DIR: folder},
                )
        return self._folder_form("user", folder, errors)

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Change the folder; the entry's update listener applies it without a reload."""
        entry = self._get_reconfigure_entry()
        errors: dict[str, str] = {}
        if user_input is None:
            folder = entry.data.get(EntryKey.CONFIG_DIR, "")
        else:
            folder = _typed_folder(user_input)
            errors = await self._folder_errors(folder)
            if not errors:
                return self.async_update_and_abort(
                    entry, data_updates={EntryKey.CONFIG_DIR: folder}
                )
        return self._folder_form("reconfigure", folder, errors)

    def _folder_form(self, step_id: str, folder: str, errors: dict[str, str]) -> ConfigFlowResult:
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(
                FOLDER_SCHEMA, {EntryKey.CONFIG_DIR: folder}
            ),
            errors=errors,
            description_placeholders={
                "folder": str(self._absolute(folder)),
                "home": self.hass.config.config_dir,
            },
        )

    async def _proposed_folder(self) -> str:
        proposed = await self.hass.async_add_executor_job(
            self._absolute(PROPOSED_FOLDER).is_dir,
        )
        return PROPOSED_FOLDER if proposed else ""

    async def _folder_errors(self, folder: str) -> dict[str, str]:
        if not folder:
            return {}
        error = await self.hass.async_add_executor_job(_folder_error, self._absolute(folder))
        return {} if error is None else {EntryKey.CONFIG_DIR: error}

    def _absolute(self, folder: str) -> Path:
        return Path(self.hass.config.path(folder))


class OffloadOptionsFlow(OptionsFlow):
    """Changes the options; the entry's update listener applies them to what runs."""

    def __init__(self) -> None:
        """Start with nothing chosen."""
        self._chosen: dict[str, Any] = {}

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for everything but a fixed version."""
        if user_input is None:
            return self.async_show_form(
                step_id="init",
                data_schema=self.add_suggested_values_to_schema(
                    _options_schema(), _by_section(self._current)
                ),
            )
        self._chosen = _flat(user_input)
        if self._chosen[EntryKey.VERSION_CHANNEL] == VersionChannel.FIXED:
            return await self.async_step_fixed_version()
        return self.async_create_entry(data=self._chosen)

    async def async_step_fixed_version(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the version to stay at."""
        errors: dict[str, str] = {}
        if user_input is None:
            version = self._current.fixed_version or self._latest_version
        else:
            version = user_input[EntryKey.FIXED_VERSION]
            try:
                version = normal_version(version)
            except VersionError:
                errors[EntryKey.FIXED_VERSION] = "version_invalid"
            else:
                errors = await self._version_errors(version)
            if not errors:
                return self.async_create_entry(
                    data={**self._chosen, EntryKey.FIXED_VERSION: version}
                )
        return self.async_show_form(
            step_id="fixed_version",
            data_schema=self.add_suggested_values_to_schema(
                FIXED_VERSION_SCHEMA, {EntryKey.FIXED_VERSION: version}
            ),
            errors=errors,
            description_placeholders={"version": version},
        )

    @property
    def _current(self) -> OffloadOptions:
        return OffloadOptions.from_entry(self.config_entry.data, self.config_entry.options)

    @property
    def _latest_version(self) -> str:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        return (coordinator and coordinator.latest_version) or ""

    async def _version_errors(self, version: str) -> dict[str, str]:
        """Check that a version exists, as far as that can be known just now."""
        if (coordinator := self.hass.data.get(DATA_COORDINATOR)) is None:
            return {}
        try:
            await coordinator.workshop.versions.check(version)
        except VersionError as error:
            if (key := _VERSION_ERRORS.get(error.problem)) is not None:
                return {EntryKey.FIXED_VERSION: key}
        return {}


def _typed_folder(user_input: Mapping[str, Any]) -> str:
    return str(user_input.get(EntryKey.CONFIG_DIR, "")).strip()


def _folder_error(folder: Path) -> str | None:
    """Return the translation key of what is wrong with a folder; blocking."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except FileNotFoundError:
        return "folder_not_found"
    except NotADirectoryError:
        return "not_a_folder"
    except OSError, ValueError:  # ValueError: a NUL in the path
        return "folder_not_readable"
    return None


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
                        probatio.Required(EntryKey.PARALLEL_BUILDS): _number(
                            1, MAX_PARALLEL_BUILDS
                        ),
                        probatio.Required(EntryKey.PARALLEL_UPLOADS): _number(
                            1, MAX_PARALLEL_UPLOADS
                        ),
                    }
                )
            ),
            probatio.Required(SECTION_WAITING): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.WAIT_FOR_DEVICE): BooleanSelector(),
                        probatio.Required(EntryKey.WAIT_HOURS): _number(
                            0, MAX_WAIT_HOURS, unit="h"
                        ),
                    }
                )
            ),
        }
    )


def _number(least: int, most: int, unit: str | None = None) -> probatio.All[int]:
    """Return a number box for whole numbers; the frontend sends floats."""
    config = NumberSelectorConfig(min=least, max=most, step=1, mode=NumberSelectorMode.BOX)
    if unit is not None:
        config["unit_of_measurement"] = unit
    return probatio.All(NumberSelector(config), probatio.Coerce(int))


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
        },
    }


def _flat(user_input: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for group in user_input.values() for key, value in group.items()}
