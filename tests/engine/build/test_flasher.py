"""FirmwareFlasher: real processes, and what each way in which an upload can go wrong means."""

import asyncio
from dataclasses import replace
import json
import os
from pathlib import Path
import time

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.flasher import FirmwareFlasher, judge
from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildInfo,
    Firmware,
    FlashRequest,
)
from custom_components.esphome_offload.engine.build.process.processes import (
    Processes,
    ProcessResult,
)
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.const import FailureReason, Stage
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import Sink, uv_of
from .package_index import NEWEST

LAMP = "lamp.yaml"
HERE = "192.0.2.7"
STALLED = 2.0
HERE_DIR = Path("/config/esphome")


class Bench:
    """A flasher, its user's folder and kept firmware."""

    def __init__(
        self, layout: CacheLayout, processes: Processes, config_dir: Path, firmware: Firmware
    ) -> None:
        self.layout = layout
        self.config_dir = config_dir
        self.firmware = firmware
        toolchains = Toolchains(layout, processes, uv_of(layout))
        self.flasher = FirmwareFlasher(layout, processes, toolchains, stalled=STALLED)

    async def flash(
        self,
        told: dict[str, object],
        sink: Sink,
        address: str | None = HERE,
        saved_at: float | None = None,
    ) -> None:
        (self.config_dir / LAMP).write_text(json.dumps(told))
        if saved_at is not None:
            os.utime(self.config_dir / LAMP, (saved_at, saved_at))
        request = FlashRequest(
            job_id="job",
            attempt_id="attempt",
            configuration=LAMP,
            config_dir=self.config_dir,
            firmware=self.firmware,
            address=address,
            time_zone="UTC",
        )
        await self.flasher.flash(request, sink)

    async def refused(self, told: dict[str, object], sink: Sink) -> BuildError:
        with pytest.raises(BuildError) as caught:
            await self.flash(told, sink)
        return caught.value

    def seen(self) -> dict[str, object]:
        seen: dict[str, object] = json.loads((self.layout.flash(LAMP) / "seen.json").read_text())
        return seen


@pytest.fixture
async def bench(
    shared_layout: CacheLayout, processes: Processes, index: str, tmp_path: Path
) -> Bench:
    shared_layout.discard(shared_layout.flash(LAMP))
    (tmp_path / "config").mkdir()
    (tmp_path / "program").write_text("image")
    firmware = await FirmwareStore(shared_layout).keep(
        LAMP,
        "lamp",
        BuildResult(tmp_path / "program", BuildInfo(NEWEST, "2031-01-02 03:04:05", 7)),
    )
    return Bench(shared_layout, processes, tmp_path / "config", firmware)


async def test_the_kept_image_goes_to_the_given_address(bench: Bench, sink: Sink) -> None:
    await bench.flash({"says": ["Uploading: [==  ] 42% ", "INFO OTA successful"]}, sink)
    assert bench.seen()["argv"] == [
        "--dashboard",
        "upload",
        str(bench.config_dir / LAMP),
        f"--file={bench.firmware.ota}",
        f"--device={HERE}",
    ]
    assert sink.stages == [Stage.UPLOADING]
    assert 42 in sink.percents
    assert "INFO OTA successful" in sink.output


async def test_without_an_address_esphome_uses_that_of_the_configuration(
    bench: Bench, sink: Sink
) -> None:
    await bench.flash({"says": ["INFO OTA successful"]}, sink, address=None)
    arguments = bench.seen()["argv"]
    assert isinstance(arguments, list)
    assert arguments[-1] == "--device=OTA"


async def test_the_data_directory_is_not_that_of_the_build(bench: Bench, sink: Sink) -> None:
    await bench.flash({"says": ["INFO OTA successful"]}, sink)
    environment = bench.seen()["env"]
    assert isinstance(environment, dict)
    data = Path(environment["ESPHOME_DATA_DIR"])
    assert data == bench.layout.flash(LAMP)
    assert not data.is_relative_to(bench.layout.trees)


