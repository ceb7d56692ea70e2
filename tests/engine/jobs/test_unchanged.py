"""An unchanged configuration: the kept firmware is flashed, and nothing is compiled."""

import asyncio
from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.build.model import Elsewhere
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    Image,
    JobStatus,
    Operation,
    Source,
)
from custom_components.esphome_offload.engine.jobs.model import JobRequest
from custom_components.esphome_offload.engine.jobs.ports import Verdict
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, flash_failing, settle
from .queue_harness import QueueHarness


@pytest.fixture
async def known(harness: QueueHarness) -> QueueHarness:
    """All files of the configurations are known, and a first build was made of them."""
    harness.configurations.files = "all of them"
    await harness.run()
    assert len(harness.builder.requests) == 1
    return harness


async def log_of(harness: QueueHarness, job_id: str) -> tuple[str, ...]:
    return (await harness.logs.read(job_id, 0, 1000)).lines


async def test_installing_again_flashes_the_kept_firmware(known: QueueHarness) -> None:
    job = await known.run()

    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is True
    assert len(known.builder.requests) == 1
    assert [each.firmware for each in known.flasher.requests] == 2 * list(
        known.keeper.kept.values()
    )


async def test_source_is_who_built_it_and_the_reason_is_its_own(known: QueueHarness) -> None:
    peer = known.add_peer("ab" * 32, "Attic")
    await known.run("fan.yaml")

    job = await known.run("fan.yaml")

    assert len(peer.requests) == 1
    assert job.attempts == ()
    assert job.routing.source is Source.REMOTE
    assert job.routing.source_label == "Attic"
    assert job.routing.source_pin_sha256 == peer.pin_sha256
    assert job.routing.reason == Reason(ReasonKey.CHOSEN_KEPT)
    assert any("nothing is compiled" in line for line in await log_of(known, job.job_id))


async def test_compiling_again_completes_with_the_kept_firmware(known: QueueHarness) -> None:
    job = await known.run(operation=Operation.COMPILE)

    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is None
    assert job.firmware_sha256 is not None
    assert len(known.builder.requests) == 1
    assert len(known.flasher.requests) == 1


async def test_needs_no_builder_that_is_free(known: QueueHarness) -> None:
    known.builder.state = replace(known.builder.state, busy=1)

    assert (await known.run()).status is JobStatus.COMPLETED


async def test_fingerprint_alone_does_not_decide(known: QueueHarness) -> None:
    known.hashes.present = 8
    await known.run()
    assert len(known.builder.requests) == 2


async def test_builds_when_the_hash_cannot_be_told(known: QueueHarness) -> None:
    known.hashes.present = None
    await known.run()
    assert len(known.builder.requests) == 2


async def test_hash_alone_does_not_decide(known: QueueHarness) -> None:
    known.configurations.fingerprints["lamp.yaml"] = "another comment"
    await known.run()
    assert len(known.builder.requests) == 2
    assert known.hashes.asked == 0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"clean": True}, id="from nothing"),
        pytest.param({"esphome_version": "2026.11.0"}, id="another version"),
        pytest.param({"device_name": "lamp2"}, id="another name"),
    ],
)
async def test_builds_what_is_asked_for_in_another_way(
    known: QueueHarness, changes: dict[str, object]
) -> None:
    await known.run(**changes)
    assert len(known.builder.requests) == 2


async def test_builds_in_another_time_zone(known: QueueHarness) -> None:
    known.set(time_zone="Europe/Lisbon")
    await known.run()
    assert len(known.builder.requests) == 2


async def test_builds_while_not_all_files_are_known(known: QueueHarness) -> None:
    known.configurations.files = None
    await known.run()
    await known.run()
    assert len(known.builder.requests) == 3


async def test_builds_after_the_tree_was_cleaned(known: QueueHarness) -> None:
    await known.run(operation=Operation.CLEAN)
    await known.run()
    assert len(known.builder.requests) == 2


