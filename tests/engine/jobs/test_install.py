"""One job from the queue to its end."""

import asyncio
from dataclasses import replace

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence, Verdict

from .fakes import Block, failing, settle
from .house import House


async def test_an_install_builds_flashes_and_verifies(house: House) -> None:
    job = await house.run()

    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is True
    assert job.progress == 100
    assert (job.routing.source, job.routing.source_label) == (Source.LOCAL, "This machine")
    build, flash = house.builder.requests[0], house.flasher.requests[0]
    assert (build.job_id, build.time_zone) == (job.job_id, "Europe/Berlin")
    assert flash.firmware.sha256 == job.firmware_sha256
    assert flash.address == "lamp.local"
    assert job.attempts[0].attempt_id == build.attempt_id != flash.attempt_id
    assert house.devices.watches[0].closed
    assert house.events_of(job)[0] is JobEvent.QUEUED
    assert house.events_of(job)[-1] is JobEvent.COMPLETED
    assert house.events_of(job).count(JobEvent.STARTED) == 1


async def test_the_started_event_says_who_builds(house: House) -> None:
    sources = []
    house.queue.subscribe(
        None, lambda event, job: sources.append(job.routing.source) if event == "started" else None
    )
    await house.run()
    assert sources == [Source.LOCAL]


async def test_the_time_in_each_stage_and_of_the_flash_is_kept(house: House) -> None:
    build, confirm = Block(), asyncio.Event()
    house.builder.script = [build]
    house.devices.confirm_gate = confirm
    job = await house.run()
    await house.time.go(8)
    build.release.set()
    await settle()
    flashed_at = house.time.now()
    await house.time.go(3)
    confirm.set()
    await settle()

    assert job.stage_seconds[Stage.COMPILING] == 8
    assert job.stage_seconds[Stage.VERIFYING] == 3
    assert job.flashed_at == flashed_at
    assert job.finished_at == house.time.now()


async def test_a_device_that_home_assistant_does_not_know_completes_unverified(
    house: House,
) -> None:
    house.devices.state["lamp"] = Presence.UNKNOWN
    house.devices.verdict = Verdict.UNKNOWN
    job = await house.run()
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, False)


async def test_a_device_that_is_back_with_another_build_is_not_verified(house: House) -> None:
    house.devices.verdict = Verdict.ANOTHER_BUILD
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.NOT_VERIFIED
    assert job.outcome.verified is False
    assert "another build" in (job.outcome.error or "")


async def test_a_device_that_does_not_come_back_is_not_verified(house: House) -> None:
    house.devices.verdict = Verdict.NOT_BACK
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.NOT_VERIFIED
    assert "did not come back" in (job.outcome.error or "")
    assert house.devices.watches[0].closed


async def test_the_restart_is_watched_for_from_before_the_flash(house: House) -> None:
    watched = []

    async def act(_request: object, _sink: BuildSink) -> None:
        watched.append(len(house.devices.watches))

    house.flasher.script = [act]
    await house.run()
    assert watched == [1]


async def test_a_compile_ends_after_the_build(house: House) -> None:
    job = await house.run(operation=Operation.COMPILE)
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, None)
    assert job.firmware_sha256 is not None
    assert house.flasher.requests == []


async def test_an_upload_flashes_what_was_built_last(house: House) -> None:
    await house.run(operation=Operation.COMPILE)
    newest = await house.run(operation=Operation.COMPILE)
    job = await house.run(operation=Operation.UPLOAD)

    assert job.status is JobStatus.COMPLETED
    assert house.flasher.requests[0].firmware.sha256 == newest.firmware_sha256
    assert len(house.builder.requests) == 2


async def test_an_upload_of_nothing_fails(house: House) -> None:
    job = await house.run(operation=Operation.UPLOAD)
    assert job.outcome.failure_reason is FailureReason.NO_FIRMWARE
    assert "lamp.yaml" in (job.outcome.error or "")


async def test_cleaning_reaches_every_builder(house: House) -> None:
    peer = house.add_peer("a" * 64, "Attic")
    job = await house.run(operation=Operation.CLEAN)
    assert job.status is JobStatus.COMPLETED
    assert house.builder.cleaned == peer.cleaned == ["lamp.yaml"]


async def test_a_builder_that_cannot_clean_does_not_keep_the_others_from_it(house: House) -> None:
    peer = house.add_peer("a" * 64, "Attic")
    house.builder.clean_error = BuildError(FailureReason.BUILDER_ENVIRONMENT, "read-only disk")
    job = await house.run(operation=Operation.CLEAN)
    assert job.outcome.error == "read-only disk"
    assert peer.cleaned == ["lamp.yaml"]


