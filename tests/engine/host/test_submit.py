"""Submitting to a builder: what is built, once, and what is refused."""

import asyncio
import errno
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import configuration_key
from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.build.resources import free_disk
from custom_components.esphome_offload.engine.codec import Json, encode
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.host import attempt_store
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.host.used_ids import UsedAttemptIds
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptState,
    SentReason,
    Submit,
)
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..jobs.fakes import Block, failing
from .builder import (
    LAMP,
    BuilderMachine,
    GuestCalls,
    refused,
)


async def test_a_build_follows_its_parameters(builder: BuilderMachine, guest: GuestCalls) -> None:
    files = {"lamp.yaml": b"substitutions: {}", "fonts/a.ttf": b"\x00\x01", "manifest.json": b"{}"}
    attempt_id = await guest.submit(files, esphome_version="2026.10.1", time_zone="Asia/Tokyo")
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    (request,) = builder.builds
    assert request.attempt_id == attempt_id
    assert (request.configuration, request.device_name) == ("lamp.yaml", "lamp")
    assert (request.esphome_version, request.time_zone) == ("2026.10.1", "Asia/Tokyo")
    assert not request.clean
    found = {
        str(path.relative_to(request.config_dir)): path.read_bytes()
        for path in request.config_dir.rglob("*")
        if path.is_file()
    }
    assert found == files


