"""PresentHashes: ESPHome's hash of a configuration, for a job that may need no build."""

from contextlib import suppress
from typing import override

from homeassistant.core import HomeAssistant

from ..engine.build.config_hash import ConfigHashes
from ..engine.jobs.model import JobRequest
from ..engine.jobs.ports import (
    ConfigurationHashes,
    ConfigurationSource,
    FolderUnavailableError,
)
from .device_firmware import DeviceFirmware
from .running_firmware import PresentHash


class PresentHashes(ConfigurationHashes):
    """What was asked in the background, or for an earlier job, is not asked again."""

    def __init__(
        self,
        hass: HomeAssistant,
        firmware: DeviceFirmware,
        hashes: ConfigHashes,
        configurations: ConfigurationSource,
    ) -> None:
        self._hass = hass
        self._firmware = firmware
        self._hashes = hashes
        self._configurations = configurations

    @override
    def known(self, request: JobRequest, fingerprint: str) -> int | None:
        present = self._firmware.present_of(
            request.configuration, fingerprint, request.esphome_version
        )
        return None if present is None else present.config_hash

    @override
    async def ask(self, request: JobRequest, fingerprint: str) -> int | None:
        configuration, version = request.configuration, request.esphome_version
        config_hash = self.known(request, fingerprint)
        if config_hash is None:
            config_hash = await self._hashes.calculate(
                configuration,
                self._configurations.config_dir,
                version,
                self._hass.config.time_zone,
                for_job=True,
            )
            with suppress(FolderUnavailableError):
                now = await self._configurations.fingerprint(configuration)
                if config_hash is not None and now == fingerprint:
                    present = PresentHash(fingerprint, version, config_hash)
                    self._firmware.set_present(request.target, present)
        return config_hash
