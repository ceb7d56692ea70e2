"""FailedInstalls: forgets that an installation failed when its cause is gone."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval

from .. import issues
from ..engine.const import REQUESTED_AUTO
from ..engine.jobs.pool import BuilderPool
from ..engine.jobs.ports import FolderUnavailableError
from ..engine.jobs.queue import JobQueue
from ..engine.jobs.router import Bind
from ..engine.target import TargetId, configuration_of
from .tracker import DeviceInventory

_INTERVAL: Final = timedelta(seconds=30)


class FailedInstalls:
    """Watches targets whose last installation failed.

    Its repair goes when the configuration is another, and, if no builder took the job, when one
    would take it now.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        configurations: DeviceInventory,
        queue: JobQueue,
        builders: BuilderPool,
    ) -> None:
        self._hass = hass
        self._configurations = configurations
        self._queue = queue
        self._builders = builders
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
        for target, install in failed.items():
            with suppress(FolderUnavailableError):
                if (install.no_builder and self._can_build(target)) or await self._is_other(
                    target, install.fingerprint
                ):
                    issues.async_delete_install_failed(self._hass, target)
        self._checked = {
            target: self._checked[target] for target in failed.keys() & self._checked.keys()
        }

    def _can_build(self, target: TargetId) -> bool:
        """Return whether a builder would take the job that failed."""
        job = self._queue.last_install(target)
        source = REQUESTED_AUTO if job is None else job.request.requested_source
        if source == REQUESTED_AUTO:
            return isinstance(self._queue.outlook(configuration_of(target)), Bind)
        builder = self._builders.get(source)
        return builder is not None and builder.status().available

    async def _is_other(self, target: TargetId, fingerprint: str | None) -> bool:
        """Return whether a configuration changed since its installation failed."""
        configuration = configuration_of(target)
        if fingerprint is None:
            # No builder got it: from now on it is known what it was like.
            if (now := await self._configurations.fingerprint(configuration)) is not None:
                issues.async_set_fingerprint(self._hass, target, now)
            return False
        checked = self._configurations.files_state(configuration), fingerprint
        if self._checked.get(target) == checked:
            return False
        now = await self._configurations.fingerprint(configuration)
        is_other = (
            now is not None
            and now != fingerprint
            and not await self._configurations.same_files(configuration, fingerprint)
        )
        self._checked[target] = checked
        return is_other