async def test_a_device_is_always_built_in_the_same_folders(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.end(await guest.submit({"lamp.yaml": b"one", "old.h": b""}))
    await guest.end(await guest.submit({"lamp.yaml": b"two"}))
    first, second = builder.builds
    assert first.config_dir == second.config_dir
    assert (second.config_dir / "lamp.yaml").read_bytes() == b"two"
    assert not (second.config_dir / "old.h").exists()


async def test_a_submit_costs_no_more_where_many_attempts_are_kept(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []

    def count(message: object) -> Json:
        encoded.append(message)
        return encode(message)

    for _ in range(3):
        await guest.end(await guest.submit())
    block = Block()
    builder.script = [block]
    monkeypatch.setattr(attempt_store, "encode", count)
    await guest.submit()
    assert [type(each) for each in encoded] == [UsedAttemptIds]
    block.release.set()


async def test_a_repeated_submit_builds_once(builder: BuilderMachine, guest: GuestCalls) -> None:
    block = Block()
    builder.script = [block]
    attempt_id = builder.new_id()
    bundle = guest.bundle()
    await guest.put(attempt_id, bundle)
    await asyncio.gather(*(guest.ask(attempt_id, bundle.sha256) for _ in range(3)))
    await block.entered.wait()
    await guest.ask(attempt_id, bundle.sha256)
    block.release.set()
    await guest.end(attempt_id)
    await guest.ask(attempt_id, bundle.sha256)
    assert len(builder.builds) == 1


async def test_the_same_attempt_with_another_bundle_is_refused(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    assert await refused(guest.ask(attempt_id, "0" * 64)) is ErrorCode.ATTEMPT_CONFLICT
    put = guest.put(attempt_id, guest.bundle())
    assert await refused(put) is ErrorCode.ATTEMPT_CONFLICT


async def test_a_submit_that_names_another_bundle_than_the_received_one_is_refused(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = builder.new_id()
    await guest.put(attempt_id, guest.bundle())
    assert await refused(guest.ask(attempt_id, "0" * 64)) is ErrorCode.ATTEMPT_CONFLICT
    assert not builder.builds


async def test_a_used_attempt_id_starts_nothing_again(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, bundle = builder.new_id(), guest.bundle()
    await guest.put(attempt_id, bundle)
    await guest.ask(attempt_id, bundle.sha256)
    await guest.end(attempt_id)
    await guest.acknowledge(attempt_id)
    for _ in range(2):
        assert await refused(guest.put(attempt_id, bundle)) is ErrorCode.ATTEMPT_OVER
        assert await refused(guest.ask(attempt_id, bundle.sha256)) is ErrorCode.ATTEMPT_OVER
        await builder.restart()
    assert len(builder.builds) == 1


async def test_an_attempt_id_is_stored_before_the_build_starts(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    stored: list[str] = []
    block = Block()

    async def look(*_: object) -> None:
        stored.append(builder.store.text)

    builder.script = [look, block]
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    assert attempt_id in stored[0]


async def test_a_build_whose_id_cannot_be_stored_is_not_started(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.store.error = OSError(errno.ENOSPC, "No space left on device")
    assert await refused(guest.submit()) is ErrorCode.NO_SPACE
    builder.store.error = None
    assert not builder.builds
    assert not builder.host.active()
    assert not builder.host.shown()


async def test_a_submit_without_a_bundle_is_refused(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    submit = guest.ask(builder.new_id(), "0" * 64)
    assert await refused(submit) is ErrorCode.BUNDLE_NEEDED


async def test_why_a_tree_cannot_be_removed_is_told_without_its_path(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    digest = builder.layout.guest(guest.pin).source_digest(configuration_key("lamp.yaml"))
    digest.mkdir(parents=True)
    with pytest.raises(ProtocolError) as refusal:
        await guest.clean("lamp.yaml")
    assert refusal.value.code is ErrorCode.BUSY
    assert str(refusal.value).endswith("the tree cannot be removed: Is a directory")


@pytest.mark.parametrize("configuration", ["../lamp.yaml", "/etc/lamp.yaml", "-o.yaml", "lamp"])
async def test_a_configuration_with_an_invalid_name_is_refused(
    builder: BuilderMachine, guest: GuestCalls, configuration: str
) -> None:
    submit = Submit(guest.parameters(builder.new_id(), configuration=configuration), "0" * 64)
    with pytest.raises(ProtocolError) as refusal:
        parse(Submit, encode(submit))
    assert refusal.value.code is ErrorCode.MALFORMED


async def test_a_bundle_without_its_configuration_fails(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    end = await guest.end(await guest.submit({"other.yaml": b""}))
    assert (end.state, end.failure_reason) == (
        AttemptState.FAILED,
        FailureReason.BUNDLE_INCOMPLETE,
    )
    assert not builder.builds


async def test_a_build_fails_when_the_disk_fills_up_while_unpacking(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("custom_components.esphome_offload.engine.host.workspace.unpack", full)
    end = await guest.end(await guest.submit())
    assert end.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert end.reason == SentReason(ReasonKey.DISK_UNUSABLE, line="No space left on device")


async def test_a_pause_refuses_new_builds_and_lets_running_ones_finish(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, block = await builder.start_blocked(guest)
    waiting = builder.new_id()
    bundle = guest.bundle()
    await guest.put(waiting, bundle)
    await guest.host.lend(Lending.DRAINING)
    late = builder.new_id()
    for refusal in (
        guest.put(late, guest.bundle()),
        guest.ask(waiting, bundle.sha256),
    ):
        with pytest.raises(ProtocolError, match="It does not accept builds at the moment") as error:
            await refusal
        assert error.value.code is ErrorCode.NOT_LENDING
    block.release.set()
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    assert (await guest.fetch(attempt_id))[1] == b"firmware of " + LAMP["lamp.yaml"]


async def test_running_builds_are_cancelled_when_lending_ends(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    block = Block()
    builder.script = [block]
    running, queued = (
        await guest.submit(),
        await guest.submit({"fan.yaml": b""}, configuration="fan.yaml"),
    )
    await block.entered.wait()
    stream = guest.attach(running)
    await anext(stream)
    await builder.host.lend(Lending.OFF)
    assert block.cancelled
    assert not builder.host.active()
    assert [each async for each in stream][-1].state is AttemptState.CANCELLED  # type: ignore[union-attr]
    assert await refused(guest.cancel(queued)) is ErrorCode.NOT_LENDING
    assert await refused(guest.fetch(running)) is ErrorCode.NOT_LENDING


async def test_a_machine_that_cannot_build_accepts_nothing(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.end(await guest.submit())
    for state, why in (
        (BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)), "need glibc"),
        (BuilderStatus(available=True, disk_mib=10), "Too little free disk"),
    ):
        builder.builders[guest.pin[:32]].become(state)
        with pytest.raises(ProtocolError, match=why):
            await guest.submit()


async def test_a_failed_build_has_its_reason(builder: BuilderMachine, guest: GuestCalls) -> None:
    builder.script = [failing(FailureReason.COMPILE_FAILED, "lamp.cpp:3:1: error: no", 1)]
    end = await guest.end(await guest.submit())
    assert end.state is AttemptState.FAILED
    assert (end.failure_reason, end.reason, end.exit_code) == (
        FailureReason.COMPILE_FAILED,
        SentReason(ReasonKey.UNEXPECTED, line="lamp.cpp:3:1: error: no"),
        1,
    )


async def test_an_unexpected_error_of_the_builder_fails_the_attempt(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    builder.script = [broken, stopped]
    assert (await guest.end(await guest.submit())).failure_reason is FailureReason.INTERNAL
    end = await guest.end(await guest.submit())
    assert end.failure_reason is FailureReason.BUILDER_ENVIRONMENT


async def test_the_number_of_waiting_builds_of_a_guest_is_limited(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.esphome_offload.engine.host.build_host.ACTIVE", 2)
    block = Block()
    builder.script = [block]
    await guest.submit()
    await guest.submit()
    assert await refused(guest.submit()) is ErrorCode.BUSY
    other = await builder.pair("other")
    await other.submit()
    block.release.set()


def test_free_disk_is_known_for_folders_that_do_not_exist_yet(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "made" / "yet") > 0
