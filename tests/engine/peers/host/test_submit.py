"""Submitting to a builder: what is built, once, and what is refused."""

import asyncio
from collections.abc import AsyncIterator
import errno
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.host import inbox
from custom_components.esphome_offload.engine.host.admission import Caller, Lending
from custom_components.esphome_offload.engine.protocol import transfer
from custom_components.esphome_offload.engine.protocol.body import Sealer
from custom_components.esphome_offload.engine.protocol.definitions import (
    BUNDLE_LIMIT,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import AttemptState, Clean, Submit
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose

from ...jobs.fakes import Block, failing
from .lender import (
    LAMP,
    Lender,
    Offloader,
    until,
)


async def refused(act: object) -> ErrorCode:
    with pytest.raises(ProtocolError) as refusal:
        await act  # type: ignore[misc]
    return refusal.value.code


async def test_what_the_sealed_header_says_is_built(lender: Lender, pi: Offloader) -> None:
    files = {"lamp.yaml": b"substitutions: {}", "fonts/a.ttf": b"\x00\x01", "manifest.json": b"{}"}
    attempt_id = await pi.submit(files, esphome_version="2026.10.1", time_zone="Asia/Tokyo")
    assert (await pi.end(attempt_id)).state is AttemptState.COMPLETED
    (request,) = lender.builds
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


async def test_a_device_is_always_built_in_the_same_folders(lender: Lender, pi: Offloader) -> None:
    await pi.end(await pi.submit({"lamp.yaml": b"one", "old.h": b""}))
    await pi.end(await pi.submit({"lamp.yaml": b"two"}))
    first, second = lender.builds
    assert first.config_dir == second.config_dir
    assert (second.config_dir / "lamp.yaml").read_bytes() == b"two"
    assert not (second.config_dir / "old.h").exists()


async def test_a_bundle_is_removed_once_it_is_built(lender: Lender, pi: Offloader) -> None:
    await pi.end(await pi.submit())
    await until(lambda: not [path for path in lender.layout.inbox.rglob("*") if path.is_file()])


async def test_a_submit_that_comes_twice_builds_once(lender: Lender, pi: Offloader) -> None:
    block = Block()
    lender.script = [block]
    attempt_id = lender.new_id()
    sealer = pi.sealer(attempt_id)
    await pi.put(attempt_id, sealer)
    command = Submit(attempt_id, sealer.sha256)
    await asyncio.gather(*(pi.host.submit(pi.caller, command) for _ in range(3)))
    await block.entered.wait()
    await pi.host.submit(pi.caller, command)
    block.release.set()
    await pi.end(attempt_id)
    await pi.host.submit(pi.caller, command)
    assert len(lender.builds) == 1


async def test_the_same_attempt_with_another_bundle_is_refused(
    lender: Lender, pi: Offloader
) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    other = Submit(attempt_id, "0" * 64)
    assert await refused(pi.host.submit(pi.caller, other)) is ErrorCode.ATTEMPT_CONFLICT
    put = pi.put(attempt_id, pi.sealer(attempt_id))
    assert await refused(put) is ErrorCode.ATTEMPT_CONFLICT


async def test_another_bundle_than_the_one_that_came_is_refused(
    lender: Lender, pi: Offloader
) -> None:
    attempt_id = lender.new_id()
    await pi.put(attempt_id, pi.sealer(attempt_id))
    other = Submit(attempt_id, "0" * 64)
    assert await refused(pi.host.submit(pi.caller, other)) is ErrorCode.ATTEMPT_CONFLICT
    assert not lender.builds


async def test_a_replay_starts_nothing(lender: Lender, pi: Offloader) -> None:
    attempt_id = lender.new_id()
    sealer = pi.sealer(attempt_id)
    recorded = [piece async for piece in transfer.send(sealer)]

    async def replay() -> AsyncIterator[bytes]:
        for piece in recorded:
            yield piece

    command = Submit(attempt_id, sealer.sha256)
    await pi.host.receive(pi.http, attempt_id, replay())
    await pi.host.submit(pi.caller, command)
    await pi.end(attempt_id)
    await pi.acknowledge(attempt_id)
    for _ in range(2):
        put = pi.host.receive(pi.http, attempt_id, replay())
        assert await refused(put) is ErrorCode.ATTEMPT_OVER
        assert await refused(pi.host.submit(pi.caller, command)) is ErrorCode.ATTEMPT_OVER
        await lender.restart()
    assert len(lender.builds) == 1


async def test_an_id_is_used_up_before_anything_is_built(lender: Lender, pi: Offloader) -> None:
    stored: list[str] = []
    block = Block()

    async def look(*_: object) -> None:
        stored.append(lender.store.text)

    lender.script = [look, block]
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    assert attempt_id in stored[0]


async def test_what_cannot_be_noted_is_not_built(lender: Lender, pi: Offloader) -> None:
    lender.store.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ProtocolError) as refusal:
        await pi.submit()
    assert refusal.value.code is ErrorCode.NO_SPACE
    lender.store.error = None
    assert not lender.builds
    assert not lender.host.active()


