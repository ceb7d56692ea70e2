"""The options of "this instance", as the rest of the code uses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from .engine.const import COMPILER_CACHE_GIB
from .engine.jobs.ports import QueueSettings

ENTRY_KIND_INSTANCE: Final = "instance"


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
    COMPILER_CACHE_GIB = "compiler_cache_gib"
    ACCEPT_BUILDS = "accept_builds"
    LEND_DISK_GIB = "lend_disk_gib"
    RUN_UNCONTAINED = "run_uncontained"
    AUTOMATIC = "automatic_updates"
    AUTOMATIC_DAYS = "automatic_days"
    AUTOMATIC_START = "automatic_start"
    AUTOMATIC_END = "automatic_end"
    AUTOMATIC_DELAY_DAYS = "automatic_delay_days"
    AUTOMATIC_CANARY = "automatic_canary"
    AUTOMATIC_CANARY_HOURS = "automatic_canary_hours"
    AUTOMATIC_FAILURES = "automatic_failures"


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A whole number among the options: its bounds, and its value where none is stored."""

    least: int
    most: int
    default: int
    unit: str | None = None

    def read(self, value: object) -> int:
        """Return a stored value within the bounds; the frontend's number boxes send floats."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return self.default
        return int(min(max(value, self.least), self.most))


NUMBERS: Final[Mapping[EntryKey, WholeNumber]] = {
    EntryKey.PARALLEL_BUILDS: WholeNumber(1, 8, default=1),
    EntryKey.PARALLEL_UPLOADS: WholeNumber(1, 16, default=4),
    EntryKey.WAIT_HOURS: WholeNumber(0, 24 * 365, default=0, unit="h"),
    EntryKey.WAIT_FOR_BUILDER_MINUTES: WholeNumber(1, 7 * 24 * 60, default=30, unit="min"),
    EntryKey.COMPILER_CACHE_GIB: WholeNumber(1, 1000, default=COMPILER_CACHE_GIB, unit="GiB"),
    EntryKey.LEND_DISK_GIB: WholeNumber(1, 10_000, default=20, unit="GiB"),
    EntryKey.AUTOMATIC_DELAY_DAYS: WholeNumber(0, 90, default=3, unit="d"),
    EntryKey.AUTOMATIC_CANARY_HOURS: WholeNumber(0, 30 * 24, default=24, unit="h"),
    EntryKey.AUTOMATIC_FAILURES: WholeNumber(1, 100, default=3),
}


class VersionChannel(StrEnum):
    """The source of the ESPHome version for requests that name none."""

    STABLE = "stable"
    PRERELEASE = "prerelease"
    FIXED = "fixed"


class NoBuilder(StrEnum):
    """The treatment of a job while no paired builder can take it."""

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
    more. ``wait_for_builder_minutes`` is 0 unless ``no_builder`` waits. ``compiler_cache_gib`` is
    for own builds, and for each guest's. ``accept_builds``: guests may build here, and get
    ``lend_disk_gib`` of disk together; ``run_uncontained``: also where the system cannot contain what they run.
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
    compiler_cache_gib: int = COMPILER_CACHE_GIB
    accept_builds: bool = False
    lend_disk_gib: int = 20
    run_uncontained: bool = False

    def of_queue(self, time_zone: str, peers_expected: float) -> QueueSettings:
        """Return the settings of the job queue, with what is true at the moment."""
        patience = self.wait_hours * 3600.0 or None
        return QueueSettings(
            parallel_uploads=self.parallel_uploads,
            wait_for_device=patience if self.wait_for_device else 0.0,
            wait_for_builder=self.wait_for_builder_minutes * 60.0,
            fall_back_to_local=self.no_builder.builds_here,
            time_zone=time_zone,
            peers_expected=peers_expected,
            wait_for_good_boot=self.wait_for_good_boot,
        )

    @classmethod
    def from_entry(cls, data: Mapping[str, object], options: Mapping[str, object]) -> Self:
        """Read a config entry; a missing or invalid option gets its default."""
        folder = data.get(EntryKey.CONFIG_DIR)
        channel = _member(options.get(EntryKey.VERSION_CHANNEL), VersionChannel.STABLE)
        version = options.get(EntryKey.FIXED_VERSION)
        if channel is not VersionChannel.FIXED:
            version = None
        elif not isinstance(version, str) or not version:
            channel, version = VersionChannel.STABLE, None
        no_builder = _member(options.get(EntryKey.NO_BUILDER), NoBuilder.LOCAL)
        numbers = {key: number.read(options.get(key)) for key, number in NUMBERS.items()}
        return cls(
            config_dir=Path(folder) if isinstance(folder, str) and folder else None,
            version_channel=channel,
            fixed_version=version,
            parallel_builds=numbers[EntryKey.PARALLEL_BUILDS],
            parallel_uploads=numbers[EntryKey.PARALLEL_UPLOADS],
            wait_for_device=options.get(EntryKey.WAIT_FOR_DEVICE) is not False,
            wait_hours=numbers[EntryKey.WAIT_HOURS],
            pending_is_error=options.get(EntryKey.PENDING_IS_ERROR) is True,
            wait_for_good_boot=options.get(EntryKey.WAIT_FOR_GOOD_BOOT) is not False,
            no_builder=no_builder,
            wait_for_builder_minutes=(
                numbers[EntryKey.WAIT_FOR_BUILDER_MINUTES] if no_builder.waits else 0
            ),
            compiler_cache_gib=numbers[EntryKey.COMPILER_CACHE_GIB],
            accept_builds=options.get(EntryKey.ACCEPT_BUILDS) is True,
            lend_disk_gib=numbers[EntryKey.LEND_DISK_GIB],
            run_uncontained=options.get(EntryKey.RUN_UNCONTAINED) is True,
        )


def _member[E: StrEnum](value: object, default: E) -> E:
    """Return a stored member; anything may be in an old entry."""
    kind = type(default)
    return kind(value) if isinstance(value, str) and value in kind else default