async def test_a_device_counts_as_flashed_when_it_took_all_not_when_esphome_ends(
    bench: Bench, sink: Sink
) -> None:
    async with asyncio.timeout(60):  # ESPHome of this test would stay for 600 s
        await bench.flash({"says": ["INFO OTA successful"], "stays": True}, sink)


async def test_a_platform_that_flashes_without_that_line_is_done_when_esphome_is(
    bench: Bench, sink: Sink
) -> None:
    await bench.flash({"says": ["INFO Successfully uploaded program."]}, sink)


async def test_esphome_never_finds_a_configuration_that_was_validated_earlier(
    bench: Bench, sink: Sink
) -> None:
    stale = bench.layout.flash(LAMP) / "storage" / f"{LAMP}.validated.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("old password")
    await bench.flash({"says": ["INFO OTA successful"]}, sink)
    assert bench.seen()["cached"] == {}


async def test_esphome_finds_what_was_validated_for_the_build_however_new_the_main_file_is(
    bench: Bench, sink: Sink, tmp_path: Path
) -> None:
    validated = tmp_path / "kept"
    validated.write_text("resolved secrets")
    os.utime(validated, (1, 1))
    kept = {"json": validated, "validated.json": validated}
    bench.firmware = replace(bench.firmware, validated=kept)
    # A share whose clock is ahead.
    ahead = time.time() + 3600
    await bench.flash({"says": ["INFO OTA successful"]}, sink, saved_at=ahead)
    assert bench.seen()["cached"] == {f"{LAMP}.validated.json": pytest.approx(ahead)}
    assert list((bench.layout.flash(LAMP) / "storage").iterdir()) == []


async def test_resolved_secrets_do_not_stay_behind(bench: Bench, sink: Sink) -> None:
    await bench.flash({}, sink)
    assert list((bench.layout.flash(LAMP) / "storage").iterdir()) == []


async def test_firmware_that_was_altered_is_never_flashed(bench: Bench, sink: Sink) -> None:
    bench.firmware.ota.write_text("imagf")
    error = await bench.refused({"says": ["INFO OTA successful"]}, sink)
    assert error.failure_reason is FailureReason.INTEGRITY
    assert not (bench.layout.flash(LAMP) / "seen.json").exists()
    bench.layout.discard(bench.firmware.ota.parent)


async def test_firmware_that_is_gone_is_never_flashed(bench: Bench, sink: Sink) -> None:
    bench.layout.discard(bench.firmware.ota.parent)
    error = await bench.refused({"says": ["INFO OTA successful"]}, sink)
    assert error.failure_reason is FailureReason.NO_FIRMWARE


async def test_what_esphome_says_about_a_failure_is_judged(bench: Bench, sink: Sink) -> None:
    says = ["INFO Connected to 192.0.2.7", "ERROR receiving auth result: Authentication invalid."]
    error = await bench.refused({"says": says, "exit": 1}, sink)
    assert error.failure_reason is FailureReason.UPLOAD_REFUSED
    assert error.exit_code == 1
    assert "lamp did not take the firmware" in str(error)


async def test_cancelling_ends_the_upload(bench: Bench, sink: Sink) -> None:
    flash = asyncio.create_task(bench.flash({"stays": True}, sink))
    async with asyncio.timeout(60):  # a slow machine under load
        while not (bench.layout.flash(LAMP) / "seen.json").exists():  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    flash.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flash


async def test_an_upload_that_does_not_advance_is_ended(bench: Bench, sink: Sink) -> None:
    says = [
        "INFO Connecting to 192.0.2.7 port 3232...",
        "INFO Connected to 192.0.2.7",
        "Uploading: [==  ] 42% ",
    ]
    async with asyncio.timeout(60):  # ESPHome of this test would stay for 600 s
        error = await bench.refused({"says": says, "stays": True}, sink)
    assert error.failure_reason is FailureReason.UPLOAD_FAILED
    assert error.reason == Reason(ReasonKey.UPLOAD_STALLED, {"device": "lamp"})
    assert sink.output[-1] == "== The upload does not advance and is ended"