async def test_cleaning_first_is_part_of_the_request(house: House) -> None:
    await house.run(clean=True)
    assert house.builder.requests[0].clean


async def test_a_configuration_that_is_gone_fails_by_name(house: House) -> None:
    house.configurations.fingerprints["lamp.yaml"] = None
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.CONFIG_INVALID
    assert "lamp.yaml" in (job.outcome.error or "")
    assert house.builder.requests == []


async def test_progress_covers_the_whole_job_and_never_goes_back(house: House) -> None:
    block = Block()
    seen: list[int | None] = []

    async def act(request: BuildRequest, sink: BuildSink) -> None:
        for percent in (0, 50, 10, 100, 250, float("nan")):
            sink.progress(percent)
            seen.append(job.progress)
        await block(request, sink)

    house.builder.script = [act]
    job = house.submit()
    await settle()
    assert seen == [5, 42, 42, 80, 80, 80]
    block.release.set()
    await settle()
    assert job.progress == 100


async def test_progress_does_not_start_over_at_the_next_builder(house: House) -> None:
    async def act(_request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(60)
        await failing(FailureReason.BUILDER_UNAVAILABLE)(_request, sink)

    peer = house.add_peer("a" * 64, "Attic")
    block = Block()
    peer.script, house.builder.script = [act], [block]
    job = await house.run()
    house.builder.sinks[0].progress(1)
    assert job.progress == 50
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_without_any_percentage_progress_is_unknown_until_the_upload(house: House) -> None:
    build, flash = Block(), Block()
    house.builder.script, house.flasher.script = [build], [flash]
    job = await house.run()
    assert (job.stage, job.progress) == (Stage.COMPILING, None)
    build.release.set()
    await settle()
    assert (job.stage, job.progress) == (Stage.UPLOADING, 91)
    flash.release.set()


async def test_a_waiting_stage_says_nothing_about_progress(house: House) -> None:
    async def act(_request: BuildRequest, sink: BuildSink) -> None:
        sink.stage(Stage.WAITING_BUILDER)
        sink.progress(70)

    house.builder.script = [act]
    job = await house.run(operation=Operation.COMPILE)
    assert job.status is JobStatus.COMPLETED


async def test_a_late_message_of_an_old_attempt_changes_nothing(house: House) -> None:
    peer = house.add_peer("a" * 64, "Attic")
    peer.script = [failing(FailureReason.BUILDER_UNAVAILABLE)]
    block = Block()
    house.builder.script = [block]
    job = await house.run()
    assert job.current_attempt is not None
    before = replace(job)

    old = peer.sinks[0]
    old.stage(Stage.FETCHING)
    old.progress(99)
    old.lines(["a ghost"])

    assert job == before
    assert "a ghost" not in (await house.logs.read(job.job_id)).lines
    assert peer.requests[0].attempt_id != house.builder.requests[0].attempt_id
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_message_after_the_end_changes_nothing(house: House) -> None:
    job = await house.run()
    events = len(house.events)
    house.flasher.sinks[0].progress(10)
    house.builder.sinks[0].stage(Stage.COMPILING)
    assert job.status is JobStatus.COMPLETED
    assert len(house.events) == events


async def test_the_output_is_in_the_log(house: House) -> None:
    job = await house.run()
    lines = (await house.logs.read(job.job_id)).lines
    assert "INFO Compiling" in lines
    assert lines[-1] == "== completed"


async def test_the_log_says_who_builds_and_why_and_why_not_the_others(house: House) -> None:
    house.add_peer("a" * 64, "Attic")
    cellar = house.add_peer("c" * 64, "Cellar")
    cellar.become(BuilderStatus(available=False, why_not="paused by its owner"))
    job = await house.run()
    lines = (await house.logs.read(job.job_id)).lines
    begin = lines.index("== Building on Attic: idle")
    assert list(lines[begin + 1 : begin + 4]) == [
        "== Not on This machine: builds only when no peer can",
        "== Not on Cellar: paused by its owner",
        "== preparing on Attic",
    ]


async def test_the_log_of_a_build_elsewhere_reads_like_that_of_one_here(house: House) -> None:
    here = await house.run(operation=Operation.COMPILE)
    house.add_peer("a" * 64, "Attic")
    there = await house.run(operation=Operation.COMPILE)
    lines, other = [(await house.logs.read(job.job_id)).lines for job in (here, there)]
    other = [line for line in other if not line.startswith("== Not on ")]
    assert [line.replace("This machine", "Attic") for line in lines if "firmware" not in line] == [
        line for line in other if "firmware" not in line
    ]


async def test_the_address_of_the_request_is_where_the_device_is_flashed(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run(address="192.0.2.7")
    assert house.flasher.requests[0].address == "192.0.2.7"
    assert job.status is JobStatus.COMPLETED
