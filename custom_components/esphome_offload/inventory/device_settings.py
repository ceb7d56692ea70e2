"""DeviceSettings: what a person set for single devices, and when each was updated automatically."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, override

from homeassistant.core import HomeAssistant

from ..engine.codec import Text
from ..engine.target import TargetId
from .target_store import TargetStore


@dataclass(frozen=True, slots=True)
class DeviceSetting:
    """What is set for a device; None is as for all devices.

    ``version`` is a channel ("stable", "prerelease") or a version. ``automatic``: whether it is
    updated automatically, ``attempted_at`` when that was started last (UTC).
    """

    version: Annotated[str, Text(64)] | None = None
    automatic: bool | None = None
    attempted_at: datetime | None = None


_AS_ALL = DeviceSetting()


class DeviceSettings(TargetStore[DeviceSetting]):
    """Keeps them in ``.storage/esphome_offload.device_settings``.

    ``changed`` is called with the targets for which a person changed something.
    """

    def __init__(
        self, hass: HomeAssistant, changed: Callable[[Collection[TargetId]], None]
    ) -> None:
        super().__init__(hass, "device_settings", DeviceSetting)
        self._changed = changed

    def get(self, target: TargetId) -> DeviceSetting:
        """Return what is set for a target."""
        return self.records.get(target, _AS_ALL)

    async def async_set_version(self, target: TargetId, version: str | None) -> None:
        """Set the channel or version of a target."""
        await self.async_set(target, replace(self.get(target), version=version))

    async def async_set_automatic(self, target: TargetId, *, automatic: bool) -> None:
        """Set whether a target is updated automatically."""
        await self.async_set(target, replace(self.get(target), automatic=automatic))

    async def async_note_attempt(self, target: TargetId, now: datetime) -> None:
        """Note that an automatic update starts; returns when that is on disk. Raises OSError."""
        await self.async_set_durably(target, replace(self.get(target), attempted_at=now))

    @override
    async def async_set(self, target: TargetId, record: DeviceSetting | None) -> None:
        await super().async_set(target, record)
        self._changed((target,))
