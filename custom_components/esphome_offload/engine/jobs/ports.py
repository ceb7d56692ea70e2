"""Interfaces to what jobs need from outside: devices, firmware, persistence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ..build.model import (
    BuildInfo,
    BuildSink,
    Firmware,
    FlashRequest,
    Node,
)
from ..build.origins import BuildState, KeptBuild
from ..device_access import DeviceAccess
from .model import FirmwareJob, JobRequest


class Presence(StrEnum):
    """Whether a device can be flashed now."""

    ONLINE = "online"
    OFFLINE = "offline"
    BUSY = "busy"
    DISPLACED = "displaced"
    """Home Assistant is connected to another device everywhere that it could be."""
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """The state of a device after a flash; unknown when Home Assistant has no such device."""

    CONFIRMED = "confirmed"
    ANOTHER_BUILD = "another_build"
    WENT_BACK = "went_back"
    """It runs the build again that it ran before."""
    NOT_BACK = "not_back"
    UNKNOWN = "unknown"


class RestartWatch(Protocol):
    """A watch on a device, started before a flash so that it misses no reconnect."""

    @property
    def before(self) -> BuildInfo | None:
        """The build that the device ran before; its hash is not known."""

    async def confirm(self, build_info: BuildInfo, *, goes_back: bool = False) -> Verdict:
        """Wait until the device is back; return whether it runs this build.

        ``goes_back``: its boot loader may go back to the former one.
        """

    async def stays(self, build_info: BuildInfo, seconds: float) -> Verdict:
        """Return whether it still runs this build after some time, or that it does not any more.

        NOT_BACK for one that is away, unless it was seen with this build and sleeps.
        """

    def close(self) -> None:
        """Stop watching."""


class DeviceLink(Protocol):
    """The live devices, by the request of a job."""

    def rivals(self, request: JobRequest) -> tuple[str, ...]:
        """Return why it is unclear which device it is: others that it could be mistaken for."""
        return ()

    def gone(self, request: JobRequest) -> bool:
        """Return whether its configuration does not have this one of several devices any more."""
        return False

    def presence(self, request: JobRequest) -> Presence:
        """Return whether the device can be flashed; BUSY while somebody else updates it."""

    def addresses(self, request: JobRequest, node: Node | None) -> tuple[str, ...]:
        """Return where it can be flashed, as in ``FlashRequest``; ``node`` is the firmware's.

        Where Home Assistant is connected to it, else what ESPHome would use and where Home
        Assistant expects it, but not where that is connected to another device: maybe nowhere.
        """

    async def listens(self, request: JobRequest, node: Node, port: int) -> bool:
        """Return whether it listens on a port at one of its ``addresses``."""

    async def announced(self, request: JobRequest) -> BuildInfo | None:
        """Return the build that it announces; when that was built is not known."""

    def node_name(self, request: JobRequest) -> str | None:
        """Return the name that the device itself has; None while that is not known."""

    def intruder(self, request: JobRequest) -> str | None:
        """Return the name of another device that is where this one should be, if one is known."""
        return None

    async def restart_reason(self, request: JobRequest) -> str | None:
        """Return why it restarted, in ESPHome's words, if it says so; it has connected just now."""

    async def intruder_at(
        self, request: JobRequest, node: Node | None, addresses: Sequence[str]
    ) -> str | None:
        """Return the name of another device that answers there, if one does; it is asked."""
        return None

    def watch_restart(self, request: JobRequest) -> RestartWatch:
        """Start to watch for a reconnect."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever any presence may have changed; returns unsubscribe."""


class Flasher(Protocol):
    """Flashes firmware to a device."""

    async def flash(self, request: FlashRequest, sink: BuildSink) -> None:
        """Return once the device has accepted it; raises BuildError."""


class FirmwareKeeper(Protocol):
    """The kept firmware."""

    async def latest(self, configuration: str) -> Firmware | None:
        """Return what was built last for a configuration."""

    async def load(self, configuration: str, sha256: str) -> Firmware | None:
        """Return one firmware, None when it is gone; raises BuildError when it was altered."""

    async def rename(self, old: str, new: str) -> None:
        """Copy what is kept of a configuration to the new name of its file."""

    async def renew(self, firmware: Firmware) -> None:
        """Make one firmware the latest of its configuration."""


class OriginKeeper(Protocol):
    """The origins of kept firmware."""

    async def begin(self) -> int | None:
        """Return the present moment, for ``note``; None when it cannot be told."""

    async def note(self, state: BuildState, built: KeptBuild, started: int) -> None:
        """Keep from what a firmware was built since a moment; nothing if not all is known."""

    async def find(self, state: BuildState) -> list[KeptBuild]:
        """Return the firmware that would only be made again, the newest first."""

    async def forget(self, configuration: str | None) -> None:
        """Have a configuration built again, whatever is kept; None: each of them."""


class ConfigurationHashes(Protocol):
    """ESPHome's hashes of configurations, on this machine."""

    def known(self, request: JobRequest, fingerprint: str) -> int | None:
        """Return the hash of this state by the version of a request if it was asked for before."""

    async def ask(self, request: JobRequest, fingerprint: str) -> int | None:
        """Return it also if it was not; None when it cannot be told."""


class FolderUnavailableError(Exception):
    """The configuration folder cannot be used at the moment: nothing in it counts as gone."""


class ConfigurationSource(Protocol):
    """The ESPHome configurations."""

    @property
    def config_dir(self) -> Path:
        """The folder they are in."""

    async def fingerprint(self, configuration: str) -> str | None:
        """Return a text that changes with any file of the configuration, secrets included.

        None when the configuration does not exist. Raises FolderUnavailableError.
        """

    async def same_files(self, configuration: str, fingerprint: str) -> bool:
        """Return whether an earlier fingerprint is of the same files, of which it knew fewer.

        Raises FolderUnavailableError.
        """

    def all_files(self, configuration: str) -> object | None:
        """Return what is equal as long as no file changes, as it was at the last fingerprint.

        None when the fingerprint may not cover all that a build reads.
        """
        return None

    def node_name(self, configuration: str) -> str | None:
        """Return the node name of a configuration, as it was at its last fingerprint."""
        return None

    def access(self, configuration: str) -> DeviceAccess:
        """Return what is known of how the device of a configuration is reached and flashed."""
        return DeviceAccess()


class Persistence(Protocol):
    """The store of the jobs."""

    async def load(self) -> list[FirmwareJob]:
        """Return the stored jobs that are kept, oldest first."""

    def save_soon(self, job: FirmwareJob) -> None:
        """Store a job as it is in a moment; called on transitions only."""

    async def flush(self) -> None:
        """Return when all that was to be stored is on disk; where that hangs, after seconds."""

    async def aclose(self) -> None:
        """Return when all that was to be stored is on disk."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The options of the queue, read again at each decision.

    ``wait_for_device`` is for how many seconds built firmware waits for its device, 0 for not
    at all, None for without limit; ``wait_for_builder`` likewise, then a local build if
    ``fall_back_to_local``. ``peers_expected`` is for how many more seconds peers from before a
    restart may connect. ``wait_for_good_boot``: a job ends when its device cannot go back to the
    old firmware any more.
    """

    parallel_uploads: int
    wait_for_device: float | None
    wait_for_builder: float | None
    fall_back_to_local: bool
    time_zone: str
    peers_expected: float = 0.0
    wait_for_good_boot: bool = True
