"""One job from the queue to its end."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuilderStatus,
    BuildRequest,
    BuildSink,
    Node,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence, Verdict
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, because, failing, settle
from .queue_harness import QueueHarness


async def test_an_install_builds_flashes_and_verifies(harness: QueueHarness) -> None:
    job = await harness.run()

    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is True
    assert job.progress == 100
    assert (job.routing.source, job.routing.source_label) == (Source.LOCAL, "This machine")
    build, flash = harness.builder.requests[0], harness.flasher.requests[0]
    assert (build.job_id, build.time_zone) == (job.job_id, "Europe/Berlin")
    assert flash.firmware.sha256 == job.firmware_sha256
    assert flash.addresses == ("lamp.local",)
    assert job.attempts[0].attempt_id == build.attempt_id != flash.attempt_id
    assert harness.devices.watches[0].closed
    assert harness.events_of(job)[0] is JobEvent.QUEUED
    assert harness.events_of(job)[-1] is JobEvent.COMPLETED
    assert harness.events_of(job).count(JobEvent.STARTED) == 1


async def test_the_started_event_names_the_builder(harness: QueueHarness) -> None:
    sources = []
    harness.queue.subscribe(
        None, lambda event, job: sources.append(job.routing.source) if event == "started" else None
    )
    await harness.run()
    assert sources == [Source.LOCAL]


async def test_the_time_in_each_stage_and_of_the_flash_is_kept(harness: QueueHarness) -> None:
    build, confirm = Block(), asyncio.Event()
    harness.builder.script = [build]
    harness.devices.confirm_gate = confirm
    job = await harness.run()
    await harness.time.go(8)
    build.release.set()
    await settle()
    flashed_at = harness.time.now()
    await harness.time.go(3)
    confirm.set()
    await settle()

    assert job.stage_seconds[Stage.COMPILING] == 8
    assert job.stage_seconds[Stage.VERIFYING] == 3
    assert job.flashed_at == flashed_at
    assert job.finished_at == harness.time.now()


async def test_a_device_that_home_assistant_does_not_know_completes_unverified(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.UNKNOWN
    harness.devices.verdict = Verdict.UNKNOWN
    job = await harness.run()
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, False)


async def test_a_device_that_is_back_with_another_build_is_not_verified(
    harness: QueueHarness,
) -> None:
    harness.devices.verdict = Verdict.ANOTHER_BUILD
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.NOT_VERIFIED
    assert job.outcome.verified is False
    assert "another build" in str(job.outcome.error)


async def test_a_device_that_does_not_come_back_is_not_verified(harness: QueueHarness) -> None:
    harness.devices.verdict = Verdict.NOT_BACK
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.NOT_VERIFIED
    assert "did not come back" in str(job.outcome.error)
    assert harness.devices.watches[0].closed


async def test_firmware_of_another_device_is_not_sent(harness: QueueHarness) -> None:
    harness.keeper.node = Node("desk")
    # It is not waited for either.
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.WRONG_DEVICE
    names = {"name": "desk", "device": "lamp"}
    assert job.outcome.error == Reason(ReasonKey.FIRMWARE_OF_ANOTHER, names)
    assert harness.flasher.requests == []
    assert harness.devices.watches == []


async def test_an_image_that_is_not_of_its_name_is_not_sent(harness: QueueHarness) -> None:
    harness.keeper.node = Node("")
    job = await harness.run()
    assert job.outcome.error == Reason(ReasonKey.FIRMWARE_OF_NO_SUCH, {"device": "lamp"})
    assert harness.flasher.requests == []


async def test_firmware_of_the_name_that_the_device_still_has_is_its_own(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = Node("light")
    harness.devices.names["lamp"] = "light"
    assert (await harness.run()).status is JobStatus.COMPLETED


async def test_another_device_at_the_address_gets_nothing(harness: QueueHarness) -> None:
    harness.keeper.node = Node("lamp")
    harness.devices.names["lamp"] = harness.devices.intruders["lamp"] = "desk"
    job = await harness.run()
    names = {"name": "lamp", "device": "desk"}
    assert job.outcome.error == Reason(ReasonKey.FIRMWARE_OF_ANOTHER, names)
    assert harness.flasher.requests == []


async def test_firmware_of_which_no_name_was_kept_is_not_sent_to_another_device(
    harness: QueueHarness,
) -> None:
    harness.devices.intruders["lamp"] = "desk"
    job = await harness.run()
    names = {"name": "lamp", "device": "desk"}
    assert job.outcome.error == Reason(ReasonKey.FIRMWARE_OF_ANOTHER, names)
    assert harness.flasher.requests == []


async def test_a_device_that_its_configuration_has_no_more_gets_nothing(
    harness: QueueHarness,
) -> None:
    one = {"mac": "aa:bb:cc:00:11:22", "device_name": "lamp-001122"}
    harness.keeper.node = Node("ceiling")
    harness.configurations.names["lamp.yaml"] = "ceiling"
    harness.devices.lost = {"lamp-001122"}
    for job in await harness.run(**one), await harness.run(**one, address="192.0.2.7"):
        assert job.outcome.failure_reason is FailureReason.WRONG_DEVICE
        assert job.outcome.error == Reason(ReasonKey.DEVICE_GONE, {"device": "lamp-001122"})
    assert harness.flasher.requests == []


async def test_firmware_without_a_suffix_is_for_none_of_several_devices(
    harness: QueueHarness,
) -> None:
    one = {"mac": "aa:bb:cc:00:11:22", "device_name": "lamp-001122"}
    harness.configurations.names["lamp.yaml"] = "ceiling"
    harness.keeper.node = Node("ceiling")
    assert (await harness.run(**one)).outcome.failure_reason is FailureReason.WRONG_DEVICE
    assert harness.flasher.requests == []
    harness.keeper.node = Node("ceiling", adds_mac_suffix=True)
    assert (await harness.run(**one)).status is JobStatus.COMPLETED


async def test_a_configuration_that_was_renamed_since_its_job_was_queued(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = Node("ceiling")
    harness.configurations.names["lamp.yaml"] = "ceiling"
    assert (await harness.run()).status is JobStatus.COMPLETED


async def test_with_a_mac_suffix_firmware_of_the_stem_is_sent(harness: QueueHarness) -> None:
    harness.keeper.node = Node("lamp", adds_mac_suffix=True)
    harness.devices.names["lamp"] = "lamp-a1b2c3"
    assert (await harness.run()).status is JobStatus.COMPLETED


async def test_a_device_that_may_go_back_is_waited_for(harness: QueueHarness) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0)
    waited_for = []
    harness.queue.subscribe(None, lambda _event, job: waited_for.append(job.waiting_for))
    job = await harness.run()
    assert job.outcome.verified is True
    assert harness.devices.watches[0].stayed == 60.0
    parameters = {"device": "lamp", "seconds": "60"}
    assert Reason(ReasonKey.WAITS_FOR_GOOD_BOOT, parameters) in waited_for


async def test_without_what_was_validated_the_configuration_says_how_long(
    harness: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = DeviceAccess(good_after=90.0)
    monkeypatch.setattr(harness.configurations, "access", lambda _configuration: access)
    await harness.run()
    harness.keeper.validated = {"json": Path("lamp.yaml.json")}
    await harness.run()
    assert [watch.stayed for watch in harness.devices.watches] == [90.0, None]


async def test_a_device_that_goes_back_has_not_been_updated(harness: QueueHarness) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.devices.later = Verdict.WENT_BACK
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.ROLLED_BACK
    assert job.outcome.verified is False
    assert job.outcome.error == Reason(ReasonKey.WENT_BACK, {"device": "lamp"})
    assert job.replaced is not None


async def test_the_reason_that_a_device_gives_for_going_back_is_told(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.devices.later = Verdict.WENT_BACK
    harness.devices.restarts["lamp"] = "brownout"
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.ROLLED_BACK
    assert job.outcome.error == Reason(
        ReasonKey.WENT_BACK_AFTER, {"device": "lamp", "restart": "brownout"}
    )


async def test_a_device_that_cannot_go_back_is_not_waited_for(harness: QueueHarness) -> None:
    harness.keeper.node = Node("lamp")
    await harness.run()
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.set(wait_for_good_boot=False)
    await harness.run()
    assert [watch.stayed for watch in harness.devices.watches] == [None, None]


async def test_the_restart_is_watched_for_from_before_the_flash(harness: QueueHarness) -> None:
    watched = []

    async def act(_request: object, _sink: BuildSink) -> None:
        watched.append(len(harness.devices.watches))

    harness.flasher.script = [act]
    await harness.run()
    assert watched == [1]


async def test_a_compile_ends_after_the_build(harness: QueueHarness) -> None:
    job = await harness.run(operation=Operation.COMPILE)
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, None)
    assert job.firmware_sha256 is not None
    assert harness.flasher.requests == []


async def test_an_upload_flashes_what_was_built_last(harness: QueueHarness) -> None:
    await harness.run(operation=Operation.COMPILE)
    newest = await harness.run(operation=Operation.COMPILE)
    job = await harness.run(operation=Operation.UPLOAD)

    assert job.status is JobStatus.COMPLETED
    assert harness.flasher.requests[0].firmware.sha256 == newest.firmware_sha256
    assert len(harness.builder.requests) == 2


async def test_an_upload_of_nothing_fails(harness: QueueHarness) -> None:
    job = await harness.run(operation=Operation.UPLOAD)
    assert job.outcome.failure_reason is FailureReason.NO_FIRMWARE
    assert "lamp.yaml" in str(job.outcome.error)


async def test_cleaning_is_done_at_every_builder(harness: QueueHarness) -> None:
    peer = harness.add_peer("a" * 64, "Attic")
    job = await harness.run(operation=Operation.CLEAN)
    assert job.status is JobStatus.COMPLETED
    assert harness.builder.cleaned == peer.cleaned == ["lamp.yaml"]
    await harness.run(operation=Operation.CLEAN, clean=True)
    assert harness.builder.cleaned[1:] == peer.cleaned[1:] == ["lamp.yaml", "tools"]


async def test_cleaning_continues_at_the_other_builders_after_a_failure(
    harness: QueueHarness,
) -> None:
    peer = harness.add_peer("a" * 64, "Attic")
    harness.builder.clean_error = BuildError(
        FailureReason.BUILDER_ENVIRONMENT, because("read-only disk")
    )
    job = await harness.run(operation=Operation.CLEAN)
    assert job.outcome.error == because("read-only disk")
    assert peer.cleaned == ["lamp.yaml"]


async def test_cleaning_first_is_part_of_the_request(harness: QueueHarness) -> None:
    await harness.run(clean=True)
    assert harness.builder.requests[0].clean


async def test_a_job_of_a_removed_configuration_fails_and_names_it(harness: QueueHarness) -> None:
    harness.configurations.fingerprints["lamp.yaml"] = None
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.CONFIG_INVALID
    assert "lamp.yaml" in str(job.outcome.error)
    assert harness.builder.requests == []


async def test_progress_covers_the_whole_job_and_never_goes_back(harness: QueueHarness) -> None:
    block = Block()
    seen: list[int | None] = []

    async def act(request: BuildRequest, sink: BuildSink) -> None:
        for percent in (0, 50, 10, 100, 250, float("nan")):
            sink.progress(percent)
            seen.append(job.progress)
        await block(request, sink)

    harness.builder.script = [act]
    job = harness.submit()
    await settle()
    assert seen == [5, 42, 42, 80, 80, 80]
    block.release.set()
    await settle()
    assert job.progress == 100


async def test_progress_does_not_start_over_at_the_next_builder(harness: QueueHarness) -> None:
    async def act(_request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(60)
        await failing(FailureReason.BUILDER_UNAVAILABLE)(_request, sink)

    peer = harness.add_peer("a" * 64, "Attic")
    block = Block()
    peer.script, harness.builder.script = [act], [block]
    job = await harness.run()
    harness.builder.sinks[0].progress(1)
    assert job.progress == 50
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_without_any_percentage_progress_is_unknown_until_the_upload(
    harness: QueueHarness,
) -> None:
    build, flash = Block(), Block()
    harness.builder.script, harness.flasher.script = [build], [flash]
    job = await harness.run()
    assert (job.stage, job.progress) == (Stage.COMPILING, None)
    build.release.set()
    await settle()
    assert (job.stage, job.progress) == (Stage.UPLOADING, 91)
    flash.release.set()


async def test_a_waiting_stage_says_nothing_about_progress(harness: QueueHarness) -> None:
    async def act(_request: BuildRequest, sink: BuildSink) -> None:
        sink.stage(Stage.WAITING_BUILDER)
        sink.progress(70)

    harness.builder.script = [act]
    job = await harness.run(operation=Operation.COMPILE)
    assert job.status is JobStatus.COMPLETED


async def test_a_late_message_of_an_old_attempt_changes_nothing(harness: QueueHarness) -> None:
    peer = harness.add_peer("a" * 64, "Attic")
    peer.script = [failing(FailureReason.BUILDER_UNAVAILABLE)]
    block = Block()
    harness.builder.script = [block]
    job = await harness.run()
    assert job.current_attempt is not None
    before = replace(job)

    old = peer.sinks[0]
    old.stage(Stage.FETCHING)
    old.progress(99)
    old.lines(["a ghost"])

    assert job == before
    assert "a ghost" not in (await harness.logs.read(job.job_id)).lines
    assert peer.requests[0].attempt_id != harness.builder.requests[0].attempt_id
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_message_after_the_end_changes_nothing(harness: QueueHarness) -> None:
    job = await harness.run()
    events = len(harness.events)
    harness.flasher.sinks[0].progress(10)
    harness.builder.sinks[0].stage(Stage.COMPILING)
    assert job.status is JobStatus.COMPLETED
    assert len(harness.events) == events


async def test_the_output_is_in_the_log(harness: QueueHarness) -> None:
    job = await harness.run()
    lines = (await harness.logs.read(job.job_id)).lines
    assert "INFO Compiling" in lines
    assert lines[-1] == "== completed"


async def test_the_log_has_the_chosen_builder_with_the_reason_and_why_not_the_others(
    harness: QueueHarness,
) -> None:
    harness.add_peer("a" * 64, "Attic")
    cellar = harness.add_peer("c" * 64, "Cellar")
    cellar.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.ACCEPTS_NO_BUILDS)))
    job = await harness.run()
    lines = (await harness.logs.read(job.job_id)).lines
    begin = lines.index("== Building on Attic: It is idle")
    assert list(lines[begin + 1 : begin + 4]) == [
        "== Not on This machine: It builds only when no paired builder can",
        "== Not on Cellar: It does not accept builds at the moment",
        "== preparing on Attic",
    ]


async def test_the_log_of_a_remote_build_has_the_lines_of_a_local_one(
    harness: QueueHarness,
) -> None:
    here = await harness.run(operation=Operation.COMPILE)
    harness.add_peer("a" * 64, "Attic")
    there = await harness.run(operation=Operation.COMPILE)
    lines, other = [(await harness.logs.read(job.job_id)).lines for job in (here, there)]
    other = [line for line in other if not line.startswith("== Not on ")]
    assert [line.replace("This machine", "Attic") for line in lines if "firmware" not in line] == [
        line for line in other if "firmware" not in line
    ]


async def test_the_address_of_the_request_is_where_the_device_is_flashed(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run(address="192.0.2.7")
    assert harness.flasher.requests[0].addresses == ("192.0.2.7",)
    assert job.status is JobStatus.COMPLETED
