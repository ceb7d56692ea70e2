"""What is known of a device's firmware, whoever tells it and in whatever order."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from custom_components.esphome_offload.engine.build.model import BuildInfo
from custom_components.esphome_offload.engine.const import Source
from custom_components.esphome_offload.engine.devices.model import CoreDevice
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, Routing
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.running_firmware import (
    PresentHash,
    RunningFirmware,
    after_announcement,
    after_connection,
    change_id,
    is_changed,
)

from ...engine.jobs.fakes import request

OURS = RunningFirmware("2026.10.0", 7, "2026-10-20 10:00:00 +0000")
ANOTHER_BUILD = "2026-11-01 08:00:00 +0000"


def announced(version: str = "2026.10.0", config_hash: int | None = 7) -> AnnouncedFirmware:
    return AnnouncedFirmware("lamp", version, config_hash=config_hash)


def connected(version: str | None = "2026.10.0", build_time: str | None = None) -> CoreDevice:
    return CoreDevice(
        "entry", None, "lamp", None, "Lamp", version, build_time, True, deep_sleep=False, host=None
    )


def flashed(build_info: BuildInfo | None, source: Source) -> RunningFirmware:
    job = FirmwareJob("ab" * 16, request(esphome_version="2026.9.0"), datetime.now(UTC))
    job.build_info, job.fingerprint = build_info, "files"
    job.routing = Routing(source)
    return RunningFirmware.flashed(job)


@pytest.mark.parametrize(
    ("build_info", "running"),
    [
        (
            BuildInfo("2026.10.0", "then", 7),
            RunningFirmware("2026.10.0", 7, "then", "files", 7),
        ),
        (BuildInfo("2025.1.0", "", 0), RunningFirmware("2025.1.0", None, None, "files")),
        (
            BuildInfo("2026.10.0", "then", -1),
            RunningFirmware("2026.10.0", None, "then", "files"),
        ),
        (None, RunningFirmware("2026.9.0")),
    ],
)
def test_what_was_flashed_has_what_the_build_says(
    build_info: BuildInfo | None, running: RunningFirmware
) -> None:
    assert flashed(build_info, Source.LOCAL) == running


def test_the_hash_of_a_build_elsewhere_is_not_the_one_here() -> None:
    assert flashed(BuildInfo("2026.10.0", "then", 7), Source.REMOTE).local_hash is None


HERE = PresentHash("files", "2026.10.0", 5)
CHANGED = PresentHash("other files", "2026.10.0", 6)


@pytest.mark.parametrize(
    ("running", "present", "changed"),
    [
        (None, HERE, None),
        (OURS, None, None),
        (RunningFirmware("2026.10.0"), HERE, None),
        (RunningFirmware("2026.9.0", 5), HERE, None),
        # Flashed from here: what counts is whether the files have another hash here than then.
        (RunningFirmware("2026.10.0", 5, None, "files", 5), HERE, False),
        (RunningFirmware("2026.10.0", 5, None, "files", 5), CHANGED, True),
        (RunningFirmware("2026.10.0", 5, None, "files", 5), replace(CHANGED, config_hash=5), False),
        # Built elsewhere, where the hash is another one.
        (RunningFirmware("2026.10.0", 9, None, "files"), HERE, False),
        (RunningFirmware("2026.10.0", 9, None, "files", 5), replace(CHANGED, config_hash=5), False),
        (RunningFirmware("2026.10.0", 9, None, "files", 5), CHANGED, True),
        # A header that changed, or one that was not known of before.
        (
            RunningFirmware("2026.10.0", 5, None, "yaml.old", 5),
            replace(HERE, fingerprint="yaml.new"),
            True,
        ),
        (
            RunningFirmware("2026.10.0", 5, None, "yaml.", 5),
            replace(HERE, fingerprint="yaml.new"),
            False,
        ),
        (
            RunningFirmware("2026.10.0", 5, None, "yaml.old", 5),
            replace(HERE, fingerprint="yml.old"),
            False,
        ),
        # Flashed by another tool.
        (RunningFirmware("2026.10.0", 5), HERE, False),
        (RunningFirmware("2026.10.0", 9), HERE, None),
        (RunningFirmware("2026.10.0", 9), replace(HERE, portable=True), True),
        (RunningFirmware("2026.10.0", 9), replace(HERE, portable=False), None),
    ],
)
def test_a_change_is_claimed_only_where_hashes_can_be_compared(
    running: RunningFirmware | None, present: PresentHash | None, *, changed: bool | None
) -> None:
    assert is_changed(running, present) is changed


def test_each_change_has_a_name_of_its_own() -> None:
    running = RunningFirmware("2026.10.0", 5, None, "yaml.old", 5)
    assert change_id(replace(HERE, config_hash=0xAB), None) == "000000ab"
    assert change_id(replace(HERE, fingerprint="yaml.0123456789"), running) == "01234567"


@pytest.mark.parametrize(
    ("known", "told", "running"),
    [
        (None, announced(), RunningFirmware("2026.10.0", 7)),
        (OURS, announced(), OURS),
        (OURS, announced(config_hash=None), OURS),
        (OURS, announced(config_hash=8), RunningFirmware("2026.10.0", 8)),
        (OURS, announced("2026.9.0", 7), RunningFirmware("2026.9.0", 7)),
        (OURS, announced("2026.9.0", None), RunningFirmware("2026.9.0")),
        (
            RunningFirmware("2026.10.0", None, ANOTHER_BUILD),
            announced(config_hash=8),
            RunningFirmware("2026.10.0", 8, ANOTHER_BUILD),
        ),
    ],
)
def test_an_announcement_counts(
    known: RunningFirmware | None, told: AnnouncedFirmware, running: RunningFirmware
) -> None:
    assert after_announcement(known, told) == running


@pytest.mark.parametrize(
    ("known", "device", "running"),
    [
        (None, connected(None), None),
        (None, connected(build_time="then"), RunningFirmware("2026.10.0", None, "then")),
        (OURS, connected(None), OURS),
        (OURS, connected(), OURS),
        (OURS, connected(build_time="2026-10-20 12:00:00 +0200"), OURS),
        # Another tool has flashed it: nothing is claimed until it announces its hash.
        (
            OURS,
            connected(build_time=ANOTHER_BUILD),
            RunningFirmware("2026.10.0", None, ANOTHER_BUILD),
        ),
        (OURS, connected("2026.9.0"), RunningFirmware("2026.9.0")),
        (
            RunningFirmware("2026.10.0", 8),
            connected(build_time=ANOTHER_BUILD),
            RunningFirmware("2026.10.0", 8, ANOTHER_BUILD),
        ),
    ],
)
def test_a_connected_device_is_never_contradicted(
    known: RunningFirmware | None, device: CoreDevice, running: RunningFirmware | None
) -> None:
    assert after_connection(known, device) == running
