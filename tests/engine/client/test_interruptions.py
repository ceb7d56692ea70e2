"""What interrupts a build on another instance, and what becomes of the build."""

import asyncio
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildDetached,
    BuildError,
    BuildRequest,
)
from custom_components.esphome_offload.engine.client.peer_builder import PATIENCE
from custom_components.esphome_offload.engine.const import FailureReason, Stage
from custom_components.esphome_offload.engine.protocol.calls import Call
from custom_components.esphome_offload.engine.protocol.messages import SendBundle
from custom_components.esphome_offload.engine.reason import ReasonKey

from ..host.builder import printing, then, until
from ..jobs.fakes import Block
from .remote import Offloader, RemoteBuilder, Sink

type Build = asyncio.Task[object]


async def _compiling(
    ready: Offloader, remote: RemoteBuilder, sink: Sink, *acts: object, **changes: object
) -> Build:
    """Start a build that does these acts; return when the first line of it is here."""
    remote.script = [then(printing("first"), *acts)]  # type: ignore[arg-type]
    build: Build = asyncio.create_task(ready.build(sink, **changes))  # type: ignore[arg-type]
    await sink.until(lambda: "first" in sink.output)
    return build


async def _fails(build: Build) -> BuildError:
    with pytest.raises(BuildError) as failure:
        await build
    return failure.value


