"""ConfigurationChanges: asks ESPHome in the background whether configurations changed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.helpers.start import async_at_started

from ..const import DOMAIN
from ..engine.build.config_hash import ConfigHashes
from ..engine.clock import SystemTime, Time
from ..engine.jobs.ports import FolderUnavailableError
from ..engine.target import TargetId, configuration_of
from ..engine.tasks import CoalescedTask
from .device_firmware import DeviceFirmware
from .running_firmware import PresentHash, RunningFirmware
from .tracker import DeviceInventory

_INTERVAL: Final = timedelta(seconds=60)
_AGAIN_AFTER: Final = 6 * 3600.0
"""Seconds, when there was no answer: a package may have been out of reach."""

type _Checked = tuple[object, RunningFirmware, PresentHash | None]
"""The files, what the device runs, and the answer."""


class ConfigurationChanges:
    """Looks once a minute which files the scans have found changed, and asks about them.

    One after the other, only for devices whose own hash is known, and only while nothing is
    built: ``idle`` says so, ``in_use`` for one configuration.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        firmware: DeviceFirmware,
        hashes: ConfigHashes,
        configurations: DeviceInventory,
        *,
        idle: Callable[[], bool],
        in_use: Callable[[str], bool],
        time: Time | None = None,
    ) -> None:
        self._hass = hass
        self._firmware = firmware
        self._hashes = hashes
        self._configurations = configurations
        self._idle = idle
        self._in_use = in_use
        self._time = time or SystemTime()
        self._checked: dict[TargetId, _Checked] = {}
        self._again_at: dict[TargetId, float] = {}
        self._task: CoalescedTask | None = None
        self._cancel: list[Callable[[], None]] = []

    @callback
    def start(self) -> None:
        """Start to look, once Home Assistant has started."""
        if self._task is not None:
            return
        self._task = CoalescedTask(self._async_check, f"{DOMAIN} configuration changes")

        async def look(_: datetime | HomeAssistant) -> None:
            self.request()

        self._cancel = [
            async_track_time_interval(self._hass, look, _INTERVAL, cancel_on_shutdown=True),
            async_at_started(self._hass, look),
        ]

    async def async_stop(self) -> None:
        """Stop; ends what runs."""
        for cancel in self._cancel:
            cancel()
        self._cancel = []
        task, self._task = self._task, None
        if task is not None:
            await task.stop()

    @callback
    def request(self) -> None:
        """Look soon."""
        if self._task is not None and self._hass.is_running:
            self._task.request()

    async def _async_check(self) -> None:
        wanted = {
            target: running
            for target in self._configurations.devices
            if (running := self._firmware.running(target)) is not None
            and running.config_hash is not None
            and self._hashes.can_tell(running.esphome_version)
        }
        for target, running in wanted.items():
            configuration = configuration_of(target)
            files = self._configurations.files_state(configuration)
            checked = files, running, self._firmware.present(target)
            if self._checked.get(target) == checked and not self._due(target):
                continue
            if self._task is None or not self._idle():
                return
            if not self._in_use(configuration) and await self._async_ask(target, running):
                # What the answer has changed is looked at once more, and is cheap then.
                self._checked[target] = files, running, self._firmware.present(target)

    def _due(self, target: TargetId) -> bool:
        again_at = self._again_at.get(target)
        return again_at is not None and self._time.monotonic() >= again_at

    async def _async_ask(self, target: TargetId, running: RunningFirmware) -> bool:
        """Find out the hash of a configuration; returns whether that is done for now."""
        configuration = configuration_of(target)
        fingerprint = await self._async_fingerprint(configuration)
        if fingerprint is None:
            return False
        self._again_at.pop(target, None)
        version = running.esphome_version
        question = (
            configuration,
            self._configurations.config_dir,
            version,
            self._hass.config.time_zone,
        )
        present = self._firmware.present_of(configuration, fingerprint, version)
        if present is None:
            config_hash = await self._hashes.calculate(*question)
            if config_hash is None:
                self._again_at[target] = self._time.monotonic() + _AGAIN_AFTER
                return True
            present = PresentHash(fingerprint, version, config_hash)
        if (
            present.portable is None
            and running.local_hash is None
            and running.fingerprint != fingerprint
            and running.config_hash != present.config_hash
        ):
            portable = await self._hashes.is_portable(*question, present.config_hash)
            present = replace(present, portable=portable)
        if await self._async_fingerprint(configuration) != fingerprint:
            return False
        self._firmware.set_present(target, present)
        return True

    async def _async_fingerprint(self, name: str) -> str | None:
        with suppress(FolderUnavailableError):
            return await self._configurations.fingerprint(name)
        return None
