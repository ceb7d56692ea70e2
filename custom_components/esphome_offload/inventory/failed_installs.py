"""FailedInstalls: forgets that an installation failed when its cause is gone."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.helpers.issue_registry import IssueEntry

from .. import issues
from ..engine.const import REQUESTED_AUTO, FailureReason
from ..engine.jobs.pool import BuilderPool
from ..engine.jobs.ports import FolderUnavailableError
from ..engine.jobs.queue import JobQueue
from ..engine.jobs.router import Bind
from ..engine.target import TargetId, configuration_of
from .device_firmware import DeviceFirmware
from .device_link import same_time
from .tracker import DeviceInventory
from .versions import VersionTracker

_INTERVAL: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class _FailedInstall:
    """An installation with a repair; what could not be started has neither job nor version.

    ``fingerprint`` is what its configuration was like, None while that is not known; ``changed``:
    it was another than that of the device's firmware.
    """

    issue: IssueEntry
    target: TargetId

    @property
    def issue_id(self) -> str:
        return self.issue.issue_id

    @property
    def fingerprint(self) -> str | None:
        return self._text("fingerprint")

    @property
    def changed(self) -> bool:
        return self._data.get("changed") is True

    @property
    def no_builder(self) -> bool:
        return self._data.get("failure_reason") == FailureReason.NO_BUILDER

    @property
    def job_id(self) -> str | None:
        return self._text("job_id")

    @property
    def version(self) -> str | None:
        return self._text("version")

    @property
    def from_version(self) -> str | None:
        return self._text("from_version")

    @property
    def _data(self) -> Mapping[str, object]:
        return self.issue.data or {}

    def _text(self, key: str) -> str | None:
        return value if isinstance(value := self._data.get(key), str) else None


class FailedInstalls:
    """Watches targets whose last installation failed, or could not be started.

    Its repair goes when the configuration is another, when the device got what it is to run in
    another way, and, if no builder took the job, when one would take it now.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        configurations: DeviceInventory,
        queue: JobQueue,
        builders: BuilderPool,
        firmware: DeviceFirmware,
        *,
        versions: VersionTracker,
    ) -> None:
        self._hass = hass
        self._configurations = configurations
        self._queue = queue
        self._builders = builders
        self._firmware = firmware
        self._versions = versions
        self._checked: dict[str, tuple[object, str]] = {}
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
        failed = [_FailedInstall(*each) for each in issues.async_failed_installs(self._hass)]
        for install in failed:
            with suppress(FolderUnavailableError):
                if (
                    (install.no_builder and self._can_build(install.target))
                    or self._is_settled(install)
                    or await self._is_other(install)
                ):
                    issues.async_delete(self._hass, install.issue_id)
        known = {install.issue_id for install in failed}
        self._checked = {each: self._checked[each] for each in known & self._checked.keys()}

    def _is_settled(self, install: _FailedInstall) -> bool:
        """Return whether a device runs what it is to run, and did not when it failed."""
        target, running = install.target, self._firmware.running(install.target)
        if running is None:
            return False
        job = None if install.job_id is None else self._queue.get(install.job_id)
        built = None if job is None else job.build_info
        if (
            built is not None
            and running.build_time is not None
            and same_time(running.build_time, built.build_time)
        ):
            # It came back after its job had ended, or was flashed with what that has built.
            return True
        is_changed = self._firmware.is_changed(target)
        if is_changed and not install.changed:
            issues.async_note(self._hass, install.issue_id, changed=True)
        version = running.esphome_version
        if is_changed or not (
            version == install.version or self._versions.suffices(target, version)
        ):
            return False
        return version != install.from_version or (install.changed and is_changed is False)

    def _can_build(self, target: TargetId) -> bool:
        """Return whether a builder would take the job that failed."""
        job = self._queue.last_install(target)
        source = REQUESTED_AUTO if job is None else job.request.requested_source
        if source == REQUESTED_AUTO:
            return isinstance(self._queue.outlook(configuration_of(target)), Bind)
        builder = self._builders.get(source)
        return builder is not None and builder.status().available

    async def _is_other(self, install: _FailedInstall) -> bool:
        """Return whether a configuration changed since its installation failed."""
        configuration, fingerprint = configuration_of(install.target), install.fingerprint
        if fingerprint is None:
            # No builder got it: from now on it is known what it was like.
            if (now := await self._configurations.fingerprint(configuration)) is not None:
                issues.async_note(self._hass, install.issue_id, fingerprint=now)
            return False
        checked = self._configurations.files_state(configuration), fingerprint
        if self._checked.get(install.issue_id) == checked:
            return False
        now = await self._configurations.fingerprint(configuration)
        is_other = (
            now is not None
            and now != fingerprint
            and not await self._configurations.same_files(configuration, fingerprint)
        )
        self._checked[install.issue_id] = checked
        return is_other