async def test_a_build_goes_on_without_a_connection_and_no_line_is_lost_or_doubled(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    sink, away, end = Sink(), Block(), Block()
    build = await _compiling(
        ready, remote, sink, printing("second"), away, printing("third"), end, printing("last")
    )
    await sink.until(lambda: "second" in sink.output)
    await ready.cut()
    away.release.set()
    await until(end.entered.is_set)  # it has printed meanwhile
    await ready.mend()
    await sink.until(lambda: "third" in sink.output)
    end.release.set()
    await build
    assert sink.built == ["first", "second", "third", "last"]
    assert len(remote.builds) == 1
    assert remote.commands["build/attach"] == 2


async def test_it_ends_without_a_connection(ready: Offloader, remote: RemoteBuilder) -> None:
    sink, end = Sink(), Block()
    build = await _compiling(ready, remote, sink, end, printing("last"))
    await ready.cut()
    end.release.set()
    await until(lambda: not remote.host.active())
    await ready.mend()
    await build
    assert sink.built == ["first", "last"]
    assert len(remote.builds) == 1


async def test_a_connection_that_stays_lost_ends_the_wait(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    build = await _compiling(ready, remote, Sink(), Block())
    await ready.cut()
    await until(lambda: PATIENCE - 1 in ready.time.next_in)  # after a pause of a second
    await ready.time.go(PATIENCE - 2)
    assert not build.done()
    await ready.time.go(1)
    failure = await _fails(build)
    assert failure.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert "attic" in str(failure)
    # The builder cannot know it yet; at the next connect it is not wanted any more.
    assert len(remote.host.active()) == 1
    await ready.mend()
    await until(lambda: not remote.host.active())


async def test_each_event_of_the_build_starts_the_patience_again(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    sink, blocks = Sink(), [Block(), Block()]
    build = await _compiling(
        ready, remote, sink, *(act for block in blocks for act in (block, printing("more")))
    )
    for number, block in enumerate(blocks, 1):
        await ready.cut()
        await until(lambda: PATIENCE - 1 in ready.time.next_in)
        await ready.time.go(0.7 * PATIENCE)
        await ready.mend()
        block.release.set()
        await sink.until(lambda number=number: sink.output.count("more") == number)  # type: ignore[misc]
    await build
    assert sink.built == ["first", "more", "more"]


async def test_a_builder_that_was_restarted_has_lost_the_build(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    build = await _compiling(ready, remote, Sink(), Block())
    await remote.crash()
    ready.link.wake()
    failure = await _fails(build)
    assert failure.failure_reason is FailureReason.BUILD_LOST
    # Another attempt builds it, and the bundle is there already.
    await ready.build()
    assert remote.commands["build/bundle"] == 1


async def test_the_answer_to_a_submit_is_lost_and_it_is_built_once(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready.build()
    submit = remote.host.submit
    cut: list[asyncio.Task[None]] = []

    async def submit_and_cut(*arguments: object) -> None:
        await submit(*arguments)  # type: ignore[arg-type]
        if not cut:
            cut.append(asyncio.create_task(ready.blink()))
            await asyncio.Event().wait()

    monkeypatch.setattr(remote.host, "submit", submit_and_cut)
    await ready.build()
    await cut[0]
    assert remote.commands["build/submit"] == 4  # two with a bundle, and two
    assert len(remote.builds) == 2


async def test_firmware_that_is_cut_off_is_fetched_again(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.bundles.files["lamp.yaml"] = b"x" * 3_000_000
    send_file = Call.send_file
    cut: list[asyncio.Task[None]] = []

    async def cut_off(call: Call, header: object, path: Path, size: int) -> None:
        if not cut:
            await call.event(header)
            cut.append(asyncio.create_task(ready.blink()))
            await asyncio.Event().wait()
        await send_file(call, header, path, size)

    monkeypatch.setattr(Call, "send_file", cut_off)
    firmware = await ready.build()
    await cut[0]
    assert firmware.ota.stat().st_size == 3_000_000 + len(b"firmware of ")
    assert remote.commands["build/fetch"] == 2
    assert not list(ready.layout.staging.glob("*.bin*"))


async def test_a_bundle_that_is_cut_off_is_sent_again(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.bundles.files["font.ttf"] = bytes(range(256)) * 4000
    receive = remote.host.receive
    cut: list[asyncio.Task[None]] = []

    async def cut_off(*arguments: object) -> None:
        if not cut:
            cut.append(asyncio.create_task(ready.blink()))
            await asyncio.Event().wait()
        await receive(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(remote.host, "receive", cut_off)
    await ready.build()
    await cut[0]
    assert remote.commands["build/bundle"] == 2


@pytest.mark.parametrize(("times", "made"), [(1, 2), (5, 3)])
async def test_a_bundle_that_is_gone_before_it_is_sent_is_made_again_a_few_times(
    ready: Offloader,
    remote: RemoteBuilder,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    made: int,
) -> None:
    """Another device of the configuration, with another version, has one made in its place."""
    send_bundle = ready.link.send_bundle
    removed = 0

    async def gone(command: SendBundle, path: Path) -> None:
        nonlocal removed
        if removed < times:
            removed += 1
            path.unlink()
        await send_bundle(command, path)

    monkeypatch.setattr(ready.link, "send_bundle", gone)
    if times < made:
        await ready.build()
    else:
        with pytest.raises(BuildError) as failure:
            await ready.build()
        assert failure.value.reason.key is ReasonKey.BUNDLE_UNUSABLE
    assert ready.bundles.made == made


@pytest.mark.parametrize("stage", ["waiting", "compiling", "fetching"])
async def test_a_cancelled_build_ends_there(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    sink, block = Sink(), Block()
    held = remote.slots.take("own") if stage == "waiting" else None
    if stage == "compiling":
        remote.script = [block]
    if stage == "fetching":

        async def never(call: Call, header: object, *_file: object) -> None:
            await call.event(header)
            await block(None, sink)  # type: ignore[arg-type]

        monkeypatch.setattr(Call, "send_file", never)
    build = asyncio.create_task(ready.build(sink))
    wanted = {"compiling": Stage.COMPILING, "fetching": Stage.FETCHING}.get(stage)
    await sink.until(lambda: bool(sink.places) if wanted is None else wanted in sink.stages)
    if stage != "waiting":
        await block.entered.wait()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not remote.host.active()
    # What it has built is kept for nobody.
    await until(lambda: not remote.host._attempts.all())
    if stage != "waiting":
        await until(lambda: block.cancelled)
    if held is not None:
        held.release()


async def test_cancelled_before_the_answer_to_the_submit_it_ends_all_the_same(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready.build()
    submit, entered, release = remote.host.submit, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: object) -> None:
        entered.set()
        await release.wait()
        await submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(remote.host, "submit", slow)
    remote.script = [Block()]
    build = asyncio.create_task(ready.build())
    await entered.wait()
    build.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not remote.host.active()


async def test_cancelled_without_a_connection_it_ends_at_the_next_connect(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    block = Block()
    build = await _compiling(ready, remote, Sink(), block)
    await ready.cut()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not block.cancelled
    await ready.mend()
    await until(lambda: block.cancelled)


async def test_a_cancelled_job_waits_four_seconds_for_a_builder_that_does_not_answer(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_arguments: object) -> None:
        await asyncio.Event().wait()

    build = await _compiling(ready, remote, Sink(), Block())
    monkeypatch.setattr(remote.host, "cancel", never)
    build.cancel()
    await until(lambda: remote.commands["build/cancel"] == 1)
    build.cancel()
    await asyncio.sleep(0)
    assert not build.done()
    await ready.time.go(4)
    with pytest.raises(asyncio.CancelledError):
        await build


async def test_home_assistant_stops_here_and_the_build_goes_on_there(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    sink, end = Sink(), Block()
    request = ready.request()
    ready.wanted.add(request.attempt_id)
    remote.script = [then(printing("first"), end, printing("last"))]
    build = asyncio.create_task(ready.builder.build(request, sink))
    await sink.until(lambda: "first" in sink.output)
    ready.builder.leave()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await ready.link.stop()
    assert not end.cancelled

    ready.make()
    await ready.connect()
    again = Sink()
    resumed = asyncio.create_task(
        ready.build(again, **_fields(request), resume=True)  # type: ignore[arg-type]
    )
    await again.until(lambda: "first" in again.output)
    end.release.set()
    firmware = await resumed
    assert again.built == ["first", "last"]
    assert firmware.ota.read_bytes().startswith(b"firmware of ")
    assert (len(remote.builds), ready.bundles.made) == (1, 1)


async def test_a_stopped_link_leaves_the_build_going_on_there(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    request, end = ready.request(), Block()
    build = await _compiling(ready, remote, Sink(), end, **_fields(request))
    await ready.link.stop()
    with pytest.raises(BuildDetached, match="the connection to attic was closed"):
        await build

    ready.wanted.add(request.attempt_id)
    ready.make()
    await ready.connect()
    assert not end.cancelled
    end.release.set()
    await ready.build(**_fields(request), resume=True)  # type: ignore[arg-type]
    assert len(remote.builds) == 1


async def test_cleaning_a_tree_fails_when_the_link_is_stopped(ready: Offloader) -> None:
    await ready.link.stop()
    with pytest.raises(BuildError) as failure:
        await ready.builder.clean("lamp.yaml")
    assert failure.value.failure_reason is FailureReason.BUILDER_UNAVAILABLE


async def test_a_resumed_build_that_is_unknown_there_is_lost(ready: Offloader) -> None:
    with pytest.raises(BuildError) as failure:
        await ready.build(resume=True)
    assert failure.value.failure_reason is FailureReason.BUILD_LOST


async def test_a_build_that_is_not_wanted_after_a_restart_is_ended(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    block = Block()
    build = await _compiling(ready, remote, Sink(), block)
    ready.builder.leave()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await ready.link.stop()
    ready.wanted.clear()
    ready.make()
    await ready.connect()
    assert block.cancelled


async def test_a_full_disk_there_is_reported(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.host._inbox, "_free", lambda _folder: 0)
    with pytest.raises(BuildError, match="attic has too little free disk") as failure:
        await ready.build()
    assert failure.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT


@pytest.mark.parametrize("damage", ["content", "size", "gone"])
async def test_a_bundle_that_is_altered_here_is_made_again(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    make = ready.bundles.make

    async def damaged(request: BuildRequest, lines: object) -> object:
        bundle = await make(request, lines)  # type: ignore[arg-type]
        if damage == "gone":
            bundle.path.unlink()
        else:
            bundle.path.write_bytes(bytes(bundle.size - (damage == "size")))
        return bundle

    monkeypatch.setattr(ready.bundles, "make", damaged)
    with pytest.raises(BuildError) as failure:
        await ready.build()
    assert failure.value.failure_reason is (
        FailureReason.BUILDER_ENVIRONMENT if damage == "gone" else FailureReason.BUNDLE_INCOMPLETE
    )
    assert ready.bundles.invalidated == ["lamp.yaml"]
    assert ready.link.connected


async def test_a_defect_in_one_build_leaves_the_others_alone(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    class Broken(Sink):
        def lines(self, lines: object) -> None:
            raise ZeroDivisionError

    remote.slots.set_count(2)
    sink, end = Sink(), Block()
    good = await _compiling(ready, remote, sink, end, configuration="a.yaml", device_name="a")
    remote.script = [printing("x")]
    with pytest.raises(ZeroDivisionError):
        await ready.build(Broken(), configuration="b.yaml", device_name="b")
    assert ready.link.connected
    end.release.set()
    await good
    assert remote.connections == 1


def _fields(request: BuildRequest) -> dict[str, object]:
    return {"job_id": request.job_id, "attempt_id": request.attempt_id}