async def test_a_device_that_does_not_answer_at_all_is_offline(bench: Bench, sink: Sink) -> None:
    says = ["INFO Connecting to 192.0.2.7 port 3232..."]
    async with asyncio.timeout(60):
        error = await bench.refused({"says": says, "stays": True}, sink)
    assert error.failure_reason is FailureReason.DEVICE_OFFLINE


@pytest.mark.parametrize(
    ("before", "failure_reason"),
    [
        ("WARNING Connecting to 192.0.2.7 port 3232 failed: timed out", "device_offline"),
        ("INFO Connected to 192.0.2.7", "upload_failed"),
    ],
)
async def test_esphome_tries_each_address_once(
    bench: Bench, sink: Sink, before: str, failure_reason: str
) -> None:
    says = [
        "INFO Connecting to 2001:db8::7 port 3232...",
        "INFO Retrying in 5 seconds (attempt 2 of 4)...",
        before,
        "INFO Retrying in 5 seconds (attempt 3 of 4)...",
        "INFO OTA successful",
    ]
    error = await bench.refused({"says": says}, sink)
    assert error.failure_reason == failure_reason
    assert sink.output[-1] == says[3]


# The words of ESPHome 2026.10.0 in each of these cases, without what comes before.
JUDGED: list[tuple[str, list[str], FailureReason, ReasonKey]] = [
    (
        "wrong password",
        [
            "INFO Connecting to 127.0.0.1 port 28082...",
            "INFO Connected to 127.0.0.1",
            "ERROR receiving auth result: Authentication invalid. Is the password correct?",
            "WARNING Failed to upload to ['127.0.0.1']",
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.DEVICE_REFUSES_PASSWORD,
    ),
    (
        "too big",
        [
            "INFO Connected to 192.0.2.7",
            (
                "ERROR receiving update prepare result: ESP does not have enough space to store OTA file."
                " Please try flashing a minimal firmware (remove everything except ota)"
            ),
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.DEVICE_REFUSES_SIZE,
    ),
    (
        "no OTA in the configuration",
        [
            (
                "ERROR Cannot upload Over the Air as the ota configuration is not present or does not"
                " include platform: esphome or platform: web_server"
            ),
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.CONFIGURATION_WITHOUT_OTA,
    ),
    (
        "off",
        [
            "INFO Connecting to 127.0.0.1 port 28082...",
            "WARNING Connecting to 127.0.0.1 port 28082 failed: [Errno 111] Connection refused",
            "INFO Retrying in 5 seconds (attempt 2 of 3)...",
            (
                "ERROR Upload failed after 3 attempts: connecting to 127.0.0.1 failed: [Errno 111]"
                " Connection refused"
            ),
            "WARNING Failed to upload to ['127.0.0.1']",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "unknown name",
        [
            "ERROR Error resolving IP address of ['lamp.invalid']. Is it connected to WiFi?",
            "ERROR (If this error persists, please set a static IP address: https://esphome.io/)",
            (
                "ERROR Error resolving IP address: Error resolving lamp.invalid to IP address: [Errno -2]"
                " Name or service not known"
            ),
            "WARNING Failed to upload to ['lamp.invalid']",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "no address in the configuration",
        [
            (
                "ERROR All specified devices ['OTA'] could not be resolved. Is the device connected to"
                " the network? If you know the IP, set 'use_address' in your network config."
            ),
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "cut off, then not there",
        [
            "INFO Connected to 192.0.2.7",
            "WARNING sending data: [Errno 104] Connection reset by peer",
            "INFO Retrying in 5 seconds (attempt 2 of 3)...",
            "WARNING Connecting to 192.0.2.7 port 3232 failed: timed out",
            "ERROR Upload failed after 3 attempts: connecting to 192.0.2.7 failed: timed out",
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_TIMED_OUT,
    ),
    (
        "not there, up to 2026.7",
        [
            "INFO Connecting to 192.0.2.7 port 3232...",
            "ERROR Connecting to 192.0.2.7 port 3232 failed: [Errno 113] No route to host",
            "ERROR Connection failed.",
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "cut off, up to 2026.7",
        [
            "INFO Connected to 192.0.2.7",
            "Uploading: [=         ] 2% ERROR receiving chunk result response: timed out",
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_TIMED_OUT,
    ),
    (
        "lost after the last byte",
        [
            "INFO Connected to 192.0.2.7",
            (
                "ERROR receiving update end result: timed out (the device may have already committed the"
                " update and be rebooting; check whether it comes back with the new firmware before"
                " uploading again)"
            ),
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_TIMED_OUT,
    ),
    (
        "bad checksum",
        [
            "INFO Connected to 192.0.2.7",
            (
                "ERROR receiving update end result: Application MD5 code mismatch. Please try again or"
                " flash over USB with a good quality cable."
            ),
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_CUT_OFF,
    ),
    (
        "web server, wrong password",
        [
            "INFO Connecting to 192.0.2.7 port 80...",
            (
                "ERROR Authentication failed (HTTP 401). Check the 'web_server' 'auth' username and"
                " password."
            ),
            "ERROR OTA upload failed.",
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.DEVICE_REFUSES_PASSWORD,
    ),
    (
        "web server, off",
        [
            "INFO Connecting to 192.0.2.7 port 80...",
            (
                "ERROR OTA upload to 192.0.2.7 port 80 failed: HTTPConnectionPool(host='192.0.2.7',"
                " port=80): Max retries exceeded with url: /update (Caused by NewConnectionError("
                "'[Errno 111] Connection refused'))"
            ),
            "ERROR OTA upload failed.",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "web server, cut off",
        [
            "INFO Connecting to 192.0.2.7 port 80...",
            "Uploading: [====      ] 42% ",
            (
                "ERROR OTA upload to 192.0.2.7 port 80 failed: ('Connection aborted.',"
                " ConnectionResetError(104, 'Connection reset by peer'))"
            ),
            "ERROR OTA upload failed.",
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_CUT_OFF,
    ),
    ("silence", [], FailureReason.UPLOAD_REFUSED, ReasonKey.DEVICE_REFUSES),
]


@pytest.mark.parametrize(
    ("tail", "failure_reason", "key"),
    [case[1:] for case in JUDGED],
    ids=[case[0].replace(" ", "_") for case in JUDGED],
)
def test_each_ending_has_its_meaning(
    tail: list[str], failure_reason: FailureReason, key: ReasonKey
) -> None:
    error = judge(tail, ProcessResult(exit_code=1), "lamp", HERE_DIR)
    assert error.failure_reason is failure_reason
    # Without what ESPHome says: it names addresses, which are values of the configuration.
    assert error.reason == Reason(key, {"device": "lamp"})


def test_a_configuration_that_does_not_validate_any_more_is_invalid() -> None:
    tail = ["Failed config", "", "ota: [source lamp.yaml:3]", "  'passwort' is not allowed."]
    error = judge(tail, ProcessResult(exit_code=2), "lamp", HERE_DIR)
    assert error.failure_reason is FailureReason.CONFIG_INVALID
    at = {"file": "lamp.yaml", "row": "3"}
    assert error.reason == Reason(ReasonKey.CONFIG_REFUSED_AT, at)


def test_an_upload_that_somebody_killed_may_be_tried_again() -> None:
    killed = ProcessResult(exit_code=137, signal=9)
    error = judge(["INFO Connected to 192.0.2.7"], killed, "lamp", HERE_DIR)
    assert error.failure_reason is FailureReason.UPLOAD_FAILED