async def test_builds_at_the_builder_that_is_asked_for(known: QueueHarness) -> None:
    peer = known.add_peer("ab" * 32, "Attic")
    await known.run(requested_source=peer.builder_id)
    assert len(peer.requests) == 1
    await known.run(requested_source="local")
    assert len(known.builder.requests) == 1


async def test_builds_when_who_built_it_is_not_paired_any_more(harness: QueueHarness) -> None:
    harness.configurations.files = "all of them"
    peer = harness.add_peer("ab" * 32, "Attic")
    unregister = harness.builders.register(peer)
    await harness.run()
    unregister()

    await harness.run()

    assert (len(peer.requests), len(harness.builder.requests)) == (1, 1)


async def test_builds_when_the_kept_firmware_was_altered(known: QueueHarness) -> None:
    known.keeper.altered = True
    await known.run()
    assert len(known.builder.requests) == 2


async def test_builds_when_the_kept_firmware_is_gone(known: QueueHarness) -> None:
    known.keeper.kept.clear()
    await known.run()
    assert len(known.builder.requests) == 2


async def test_files_that_change_during_a_build_are_built_again(harness: QueueHarness) -> None:
    """Also when they are what they were after it: the build may have read something else."""

    async def save(_request: object, _sink: object) -> None:
        harness.configurations.files = "saved, and saved again as before"

    harness.configurations.files = "all of them"
    harness.builder.script = [save]
    await harness.run()
    await harness.run()
    assert len(harness.builder.requests) == 2
    await harness.run()
    assert len(harness.builder.requests) == 2


async def test_former_state_has_its_former_firmware(known: QueueHarness) -> None:
    known.configurations.fingerprints["lamp.yaml"] = "edited"
    await known.run()
    known.configurations.fingerprints["lamp.yaml"] = "as it was"

    job = await known.run()

    assert len(known.builder.requests) == 2
    first, _, third = (each.firmware.sha256 for each in known.flasher.requests)
    assert first == third == job.firmware_sha256
    latest = await known.keeper.latest("lamp.yaml")
    assert latest is not None
    assert latest.sha256 == first


@pytest.mark.parametrize("verdict", [Verdict.WENT_BACK, Verdict.NOT_BACK, Verdict.ANOTHER_BUILD])
async def test_builds_after_a_device_did_not_run_it(known: QueueHarness, verdict: Verdict) -> None:
    known.devices.verdict = verdict
    assert (await known.run()).status is JobStatus.FAILED
    known.devices.verdict = Verdict.CONFIRMED

    await known.run()

    assert len(known.builder.requests) == 2


async def test_firmware_that_vanishes_before_the_flash_is_built(known: QueueHarness) -> None:
    known.flasher.script = [flash_failing(FailureReason.NO_FIRMWARE)]

    job = await known.run()

    assert job.status is JobStatus.COMPLETED
    assert len(known.builder.requests) == 2


async def test_restart_while_the_device_is_waited_for_keeps_the_choice(
    known: QueueHarness,
) -> None:
    known.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE)]
    job = await known.run()
    assert job.pending

    await known.restart()
    await known.time.go(61)
    again = known.queue.get(job.job_id)

    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert again.routing.reason == Reason(ReasonKey.CHOSEN_KEPT)
    assert len(known.builder.requests) == 1


async def test_hash_of_a_build_elsewhere_that_depends_on_the_folder(harness: QueueHarness) -> None:
    """It is compared with what this machine says, from the second build on."""
    harness.configurations.files = "all of them"
    peer = harness.add_peer("ab" * 32, "Attic")
    harness.hashes.present = 99
    await harness.run()
    harness.hashes.background = 99

    await harness.run()
    assert len(peer.requests) == 2
    await harness.run()
    assert len(peer.requests) == 2


async def test_held_queue_takes_no_kept_firmware(known: QueueHarness) -> None:
    known.queue.hold()
    job = await known.run()
    assert job.status is JobStatus.QUEUED

    known.queue.release()
    await settle()

    assert job.status is JobStatus.COMPLETED
    assert len(known.builder.requests) == 1


