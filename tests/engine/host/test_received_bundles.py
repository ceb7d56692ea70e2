"""Bundles at the builder: sent, kept, and gone again."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.host import inbox
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptState,
)

from ..jobs.fakes import Block
from .builder import (
    BuilderMachine,
    GuestCalls,
    refused,
    until,
)


async def test_a_bundle_is_removed_once_it_is_built(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.end(await guest.submit())
    await until(lambda: not [path for path in builder.layout.inbox.rglob("*") if path.is_file()])


async def test_a_known_bundle_need_not_be_sent_again(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    first, bundle = builder.new_id(), guest.bundle()
    await guest.put(first, bundle)
    await guest.ask(first, bundle.sha256)
    await guest.end(first)
    again = builder.new_id()
    await guest.ask(again, bundle.sha256, clean=True)
    assert (await guest.end(again)).state is AttemptState.COMPLETED
    assert [request.clean for request in builder.builds] == [False, True]

    third = builder.new_id()
    other = await builder.pair("other")
    assert await refused(other.ask(third, bundle.sha256)) is ErrorCode.BUNDLE_NEEDED
    await guest.clean("lamp.yaml")
    assert await refused(guest.ask(third, bundle.sha256)) is ErrorCode.BUNDLE_NEEDED


async def test_a_bundle_with_files_around_the_folder_is_built_in_the_folder_of_its_manifest(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    files = {
        "esphome/manifest.json": b"{}",
        "esphome/lamp.yaml": b"packages: [!include ../common/base.yaml]",
        "common/base.yaml": b"base",
    }
    bundle, attempt_ids = guest.bundle(files), (builder.new_id(), builder.new_id())
    await guest.put(attempt_ids[0], bundle)
    for attempt_id in attempt_ids:
        # The second time it is known as one that is unpacked.
        await guest.ask(attempt_id, bundle.sha256)
        await guest.end(attempt_id)
    folders = [each.config_dir for each in builder.builds]
    assert len(folders) == 2
    for folder in folders:
        assert folder.name == "esphome"
        assert (folder / "lamp.yaml").read_bytes() == files["esphome/lamp.yaml"]
        assert (folder / "../common/base.yaml").read_bytes() == b"base"


async def test_an_incomplete_bundle_is_not_kept(builder: BuilderMachine, guest: GuestCalls) -> None:
    async def cut_off(file: IncomingFile) -> None:
        file.target.with_suffix(".part").touch()
        raise ChannelClosed("cut off")

    attempt_id, bundle = builder.new_id(), guest.bundle()
    with pytest.raises(ChannelClosed):
        await guest.put(attempt_id, bundle, cut_off)
    assert await refused(guest.ask(attempt_id, bundle.sha256)) is ErrorCode.BUNDLE_NEEDED
    await guest.put(attempt_id, bundle)
    await guest.ask(attempt_id, bundle.sha256)


async def test_only_our_user_can_read_bundles(builder: BuilderMachine, guest: GuestCalls) -> None:
    await guest.put(builder.new_id(), guest.bundle())
    (folder,) = builder.layout.inbox.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_the_number_of_bundles_sent_at_once_is_limited(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    ids = [builder.new_id() for _ in range(inbox.AT_ONCE + 1)]
    never = asyncio.Event()
    started = asyncio.Semaphore(0)

    async def slow(_file: IncomingFile) -> None:
        started.release()
        await never.wait()

    puts = [asyncio.create_task(guest.put(each, guest.bundle(), slow)) for each in ids[:-1]]
    for _ in puts:
        await started.acquire()
    assert await refused(guest.put(ids[-1], guest.bundle())) is ErrorCode.BUSY
    for put in puts:
        put.cancel()
    await asyncio.wait(puts)
    await guest.put(ids[-1], guest.bundle())


async def test_a_bundle_whose_attempt_is_submitted_meanwhile_changes_nothing(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, bundle = builder.new_id(), guest.bundle()
    block = Block()
    builder.script = [block]
    await guest.put(attempt_id, bundle)
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(file: IncomingFile) -> None:
        file.target.write_bytes(b"another")
        started.set()
        await goes_on.wait()

    again = asyncio.create_task(guest.put(attempt_id, bundle, slow))
    await started.wait()
    await guest.ask(attempt_id, bundle.sha256)
    await block.entered.wait()
    goes_on.set()
    assert await refused(again) is ErrorCode.ATTEMPT_CONFLICT
    block.release.set()
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    await until(lambda: not list(builder.layout.inbox.rglob("*.tar.gz")))


async def test_bundles_that_are_not_submitted_are_removed(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    for _ in range(inbox.WAITING + 2):
        attempt_id = builder.new_id()
        await guest.put(attempt_id, guest.bundle())

    def kept() -> int:
        return len(list(builder.layout.inbox.rglob("*.tar.gz")))

    await until(lambda: kept() == inbox.WAITING)
    await builder.time.go(inbox.WAIT)
    await until(lambda: kept() == 0)


def bundles(builder: BuilderMachine) -> list[str]:
    return sorted(path.name[:32] for path in builder.layout.inbox.rglob("*.tar.gz"))


async def test_a_bundle_goes_when_its_attempt_is_cancelled_before_it_is_submitted(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    cancelled, other = builder.new_id(), builder.new_id()
    for attempt_id in (cancelled, other):
        await guest.put(attempt_id, guest.bundle())
    assert await refused(guest.cancel(cancelled)) is ErrorCode.UNKNOWN_ATTEMPT
    await until(lambda: bundles(builder) == [other])


async def test_a_bundle_goes_when_its_attempt_is_cancelled_before_all_of_it_came(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = builder.new_id()
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(file: IncomingFile) -> None:
        file.target.write_bytes(b"all of it")
        started.set()
        await goes_on.wait()

    put = asyncio.create_task(guest.put(attempt_id, guest.bundle(), slow))
    await started.wait()
    assert await refused(guest.cancel(attempt_id)) is ErrorCode.UNKNOWN_ATTEMPT
    goes_on.set()
    assert await refused(put) is ErrorCode.ATTEMPT_OVER
    await until(lambda: not bundles(builder))


async def test_only_bundles_of_wanted_attempts_outlast_a_connection(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    wanted, other = builder.new_id(), builder.new_id()
    bundle = guest.bundle()
    for attempt_id in (wanted, other):
        await guest.put(attempt_id, bundle)
    await guest.wanted(wanted)
    await until(lambda: bundles(builder) == [wanted])
    await guest.ask(wanted, bundle.sha256)
    assert (await guest.end(wanted)).state is AttemptState.COMPLETED


async def test_a_bundle_is_refused_when_the_disk_is_full(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.host._inbox, "_free", lambda _folder: inbox.DISK_RESERVE - 1)
    attempt_id = builder.new_id()
    assert await refused(guest.put(attempt_id, guest.bundle())) is ErrorCode.NO_SPACE
