"""Config flow: this instance and its folder, then its peers."""

from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any, override

from homeassistant.config_entries import (
    ConfigFlowContext,
    ConfigFlowResult,
    FlowType,
    OptionsFlow,
)
from homeassistant.core import callback
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.selector import TextSelector
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from homeassistant.helpers.translation import async_load_integrations
import probatio

from .const import DOMAIN, INSTANCE_UNIQUE_ID
from .coordinator import AnyConfigEntry, OffloadConfigEntry
from .flows.app import AppSteps
from .flows.options import OffloadOptionsFlow
from .flows.reauth import ReauthSteps
from .flows.several import SeveralSteps
from .options import ENTRY_KIND_INSTANCE, EntryKey
from .peering.entry import ENTRY_MINOR_VERSION, is_peer
from .texts.reasons import common_text

PROPOSED_FOLDER = "esphome"

FOLDER_SCHEMA = probatio.Schema({probatio.Optional(EntryKey.CONFIG_DIR): TextSelector()})


class OffloadConfigFlow(AppSteps, ReauthSteps, SeveralSteps, domain=DOMAIN):
    """Sets up "this instance" first, and then its peers."""

    VERSION = 1
    MINOR_VERSION = ENTRY_MINOR_VERSION

    @staticmethod
    @callback
    @override
    def async_get_options_flow(config_entry: OffloadConfigEntry) -> OptionsFlow:
        """Return the flow behind "Configure"."""
        return OffloadOptionsFlow()

    @classmethod
    @callback
    @override
    def async_supports_options_flow(cls, config_entry: AnyConfigEntry) -> bool:
        """Return whether an entry has options; a peer has none."""
        return not is_peer(config_entry)

    @override
    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Pair with a builder; before that, set up "this instance"."""
        if self._instance is not None:
            return await self.async_step_pair()
        return await self.async_step_instance(user_input)

    @override
    async def async_step_instance(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the ESPHome configuration folder."""
        # A dialog that is still open in another browser must not block this one.
        await self.async_set_unique_id(INSTANCE_UNIQUE_ID, raise_on_progress=False)
        self._abort_if_unique_id_configured()
        errors: dict[str, str] = {}
        if user_input is None:
            folder = await self._proposed_folder()
        else:
            folder = _typed_folder(user_input)
            errors = await self._folder_errors(folder)
            if not errors:
                # Before anything is set up they are not loaded.
                await async_load_integrations(self.hass, {DOMAIN})
                return self.async_create_entry(
                    title=common_text(self.hass, "this_instance"),
                    description="with_folder" if folder else "without_folder",
                    data={EntryKey.KIND: ENTRY_KIND_INSTANCE, EntryKey.CONFIG_DIR: folder},
                    next_flow=await self._async_found_again(),
                )
        return self._folder_form("instance", folder, errors)

    @override
    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """Handle a builder that announces itself.

        Home Assistant's own checks look for this step in this file.
        """
        return await super().async_step_zeroconf(discovery_info)

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Pair again: the builder does not know this instance any more."""
        return await self.async_step_reauth_confirm()

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Change the folder, which is applied without a reload; or the address of a peer."""
        entry = self._get_reconfigure_entry()
        if is_peer(entry):
            return await self.async_step_reconfigure_peer()
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

    async def _async_found_again(self) -> tuple[FlowType, str] | None:
        """Start the discovery again that led here; it needs "this instance" first."""
        if self.discovery is None:
            return None
        context = ConfigFlowContext(source=self.context["source"])
        if (key := self.context.get("discovery_key")) is not None:
            # By it Home Assistant discovers again what was removed.
            context["discovery_key"] = key
        found = await self.hass.config_entries.flow.async_init(
            DOMAIN, context=context, data=self.discovery
        )
        if found["type"] is not FlowResultType.FORM:
            return None
        return FlowType.CONFIG_FLOW, found["flow_id"]

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
