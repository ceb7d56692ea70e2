"""What jobs need from outside and get handed in: devices, firmware, persistence."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ..build.model import (
    BuildInfo,
    BuildSink,
    Firmware,
    FlashRequest,
)
from ..device_access import DeviceAccess


class Presence(StrEnum):
    """Whether a device can be flashed now."""

    ONLINE = "online"
    OFFLINE = "offline"
    BUSY = "busy"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """What became of a device after a flash; unknown when Home Assistant has no such device."""

    CONFIRMED = "confirmed"
    ANOTHER_BUILD = "another_build"
    NOT_BACK = "not_back"
    UNKNOWN = "unknown"


class RestartWatch(Protocol):
    """Made before a flash, so that no reconnect is missed, however quick."""

    async def confirm(self, build_info: BuildInfo) -> Verdict:
        """Wait until the device is back and say with which build."""

    def close(self) -> None:
        """Stop watching."""


class DeviceLink(Protocol):
    """The live devices, by node name."""

    def presence(self, device_name: str) -> Presence:
        """Return whether the device can be flashed; BUSY while somebody else updates it."""

    def address(self, device_name: str) -> str | None:
        """Return the address Home Assistant reaches it at."""

    def watch_restart(self, device_name: str) -> RestartWatch:
        """Begin to watch for a reconnect."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever any presence may have changed; returns unsubscribe."""


class Flasher(Protocol):
    """Puts firmware on a device."""

    async def flash(self, request: FlashRequest, sink: BuildSink) -> None:
        """Return once the device has taken it; raises BuildError."""


class FirmwareKeeper(Protocol):
    """The kept firmware."""

    async def latest(self, configuration: str) -> Firmware | None:
        """Return what was built last for a configuration."""

    async def load(self, configuration: str, sha256: str) -> Firmware | None:
        """Return one firmware, None when it is gone; raises BuildError when it was altered."""

    async def rename(self, old: str, new: str) -> None:
        """Have what is kept of a configuration under the new name of its file too."""


class ConfigurationSource(Protocol):
    """The ESPHome configurations."""

    @property
    def config_dir(self) -> Path:
        """The folder they are in."""

    async def fingerprint(self, configuration: str) -> str | None:
        """Return a text that changes when any file of the configuration (also a secret) does.

        None when there is no such configuration any more.
        """

    def access(self, configuration: str) -> DeviceAccess:
        """Return what is known of how the device of a configuration is reached and flashed."""
        return DeviceAccess()


class Persistence(Protocol):
    """Where the jobs are kept."""

    async def load(self) -> list[dict[str, object]]:
        """Return the stored jobs, oldest first."""

    def save_soon(self, jobs: Callable[[], list[dict[str, object]]]) -> None:
        """Store what ``jobs()`` returns; called on transitions only."""

    async def save_now(self, jobs: list[dict[str, object]]) -> None:
        """Store at once and return when it is on disk."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The options that jobs heed; read afresh at each decision.

    ``wait_for_device`` is how many seconds a built firmware waits for its device, 0 for not
    at all, None for ever. ``wait_for_builder`` likewise, then a local build if
    ``fall_back_to_local``. ``peers_expected`` is for how many seconds more peers may connect
    that were there before a restart.
    """

    parallel_uploads: int
    wait_for_device: float | None
    wait_for_builder: float | None
    fall_back_to_local: bool
    time_zone: str
    peers_expected: float = 0.0