async def test_a_submit_without_bundle_is_told_so(lender: Lender, pi: Offloader) -> None:
    submit = pi.host.submit(pi.caller, Submit(lender.new_id(), "0" * 64))
    assert await refused(submit) is ErrorCode.BUNDLE_NEEDED


async def test_a_bundle_that_is_there_need_not_be_sent_again(lender: Lender, pi: Offloader) -> None:
    first = lender.new_id()
    sealer = pi.sealer(first)
    await pi.put(first, sealer)
    await pi.host.submit(pi.caller, Submit(first, sealer.sha256))
    await pi.end(first)
    again = lender.new_id()
    header = Sealer(
        pi.channel,
        Purpose.BUNDLE,
        sealer._path,
        pi.parameters(again, clean=True),
        limit=BUNDLE_LIMIT,
    ).header
    await pi.host.submit(pi.caller, Submit(again, sealer.sha256, header))
    assert (await pi.end(again)).state is AttemptState.COMPLETED
    assert [request.clean for request in lender.builds] == [False, True]

    # Not for another attempt, not after it is gone.
    third = lender.new_id()
    replayed = pi.host.submit(pi.caller, Submit(third, sealer.sha256, header))
    assert await refused(replayed) is ErrorCode.TAMPERED
    await pi.host.clean(pi.caller, Clean("lamp.yaml"))
    header = Sealer(
        pi.channel, Purpose.BUNDLE, sealer._path, pi.parameters(third), limit=BUNDLE_LIMIT
    ).header
    gone = pi.host.submit(pi.caller, Submit(third, sealer.sha256, header))
    assert await refused(gone) is ErrorCode.BUNDLE_NEEDED


async def test_a_bundle_of_another_attempt_is_refused(lender: Lender, pi: Offloader) -> None:
    attempt_id = lender.new_id()
    put = pi.put(lender.new_id(), pi.sealer(attempt_id))
    assert await refused(put) is ErrorCode.TAMPERED


async def test_a_bundle_of_somebody_else_is_refused(lender: Lender, pi: Offloader) -> None:
    mallory = Identity.generate()
    attempt_id = lender.new_id()
    sealer = pi.sealer(attempt_id)
    forged = Sealer(
        Channel(mallory, lender.identity.public),
        Purpose.BUNDLE,
        sealer._path,
        pi.parameters(attempt_id),
        limit=BUNDLE_LIMIT,
    )
    assert await refused(pi.put(attempt_id, forged)) is ErrorCode.TAMPERED
    assert not list(lender.layout.inbox.rglob("*.gz"))


@pytest.mark.parametrize("configuration", ["../lamp.yaml", "/etc/lamp.yaml", "-o.yaml", "lamp"])
async def test_a_configuration_with_a_strange_name_is_refused(
    lender: Lender, pi: Offloader, configuration: str
) -> None:
    attempt_id = lender.new_id()
    put = pi.put(attempt_id, pi.sealer(attempt_id, configuration=configuration))
    assert await refused(put) is ErrorCode.MALFORMED


async def test_a_bundle_without_its_configuration_fails(lender: Lender, pi: Offloader) -> None:
    end = await pi.end(await pi.submit({"other.yaml": b""}))
    assert (end.state, end.failure_reason) == (
        AttemptState.FAILED,
        FailureReason.BUNDLE_INCOMPLETE,
    )
    assert not lender.builds


async def test_a_guest_sends_only_so_many_bundles_at_once(lender: Lender, pi: Offloader) -> None:
    ids = [lender.new_id() for _ in range(inbox.AT_ONCE + 1)]
    never = asyncio.Event()
    started = asyncio.Semaphore(0)

    async def slow() -> AsyncIterator[bytes]:
        started.release()
        await never.wait()
        yield b""

    puts = [asyncio.create_task(pi.host.receive(pi.http, each, slow())) for each in ids[:-1]]
    for _ in puts:
        await started.acquire()
    assert await refused(pi.put(ids[-1], pi.sealer(ids[-1]))) is ErrorCode.BUSY
    for put in puts:
        put.cancel()
    await asyncio.wait(puts)
    await pi.put(ids[-1], pi.sealer(ids[-1]))


async def test_bundles_that_nobody_submits_do_not_stay(lender: Lender, pi: Offloader) -> None:
    for _ in range(inbox.WAITING + 2):
        attempt_id = lender.new_id()
        await pi.put(attempt_id, pi.sealer(attempt_id))

    def kept() -> int:
        return len(list(lender.layout.inbox.rglob("*.tar.gz")))

    await until(lambda: kept() == inbox.WAITING)
    await lender.time.go(inbox.WAIT)
    await until(lambda: kept() == 0)