async def test_devices_of_one_configuration_share_a_build(harness: QueueHarness) -> None:
    harness.configurations.files = "all of them"
    build = Block()
    harness.builder.script = [build]
    macs = "AA:BB:CC:00:00:01", "AA:BB:CC:00:00:02"
    jobs = [
        harness.submit(mac=mac, device_name=f"lamp-{mac[-8:].replace(':', '').lower()}")
        for mac in macs
    ]
    await settle()
    build.release.set()
    await settle()

    assert [job.status for job in jobs] == [JobStatus.COMPLETED, JobStatus.COMPLETED]
    assert len(harness.builder.requests) == 1
    assert [each.mac for each in harness.flasher.requests] == list(macs)


async def test_jobs_get_to_the_builders_in_their_order(known: QueueHarness) -> None:
    names = [f"lamp{number}.yaml" for number in range(5)]
    for name in names:
        known.submit(name)
    await settle()
    await settle()
    assert [each.configuration for each in known.builder.requests[1:]] == names


async def test_builds_all_configurations_after_the_tools_were_removed(known: QueueHarness) -> None:
    await known.run("fan.yaml")
    await known.run(operation=Operation.CLEAN)
    await known.run("fan.yaml")
    assert len(known.builder.requests) == 2, "only the tree of another one was cleaned"
    await known.run(operation=Operation.CLEAN, clean=True)
    await known.run("fan.yaml")
    assert len(known.builder.requests) == 3


async def test_a_job_has_failed_before_its_firmware_is_doubted(
    known: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a restart meanwhile would find it active, and flash the same again."""
    statuses = []
    forget = known.origins.forget

    async def slow(configuration: str | None) -> None:
        await settle()
        statuses.append(job.status)
        await forget(configuration)

    monkeypatch.setattr(known.origins, "forget", slow)
    known.devices.verdict = Verdict.WENT_BACK
    job = known.submit()
    await settle()
    await settle()
    assert statuses == [JobStatus.FAILED]


async def test_builds_again_when_the_moment_of_a_build_is_not_known(harness: QueueHarness) -> None:
    harness.configurations.files = "all of them"
    harness.origins.moment = None
    await harness.run()
    await harness.run()
    assert len(harness.builder.requests) == 2


async def test_compiling_makes_the_other_files_again_where_they_are_gone(
    known: QueueHarness,
) -> None:
    """That is how they can be downloaded again."""
    ((key, firmware),) = known.keeper.kept.items()
    bare = replace(firmware, images={})
    known.keeper.kept[key] = bare
    assert (await known.run()).status is JobStatus.COMPLETED
    assert len(known.builder.requests) == 1, "what is flashed is there"

    known.keeper.kept[key] = replace(bare, elsewhere=Elsewhere("local", (Image.ELF,)))
    await known.run(operation=Operation.COMPILE)
    assert len(known.builder.requests) == 1, "its builder has them"

    known.keeper.kept[key] = bare
    await known.run(operation=Operation.COMPILE)
    assert len(known.builder.requests) == 2


async def test_no_job_waits_for_the_process_of_another_configuration(
    known: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    asking = []
    ask = known.hashes.ask

    async def slow(request: JobRequest, fingerprint: str) -> int | None:
        asking.append(request.configuration)
        await gate.wait()
        return await ask(request, fingerprint)

    await known.run("fan.yaml")
    monkeypatch.setattr(known.hashes, "ask", slow)
    known.submit()
    known.submit("fan.yaml", operation=Operation.COMPILE)
    new = known.submit("desk.yaml")
    await settle()
    assert new.status is JobStatus.COMPLETED
    assert asking == ["lamp.yaml"], "one process at a time"
    gate.set()
    await settle()
    assert asking == ["lamp.yaml", "fan.yaml"]
    assert len(known.builder.requests) == 3
