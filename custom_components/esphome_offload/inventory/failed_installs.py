"""FailedInstalls: forgets that an installation failed when its configuration is another."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval

from .. import issues
from ..engine.jobs.ports import FolderUnavailableError
from ..engine.target import TargetId, configuration_of
from .tracker import DeviceInventory

_INTERVAL: Final = timedelta(seconds=30)


class FailedInstalls:
    """Looks whether files have changed of devices whose last installation failed."""

    def __init__(self, hass: HomeAssistant, configurations: DeviceInventory) -> None:
        self._hass = hass
        self._configurations = configurations
        self._checked: dict[TargetId, tuple[object, str]] = {}
        self._cancel: Callable[[], None] | None = None

    @callback
    def start(self) -> None:
        """Start to look."""
        self._cancel = async_track_time_interval(
            self._hass, self._async_look, _INTERVAL, cancel_on_shutdown=True
        )

    @callback
    def stop(self) -> None:
        """Stop."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    async def _async_look(self, _now: datetime) -> None:
        failed = issues.async_failed_installs(self._hass)
        for target, fingerprint in failed.items():
            checked = self._configurations.files_state(configuration_of(target)), fingerprint
            if self._checked.get(target) == checked:
                continue
            with suppress(FolderUnavailableError):
                if await self._is_other(configuration_of(target), fingerprint):
                    issues.async_delete_install_failed(self._hass, target)
                self._checked[target] = checked
        self._checked = {
            target: self._checked[target] for target in failed.keys() & self._checked.keys()
        }

    async def _is_other(self, configuration: str, fingerprint: str) -> bool:
        now = await self._configurations.fingerprint(configuration)
        return (
            now is not None
            and now != fingerprint
            and not await self._configurations.same_files(configuration, fingerprint)
        )