async def test_a_full_disk_takes_no_bundle(
    lender: Lender, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lender.host._inbox, "_free", lambda _folder: inbox.DISK_RESERVE - 1)
    attempt_id = lender.new_id()
    assert await refused(pi.put(attempt_id, pi.sealer(attempt_id))) is ErrorCode.NO_SPACE


async def test_a_disk_that_fills_up_while_unpacking_ends_the_build(
    lender: Lender, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("custom_components.esphome_offload.engine.host.workspace.unpack", full)
    end = await pi.end(await pi.submit())
    assert end.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert end.error is not None
    assert "No space left on device" in end.error


async def test_while_paused_nothing_new_begins_and_what_runs_ends_well(
    lender: Lender, pi: Offloader
) -> None:
    block = Block()
    lender.script = [block]
    attempt_id = await pi.submit()
    await block.entered.wait()
    waiting = lender.new_id()
    sealer = pi.sealer(waiting)
    await pi.put(waiting, sealer)
    await pi.host.lend(Lending.PAUSED)
    late = lender.new_id()
    for refusal in (
        pi.put(late, pi.sealer(late)),
        pi.host.submit(pi.caller, Submit(waiting, sealer.sha256)),
    ):
        with pytest.raises(ProtocolError, match="paused by its owner") as error:
            await refusal
        assert error.value.code is ErrorCode.NOT_LENDING
    block.release.set()
    assert (await pi.end(attempt_id)).state is AttemptState.COMPLETED
    assert (await pi.fetch(attempt_id))[1] == b"firmware of " + LAMP["lamp.yaml"]


async def test_when_lending_ends_so_does_what_runs(lender: Lender, pi: Offloader) -> None:
    block = Block()
    lender.script = [block]
    running, queued = (
        await pi.submit(),
        await pi.submit({"fan.yaml": b""}, configuration="fan.yaml"),
    )
    await block.entered.wait()
    stream = pi.attach(running)
    await anext(stream)
    await lender.host.lend(Lending.OFF)
    assert block.cancelled
    assert not lender.host.active()
    assert [each async for each in stream][-1].state is AttemptState.CANCELLED  # type: ignore[union-attr]
    assert await refused(pi.cancel(queued)) is ErrorCode.NOT_LENDING
    assert await refused(pi.host.firmware(pi.http, running, "ota")) is ErrorCode.NOT_LENDING  # type: ignore[arg-type]


async def test_a_machine_that_cannot_build_takes_nothing(lender: Lender, pi: Offloader) -> None:
    await pi.end(await pi.submit())
    for state, why in (
        (BuilderStatus(available=False, why_not="no compiler"), "no compiler"),
        (BuilderStatus(available=True, disk_mib=10), "too little free disk"),
    ):
        lender.builders[pi.pin[:32]].become(state)
        with pytest.raises(ProtocolError, match=why):
            await pi.submit()


async def test_a_failed_build_tells_why(lender: Lender, pi: Offloader) -> None:
    lender.script = [failing(FailureReason.COMPILE_FAILED, "lamp.cpp:3:1: error: no", 1)]
    end = await pi.end(await pi.submit())
    assert end.state is AttemptState.FAILED
    assert (end.failure_reason, end.error, end.exit_code) == (
        FailureReason.COMPILE_FAILED,
        "lamp.cpp:3:1: error: no",
        1,
    )


async def test_a_builder_that_breaks_fails_the_attempt(lender: Lender, pi: Offloader) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async def stopped(*_: object) -> None:
        raise asyncio.CancelledError

    lender.script = [broken, stopped]
    assert (await pi.end(await pi.submit())).failure_reason is FailureReason.INTERNAL
    end = await pi.end(await pi.submit())
    assert end.failure_reason is FailureReason.BUILDER_ENVIRONMENT


async def test_only_so_many_builds_of_a_guest_wait(
    lender: Lender, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.esphome_offload.engine.host.build_host.ACTIVE", 2)
    block = Block()
    lender.script = [block]
    await pi.submit()
    await pi.submit()
    with pytest.raises(ProtocolError) as refusal:
        await pi.submit()
    assert refusal.value.code is ErrorCode.BUSY
    attic = await lender.pair("attic")
    await attic.submit()
    block.release.set()


async def test_a_connection_must_be_proven_and_its_user_a_guest(
    lender: Lender, pi: Offloader
) -> None:
    attempt_id = lender.new_id()
    sealer = pi.sealer(attempt_id)
    await pi.put(attempt_id, sealer)
    command = Submit(attempt_id, sealer.sha256)
    attic = await lender.pair("attic")
    for caller, code in (
        (pi.http, ErrorCode.NOT_PROVEN),
        (Caller(pi.caller.user_id, attic.pin), ErrorCode.NOT_PROVEN),
        (Caller("owner", pi.pin), ErrorCode.UNKNOWN_GUEST),
    ):
        assert await refused(pi.host.submit(caller, command)) is code
    assert not lender.builds


def test_the_inbox_knows_what_is_free(tmp_path: Path) -> None:
    assert inbox.free_disk(tmp_path / "not" / "made" / "yet") > 0
