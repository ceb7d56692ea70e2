"""FirmwareFlasher: real processes, and what each way in which an upload can go wrong means."""

import asyncio
from dataclasses import replace
import errno
import json
import os
from pathlib import Path
import threading
import time

import pytest

from custom_components.esphome_offload.engine.build import flasher
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.flasher import FirmwareFlasher
from custom_components.esphome_offload.engine.build.model import (
    CONFIGURED,
    BuildError,
    BuildInfo,
    Firmware,
    FlashRequest,
)
from custom_components.esphome_offload.engine.build.process.processes import (
    Processes,
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
        addresses: tuple[str, ...] = (HERE,),
        saved_at: float | None = None,
        mac: str | None = None,
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
            addresses=addresses,
            time_zone="UTC",
            mac=mac,
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


async def test_esphome_is_given_each_address(bench: Bench, sink: Sink) -> None:
    addresses = (CONFIGURED, "fe80::7%eth0")
    await bench.flash({"says": ["INFO OTA successful"]}, sink, addresses=addresses)
    arguments = bench.seen()["argv"]
    assert isinstance(arguments, list)
    assert arguments[-2:] == ["--device=OTA", "--device=fe80::7%eth0"]


async def test_the_data_directory_is_not_that_of_the_build(bench: Bench, sink: Sink) -> None:
    await bench.flash({"says": ["INFO OTA successful"]}, sink)
    environment = bench.seen()["env"]
    assert isinstance(environment, dict)
    data = Path(environment["ESPHOME_DATA_DIR"])
    assert data == bench.layout.flash(LAMP)
    assert not data.is_relative_to(bench.layout.trees)


async def test_devices_of_one_configuration_are_flashed_at_the_same_time(bench: Bench) -> None:
    """Each from a directory of its own, and each failure is that of its own device."""
    macs = ("aa:bb:cc:00:11:22", "aa:bb:cc:00:33:44")
    refused = {"says": ["ERROR The OTA password is wrong"], "exit": 1}
    errors = await asyncio.gather(
        *(bench.flash(refused, Sink(), mac=mac) for mac in macs), return_exceptions=True
    )
    for mac, name, error in zip(macs, ("lamp-001122", "lamp-003344"), errors, strict=True):
        assert isinstance(error, BuildError)
        assert error.reason.parameters["device"] == name
        data = bench.layout.flash(LAMP, mac)
        seen = json.loads((data / "seen.json").read_text())
        assert seen["env"]["ESPHOME_DATA_DIR"] == str(data)


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


async def test_a_folder_that_does_not_answer_holds_up_no_flash(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    stat = Path.stat
    main_file = bench.config_dir / LAMP

    def hang(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == main_file:
            answers.wait()
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", hang)
    bench.flasher._look_timeout = 0.05
    try:
        await bench.flash({"says": ["INFO OTA successful"]}, sink)
    finally:
        answers.set()
    assert "INFO OTA successful" in sink.output


async def test_resolved_secrets_do_not_stay_behind(bench: Bench, sink: Sink) -> None:
    await bench.flash({}, sink)
    assert list((bench.layout.flash(LAMP) / "storage").iterdir()) == []


async def test_a_device_that_took_the_firmware_is_flashed_also_when_files_of_it_stay_behind(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forget = flasher._forget_configuration
    results = [None, OSError(errno.EROFS, "Read-only file system")]

    def forget_first(data_dir: Path) -> None:
        forget(data_dir)
        if (error := results.pop(0)) is not None:
            raise error

    monkeypatch.setattr(flasher, "_forget_configuration", forget_first)
    await bench.flash({"says": ["INFO OTA successful"]}, sink)
    assert results == []
    assert "Files of the upload to lamp stay: [Errno 30]" in caplog.text


async def test_firmware_that_was_altered_is_never_flashed(bench: Bench, sink: Sink) -> None:
    bench.firmware.ota.write_text("imagf")
    error = await bench.refused({"says": ["INFO OTA successful"]}, sink)
    assert error.failure_reason is FailureReason.INTEGRITY
    assert not (bench.layout.flash(LAMP) / "seen.json").exists()
    bench.layout.discard(bench.firmware.ota.parent)


@pytest.mark.parametrize("validated", [False, True])
async def test_firmware_that_is_gone_is_never_flashed(
    bench: Bench, sink: Sink, validated: bool
) -> None:
    if validated:
        files = {"json": bench.firmware.ota.parent / "validated" / "json"}
        bench.firmware = replace(bench.firmware, validated=files)
    bench.layout.discard(bench.firmware.ota.parent)
    error = await bench.refused({"says": ["INFO OTA successful"]}, sink)
    assert error.failure_reason is FailureReason.NO_FIRMWARE
    assert "could not be started" not in "".join(sink.output)


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
