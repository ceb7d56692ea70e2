"""AutomaticUpdates: starts the installations that are due, one attempt per device and window."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import logging
from typing import Final

from homeassistant.const import STATE_ON
from homeassistant.core import Context, CoreState, HomeAssistant, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers.event import async_track_utc_time_change
from homeassistant.helpers.start import async_at_started
from homeassistant.util import dt as dt_util

from .. import issues, registry
from ..const import DOMAIN
from ..coordinator import OffloadConfigEntry
from ..engine.const import JobStatus, Operation
from ..engine.jobs.model import FirmwareJob, JobEvent
from ..engine.target import TargetId
from ..inventory.tracker import OffloadDevice
from ..inventory.versions import is_older
from ..stores.absences import Absences
from ..texts.reasons import common_text, exception_text
from .build_slots import free_slots
from .canary import (
    CanaryProblem,
    canary_state,
    canary_target,
    flashed,
    why_it_cannot_vouch,
)
from .earlier_failures import EarlierFailures
from .plan import Canary, Device, Fleet, candidates
from .settings import AutomaticFor, AutomaticSettings
from .window import window_at

_LOGGER = logging.getLogger(__name__)

_MINUTES: Final = "/5"
"""By the clock and not by a delay, so that it does not matter how the clock is changed."""

_SETTLE: Final = timedelta(minutes=10)
_LONG_AWAY: Final = timedelta(days=1)
_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


class AutomaticUpdates:
    """Looks every five minutes, and when an installation that it started goes on or ends.

    What is due depends on nothing but the state at that moment.
    """

    def __init__(self, hass: HomeAssistant, entry: OffloadConfigEntry) -> None:
        self._hass = hass
        self._entry = entry
        self._coordinator = entry.runtime_data
        self._checking = asyncio.Lock()
        self._failures = EarlierFailures(hass, self._coordinator)
        # Of the canary: what was seen of it last, and since when.
        self._seen: tuple[TargetId, str | None, bool] | None = None
        self._seen_since: datetime | None = None
        self._absences = Absences(hass, "canary")
        self._settled_at = dt_util.utcnow() + _SETTLE

    @property
    def settings(self) -> AutomaticSettings:
        """The settings as they are now."""
        return AutomaticSettings.from_options(self._entry.options)

    async def async_start(self) -> None:
        """Start to look, once Home Assistant has started, until the entry is unloaded."""
        await self._absences.async_load()
        for unsubscribe in (
            self._coordinator.async_add_listener(self._watch_canary),
            self._coordinator.queue.subscribe(None, self._job_changed),
            async_track_utc_time_change(self._hass, self._look, minute=_MINUTES, second=0),
            async_at_started(self._hass, self._look),
            self._entry.add_update_listener(self._async_options_changed),
        ):
            self._entry.async_on_unload(unsubscribe)
        self._watch_canary()

    @callback
    def _look(self, _when: object) -> None:
        settings = self.settings
        used = settings.canary is not None and settings.devices is not AutomaticFor.OFF
        target = canary_target(self._hass, settings.canary) if used else None
        issues.async_set_canary_missing(self._hass, missing=used and target is None)
        self._show_canary_problem(settings, target)
        self._check_soon()

    def _show_canary_problem(self, settings: AutomaticSettings, target: TargetId | None) -> None:
        """Show what is wrong with the canary; while that is not known yet, leave what is shown."""
        name, text = "", None
        if target is not None:
            if (device := self._coordinator.devices.get(target)) is None:
                return
            problem = self._canary_problem(settings, target)
            if problem is None and self._may_come_back(target):
                return
            name = device.name
            text = None if problem is None else common_text(self._hass, f"canary_{problem}")
        issues.async_set_canary_blocks(self._hass, name, text)

    def _canary_problem(
        self, settings: AutomaticSettings, target: TargetId
    ) -> CanaryProblem | None:
        self._watch_canary()
        state = canary_state(self._hass, self._coordinator, settings, target)
        return why_it_cannot_vouch(
            replace(state, away=self._is_long_away(target), failed=self._failures.failed(target))
        )

    def _is_long_away(self, target: TargetId) -> bool:
        """Return whether a canary is away for long."""
        return self._was_long_away(target) and dt_util.utcnow() >= self._settled_at

    def _may_come_back(self, target: TargetId) -> bool:
        """Return whether a canary that was away for long has time to come back after a start."""
        return self._was_long_away(target) and dt_util.utcnow() < self._settled_at

    def _was_long_away(self, target: TargetId) -> bool:
        if self._seen is None or self._seen[2]:
            return False
        return dt_util.utcnow() >= self._absences.since(target) + _LONG_AWAY

    async def _async_options_changed(
        self, _hass: HomeAssistant, _entry: OffloadConfigEntry
    ) -> None:
        self._look(None)

    @callback
    def _job_changed(self, event: JobEvent, job: FirmwareJob) -> None:
        if job.request.automatic and event is not JobEvent.PROGRESS:
            self._check_soon()

    @callback
    def _check_soon(self) -> None:
        self._entry.async_create_background_task(
            self._hass, self._async_check(), f"{DOMAIN} automatic updates"
        )

    async def _async_check(self) -> None:
        async with self._checking:
            await self._async_start_due()

    async def _async_start_due(self) -> None:
        if not self._in_window:
            return
        await self._failures.async_refresh()
        while (target := self._next()) is not None:
            device = self._coordinator.devices[target]
            try:
                await self._coordinator.device_settings.async_note_attempt(target, dt_util.utcnow())
            except OSError as err:
                # Without it, a restart could make it happen twice in one window.
                _LOGGER.warning("Nothing is updated automatically: %s", err)
                return
            await self._async_update(device)

    @property
    def _in_window(self) -> bool:
        """Whether anything may start now."""
        zone = dt_util.get_default_time_zone()
        window = window_at(self.settings, dt_util.utcnow(), zone)
        return self._hass.state is CoreState.running and window is not None

    def _next(self, *, starting: TargetId | None = None) -> TargetId | None:
        """Return the device to update now; ``starting`` has its attempt at this moment."""
        if not self._in_window:
            return None
        settings, now = self.settings, dt_util.utcnow()
        zone = dt_util.get_default_time_zone()
        fleet = self._fleet(settings)
        if starting is not None:
            devices = (each for each in fleet.devices if each.target == starting)
            fleet = replace(
                fleet, devices=tuple(replace(each, attempted_at=None) for each in devices)
            )
        due = candidates(settings, fleet, now, zone)
        return due[0] if due else None

    async def _async_update(self, device: OffloadDevice) -> None:
        """Start an attempt that was noted, unless it is not due any more."""
        coordinator, target, name = self._coordinator, device.target, device.name
        try:
            request = await coordinator.async_prepare(target, Operation.INSTALL, automatic=True)
            # All this took time, in which it may have been skipped, started or removed.
            if self._next(starting=target) is None:
                return
            coordinator.submit(request, Context())
        except ServiceValidationError as err:
            _LOGGER.warning("%s was not updated automatically: %s", name, err)
            if not coordinator.inventory.is_gone(target):
                issues.async_create_not_updated(
                    self._hass, target, name, exception_text(self._hass, err)
                )
            return
        _LOGGER.info("Updating %s to ESPHome %s automatically", name, request.esphome_version)
        issues.async_delete_not_updated(self._hass, target)

    def _fleet(self, settings: AutomaticSettings) -> Fleet:
        coordinator = self._coordinator
        every = coordinator.queue.jobs()
        jobs = [job for job in every if job.request.automatic]
        return Fleet(
            devices=tuple(
                self._device(device)
                for device in coordinator.devices.values()
                if self._is_possible(device, settings)
            ),
            canary=None if settings.canary is None else self._canary(settings.canary),
            failed_at=tuple(job.created_at for job in jobs if job.status is JobStatus.FAILED),
            running=sum(not job.terminal and not job.pending for job in jobs),
            slots=free_slots(
                coordinator.builders,
                [job for job in every if not job.terminal],
                peers_expected=coordinator.peering.expected,
                falls_back=coordinator.settings.no_builder.builds_here,
            ),
        )

    def _is_possible(self, device: OffloadDevice, settings: AutomaticSettings) -> bool:
        """Return whether a device takes part, has an update, can be reached, and has no job.

        One that sleeps is reached when it wakes: its firmware is to be ready then. One that nobody
        has heard of yet, or that cannot be flashed as it is, is left to a person.
        """
        coordinator, target = self._coordinator, device.target
        if device.configuration.access.without_ota or device.rivals or device.without_suffix:
            return False
        takes_part = settings.takes_part(coordinator.device_settings.get(target).automatic)
        installed = coordinator.installed_version(target)
        if not takes_part or installed is None or self._failures.repeats(target):
            return False
        if not coordinator.versions.is_pinned(target) and is_older(
            coordinator.versions.wanted(target), installed
        ):
            # A person installed a newer version than its channel has.
            return False
        entity = registry.async_entity(self._hass, target)
        state = None if entity is None else self._hass.states.get(entity.entity_id)
        if state is None or state.state != STATE_ON or coordinator.queue.active(target) is not None:
            return False
        sleeps = device.configuration.deep_sleep and coordinator.settings.wait_for_device
        return sleeps or device.core is None or device.core.online is not False

    def _device(self, device: OffloadDevice) -> Device:
        coordinator, target = self._coordinator, device.target
        setting = coordinator.device_settings.get(target)
        version = coordinator.versions.wanted(target) or ""
        pinned = coordinator.versions.is_pinned(target)
        return Device(
            target=target,
            installed=coordinator.installed_version(target),
            version=version,
            out_since=None if pinned else coordinator.versions.out_since(version),
            attempted_at=setting.attempted_at,
            waits_for_canary=setting.version is None,
            failed=self._failures.failed(target),
        )

    def _canary(self, canary: str) -> Canary:
        if (target := canary_target(self._hass, canary)) is None:
            return Canary()
        self._watch_canary()
        version = self._coordinator.installed_version(target)
        job = flashed(self._coordinator, target, version)
        up_since = self._seen_since
        if job is not None and up_since is not None:
            verified = job.outcome.verified is True and job.finished_at is not None
            up_since = max(up_since, job.finished_at) if verified and job.finished_at else None
        if self._coordinator.queue.active(target) is not None:
            up_since = None
        return Canary(target, version, up_since)

    @callback
    def _watch_canary(self) -> None:
        """Note since when the canary runs what it runs, and is there.

        What happened before the first look, or while devices connect after a start, counts as long
        ago: a restart of Home Assistant changes nothing.
        """
        target = canary_target(self._hass, self.settings.canary)
        device = None if target is None else self._coordinator.devices.get(target)
        if target is None or device is None:
            self._seen = self._seen_since = None
            if target is None:
                self._absences.keep_only(())
            return
        away = device.core is not None and device.core.online is False
        up = device.configuration.deep_sleep or not away
        if up:
            self._absences.end(target)
        else:
            self._absences.since(target)
        self._absences.keep_only({target})
        seen = target, self._coordinator.installed_version(target), up
        if seen == self._seen:
            return
        now = dt_util.utcnow()
        before = self._seen is None or self._seen[0] != target or now < self._settled_at
        self._seen = seen
        self._seen_since = None if not up else _LONG_AGO if before else now
