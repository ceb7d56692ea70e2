"""The options of "this instance", as the rest of the code uses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

ENTRY_KIND_INSTANCE: Final = "instance"

MAX_PARALLEL_BUILDS: Final = 8
MAX_PARALLEL_UPLOADS: Final = 16
MAX_WAIT_HOURS: Final = 24 * 365
DEFAULT_WAIT_FOR_BUILDER_MINUTES: Final = 30
MAX_WAIT_FOR_BUILDER_MINUTES: Final = 7 * 24 * 60
MAX_LEND_DISK_GIB: Final = 10_000


class EntryKey(StrEnum):
    """Keys of a config entry's data and options."""

    KIND = "kind"
    CONFIG_DIR = "config_dir"
    VERSION_CHANNEL = "version_channel"
    FIXED_VERSION = "fixed_version"
    PARALLEL_BUILDS = "parallel_builds"
    PARALLEL_UPLOADS = "parallel_uploads"
    WAIT_FOR_DEVICE = "wait_for_device"
    WAIT_HOURS = "wait_hours"
    PENDING_IS_ERROR = "pending_is_error"
    WAIT_FOR_GOOD_BOOT = "wait_for_good_boot"
    NO_BUILDER = "no_builder"
    WAIT_FOR_BUILDER_MINUTES = "wait_for_builder_minutes"
    LEND = "lend"
    LEND_DISK_GIB = "lend_disk_gib"
    RUN_UNCONTAINED = "run_uncontained"


class VersionChannel(StrEnum):
    """The source of the ESPHome version for requests that name none."""

    STABLE = "stable"
    PRERELEASE = "prerelease"
    FIXED = "fixed"


class NoBuilder(StrEnum):
    """What happens to a job while no paired builder can take it."""

    LOCAL = "local"
    WAIT_THEN_LOCAL = "wait_then_local"
    WAIT_THEN_FAIL = "wait_then_fail"
    FAIL = "fail"

    @property
    def waits(self) -> bool:
        """Return whether a job waits for a builder."""
        return self in (NoBuilder.WAIT_THEN_LOCAL, NoBuilder.WAIT_THEN_FAIL)

    @property
    def builds_here(self) -> bool:
        """Return whether this machine builds if no builder does."""
        return self in (NoBuilder.LOCAL, NoBuilder.WAIT_THEN_LOCAL)


@dataclass(frozen=True, slots=True)
class OffloadOptions:
    """The options of "this instance".

    ``config_dir`` is as the user entered it: absolute, or relative to Home Assistant's own
    configuration folder (``Path(hass.config.path(options.config_dir))`` is right for both);
    None on an instance that only builds for others. ``fixed_version`` is set when, and only when, the
    channel is FIXED. ``wait_hours`` is how long built firmware waits for its device, 0 for
    without limit; with ``pending_is_error`` whoever waits for an installation gets an error then.
    ``wait_for_good_boot``: jobs also wait until their device cannot go back to its old firmware any
    more. ``wait_for_builder_minutes`` is 0 unless ``no_builder`` waits. ``lend``: guests may build here, and get ``lend_disk_gib`` of disk together;
    ``run_uncontained``: also where the system cannot contain what they run.
    """

    config_dir: Path | None
    version_channel: VersionChannel = VersionChannel.STABLE
    fixed_version: str | None = None
    parallel_builds: int = 1
    parallel_uploads: int = 4
    wait_for_device: bool = True
    wait_hours: int = 0
    pending_is_error: bool = False
    wait_for_good_boot: bool = True
    no_builder: NoBuilder = NoBuilder.LOCAL
    wait_for_builder_minutes: int = 0
    lend: bool = False
    lend_disk_gib: int = 20
    run_uncontained: bool = False

    @property
    def device_patience(self) -> float | None:
        """Return for how many seconds built firmware waits for its device; None: without limit."""
        if not self.wait_for_device:
            return 0.0
        return None if self.wait_hours == 0 else self.wait_hours * 3600.0

    @classmethod
    def from_entry(cls, data: Mapping[str, object], options: Mapping[str, object]) -> Self:
        """Read a config entry; a missing or invalid option gets its default."""
        folder = data.get(EntryKey.CONFIG_DIR)
        channel = _channel(options.get(EntryKey.VERSION_CHANNEL))
        version = options.get(EntryKey.FIXED_VERSION)
        if channel is not VersionChannel.FIXED:
            version = None
        elif not isinstance(version, str) or not version:
            channel, version = VersionChannel.STABLE, None
        wait = options.get(EntryKey.WAIT_FOR_DEVICE)
        no_builder = _no_builder(options.get(EntryKey.NO_BUILDER))
        return cls(
            config_dir=Path(folder) if isinstance(folder, str) and folder else None,
            version_channel=channel,
            fixed_version=version,
            parallel_builds=_whole(options, EntryKey.PARALLEL_BUILDS, 1, 1, MAX_PARALLEL_BUILDS),
            parallel_uploads=_whole(options, EntryKey.PARALLEL_UPLOADS, 4, 1, MAX_PARALLEL_UPLOADS),
            wait_for_device=wait if isinstance(wait, bool) else True,
            wait_hours=_whole(options, EntryKey.WAIT_HOURS, 0, 0, MAX_WAIT_HOURS),
            pending_is_error=options.get(EntryKey.PENDING_IS_ERROR) is True,
            wait_for_good_boot=options.get(EntryKey.WAIT_FOR_GOOD_BOOT) is not False,
            no_builder=no_builder,
            wait_for_builder_minutes=_whole(
                options,
                EntryKey.WAIT_FOR_BUILDER_MINUTES,
                DEFAULT_WAIT_FOR_BUILDER_MINUTES,
                1,
                MAX_WAIT_FOR_BUILDER_MINUTES,
            )
            if no_builder.waits
            else 0,
            lend=options.get(EntryKey.LEND) is True,
            lend_disk_gib=_whole(options, EntryKey.LEND_DISK_GIB, 20, 1, MAX_LEND_DISK_GIB),
            run_uncontained=options.get(EntryKey.RUN_UNCONTAINED) is True,
        )


def _channel(value: object) -> VersionChannel:
    try:
        return VersionChannel(value)  # type: ignore[arg-type]  # anything may be in an old entry
    except ValueError:
        return VersionChannel.STABLE


def _no_builder(value: object) -> NoBuilder:
    try:
        return NoBuilder(value)  # type: ignore[arg-type]  # anything may be in an old entry
    except ValueError:
        return NoBuilder.LOCAL


def _whole(
    options: Mapping[str, object], key: EntryKey, default: int, least: int, most: int
) -> int:
    """Return a whole number within its bounds; the frontend's number boxes send floats."""
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return int(min(max(value, least), most))
