"""The options of an entry."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.options import OffloadOptions, VersionChannel

DATA = {"kind": "instance", "config_dir": "esphome"}


def test_a_fresh_entry_means_the_defaults() -> None:
    assert OffloadOptions.from_entry(DATA, {}) == OffloadOptions(
        config_dir=Path("esphome"),
        version_channel=VersionChannel.STABLE,
        fixed_version=None,
        parallel_builds=1,
        parallel_uploads=4,
        wait_for_device=True,
        wait_hours=0,
        wait_for_good_boot=True,
    )


def test_every_option_is_read() -> None:
    chosen = {
        "version_channel": "fixed",
        "fixed_version": "2026.10.0",
        "parallel_builds": 3,
        "parallel_uploads": 7,
        "wait_for_device": False,
        "wait_hours": 12,
        "wait_for_good_boot": False,
    }
    assert OffloadOptions.from_entry(DATA, chosen) == OffloadOptions(
        config_dir=Path("esphome"),
        version_channel=VersionChannel.FIXED,
        fixed_version="2026.10.0",
        parallel_builds=3,
        parallel_uploads=7,
        wait_for_device=False,
        wait_hours=12,
        wait_for_good_boot=False,
    )


@pytest.mark.parametrize("data", [{}, {"config_dir": ""}, {"config_dir": None}])
def test_without_a_folder_the_instance_only_lends(data: dict[str, object]) -> None:
    assert OffloadOptions.from_entry(data, {}).config_dir is None


def test_a_version_counts_only_with_the_fixed_channel() -> None:
    options = OffloadOptions.from_entry(
        DATA, {"version_channel": "prerelease", "fixed_version": "2026.10.0"}
    )
    assert options.version_channel is VersionChannel.PRERELEASE
    assert options.fixed_version is None


@pytest.mark.parametrize("version", [None, "", 2026])
def test_a_fixed_channel_without_a_version_is_the_stable_one(version: object) -> None:
    options = OffloadOptions.from_entry(
        DATA, {"version_channel": "fixed", "fixed_version": version}
    )
    assert options.version_channel is VersionChannel.STABLE
    assert options.fixed_version is None


@pytest.mark.parametrize("channel", ["nightly", 7, None])
def test_an_unknown_channel_is_the_stable_one(channel: object) -> None:
    options = OffloadOptions.from_entry(DATA, {"version_channel": channel})
    assert options.version_channel is VersionChannel.STABLE


@pytest.mark.parametrize(
    ("stored", "used"), [(0, 1), (2.0, 2), (99, 8), ("4", 1), (True, 1), (None, 1)]
)
def test_numbers_are_kept_within_their_bounds(stored: object, used: int) -> None:
    options = OffloadOptions.from_entry(DATA, {"parallel_builds": stored})
    assert options.parallel_builds == used
    assert type(options.parallel_builds) is int


def test_a_wait_that_is_no_boolean_is_ignored() -> None:
    assert OffloadOptions.from_entry(DATA, {"wait_for_device": "no"}).wait_for_device is True


@pytest.mark.parametrize(
    ("chosen", "minutes", "builds_here"),
    [
        ("local", 0, True),
        ("wait_then_local", 5, True),
        ("wait_then_fail", 5, False),
        ("fail", 0, False),
        ("something of a later version", 0, True),
    ],
)
def test_the_option_for_jobs_without_a_builder(
    chosen: str, minutes: int, *, builds_here: bool
) -> None:
    options = OffloadOptions.from_entry(
        DATA, {"no_builder": chosen, "wait_for_builder_minutes": 5.0}
    )
    assert options.wait_for_builder_minutes == minutes
    assert options.no_builder.builds_here is builds_here


@pytest.mark.parametrize(
    ("wait", "hours", "seconds"), [(True, 0, None), (True, 2, 7200.0), (False, 2, 0.0)]
)
def test_how_long_firmware_waits_for_its_device(
    *, wait: bool, hours: int, seconds: float | None
) -> None:
    options = OffloadOptions.from_entry(DATA, {"wait_for_device": wait, "wait_hours": hours})
    assert options.of_queue("UTC", 0.0).wait_for_device == seconds
