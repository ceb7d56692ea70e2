"""What is to be updated automatically: a pure function of the devices, the settings and the time."""

from dataclasses import dataclass
from datetime import datetime, tzinfo

from packaging.version import Version

from ..engine.target import TargetId
from ..inventory.versions import comparable
from .settings import AutomaticSettings
from .window import Window, window_at


@dataclass(frozen=True, slots=True)
class Device:
    """A device that takes part, has an update, can be reached, and has no job.

    ``version`` is what it is to run, out since ``out_since``; None: nobody has to wait for it.
    ``waits_for_canary`` is false where a person chose a channel or a version for it alone.
    ``failed``: its last installation did.
    """

    target: TargetId
    installed: str | None
    version: str
    out_since: datetime | None = None
    attempted_at: datetime | None = None
    waits_for_canary: bool = True
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Canary:
    """The device that is updated first.

    ``target`` is None when there is no such device any more. ``up_since`` is since when it runs
    its version, verified and without having been away; None while that is not so.
    """

    target: TargetId | None = None
    version: str | None = None
    up_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that decides, besides the settings and the time.

    ``failed_at`` is when installations that failed had been started automatically. ``running``
    such ones have not ended, without those that wait for their device. ``slots`` are the builds
    that can be started now.
    """

    devices: tuple[Device, ...] = ()
    canary: Canary | None = None
    failed_at: tuple[datetime, ...] = ()
    running: int = 0
    slots: int = 1


def candidates(
    settings: AutomaticSettings, fleet: Fleet, now: datetime, zone: tzinfo
) -> tuple[TargetId, ...]:
    """Return the devices to update now: the canary first, then those with the oldest version.

    Those whose last installation failed are last, so that they leave something to the others.
    Not more than can be built at once, nor so many that more could fail than the limit allows.
    """
    if (window := window_at(settings, now, zone)) is None:
        return ()
    failed = sum(moment in window for moment in fleet.failed_at)
    room = min(
        settings.failure_limit - failed - fleet.running,
        fleet.slots,
    )
    due = [device for device in fleet.devices if _is_due(device, settings, fleet, window, now)]
    canary = None if fleet.canary is None else fleet.canary.target
    due.sort(
        key=lambda device: (
            device.target != canary,
            device.failed,
            _age(device.installed),
            device.target,
        )
    )
    return tuple(device.target for device in due[: max(room, 0)])


def _is_due(
    device: Device, settings: AutomaticSettings, fleet: Fleet, window: Window, now: datetime
) -> bool:
    # By the time of the attempt: the settings may have moved the window since.
    if device.attempted_at is not None and device.attempted_at in window:
        return False
    if device.version == device.installed:
        # Only its configuration is another: what the version has to wait for says nothing about it.
        return True
    if device.out_since is not None and now < device.out_since + settings.delay:
        return False
    if fleet.canary is None or not device.waits_for_canary or device.target == fleet.canary.target:
        return True
    return _vouches(fleet.canary, device.version, settings, now)


def _vouches(canary: Canary, version: str, settings: AutomaticSettings, now: datetime) -> bool:
    """Return whether the canary has run a version, or a newer one, for long enough."""
    if canary.version is None or canary.up_since is None:
        return False
    return _age(canary.version) >= _age(version) and canary.up_since + settings.canary_time <= now


def _age(version: str | None) -> Version:
    """Return what sorts versions; what is none is older than all."""
    return (None if version is None else comparable(version)) or Version("0.dev0")
