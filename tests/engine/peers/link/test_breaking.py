"""What breaks while another instance builds, and what becomes of the build."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildDetached,
    BuildError,
    BuildRequest,
)
from custom_components.esphome_offload.engine.client import (
    link as link_module,
    peer_builder as peer_module,
)
from custom_components.esphome_offload.engine.const import FailureReason, Stage

from ...jobs.fakes import Block
from ..host.lender import printing, then, until
from ..stand import Stand, Wire
from .pi import Pi, Sink

type Build = asyncio.Task[object]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "_RETRY_PAUSE", 0.01)


async def _compiling(pi: Pi, stand: Stand, sink: Sink, *acts: object, **changes: object) -> Build:
    """Begin a build that does these acts; return when the first line of it is here."""
    stand.lender.script = [then(printing("first"), *acts)]  # type: ignore[arg-type]
    build: Build = asyncio.create_task(pi.build(sink, **changes))  # type: ignore[arg-type]
    await sink.until(lambda: "first" in sink.output)
    return build


async def _fails(build: Build) -> BuildError:
    with pytest.raises(BuildError) as failure:
        await build
    return failure.value


async def test_a_build_goes_on_while_the_wire_is_cut_and_no_line_is_lost_or_doubled(
    connected: Pi, stand: Stand, wire: Wire
) -> None:
    sink, away, end = Sink(), Block(), Block()
    build = await _compiling(
        connected, stand, sink, printing("second"), away, printing("third"), end, printing("last")
    )
    await sink.until(lambda: "second" in sink.output)
    await wire.cut()
    away.release.set()  # it prints while nobody hears it
    await connected.until(lambda: not connected.link.connected)
    await wire.mend()
    await sink.until(lambda: "third" in sink.output)
    end.release.set()
    await build
    assert sink.built == ["first", "second", "third", "last"]
    assert len(stand.lender.builds) == 1
    assert stand.commands["attach"] == 2


async def test_it_ends_while_the_wire_is_cut(connected: Pi, stand: Stand, wire: Wire) -> None:
    sink, end = Sink(), Block()
    build = await _compiling(connected, stand, sink, end, printing("last"))
    await wire.cut()
    end.release.set()
    await until(lambda: not stand.lender.host.active())
    await wire.mend()
    await build
    assert sink.built == ["first", "last"]
    assert len(stand.lender.builds) == 1


async def test_a_wire_that_stays_cut_ends_the_wait(pi: Pi, stand: Stand, wire: Wire) -> None:
    pi.make(patience=0.1)
    await pi.connect()
    build = await _compiling(pi, stand, Sink(), Block())
    await wire.cut()
    failure = await _fails(build)
    assert failure.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert "workshop cannot be worked with" in str(failure)
    # Nobody could say so yet; at the next connect it is not wanted any more.
    assert len(stand.lender.host.active()) == 1
    await wire.mend()
    await until(lambda: not stand.lender.host.active())


async def test_a_wire_that_is_cut_again_and_again_wears_out_no_patience(
    pi: Pi, stand: Stand, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FIRST_PAUSE", 0.02)
    # So long that a slow machine does not use it up while it connects again.
    pi.make(patience=4)
    await pi.connect()
    sink, blocks = Sink(), [Block(), Block()]
    build = await _compiling(
        pi, stand, sink, *(act for block in blocks for act in (block, printing("more")))
    )
    for number, block in enumerate(blocks, 1):
        await wire.cut()
        await asyncio.sleep(2.1)  # twice that is more than its patience
        await wire.mend()
        block.release.set()
        await sink.until(lambda number=number: sink.output.count("more") == number)  # type: ignore[misc]
    await build
    assert sink.built == ["first", "more", "more"]


async def test_a_builder_that_was_restarted_has_lost_the_build(connected: Pi, stand: Stand) -> None:
    build = await _compiling(connected, stand, Sink(), Block())
    await stand.restart()
    failure = await _fails(build)
    assert failure.failure_reason is FailureReason.BUILD_LOST
    # Another attempt builds it, and the bundle is there already.
    await connected.build()
    assert stand.requests["put"] == 1


async def test_the_answer_to_a_submit_is_lost_and_it_is_built_once(
    connected: Pi, stand: Stand, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connected.build()  # so that the header is enough
    submit = stand.lender.host.submit
    cut: list[int] = []

    async def submit_and_cut(*arguments: object) -> None:
        await submit(*arguments)  # type: ignore[arg-type]
        if not cut:
            cut.append(1)
            await wire.blink()

    monkeypatch.setattr(stand.lender.host, "submit", submit_and_cut)
    await connected.build()
    assert stand.commands["submit"] >= 4
    assert len(stand.lender.builds) == 2


async def test_the_firmware_is_cut_off_and_fetched_again(
    connected: Pi, stand: Stand, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.bundles.files["lamp.yaml"] = b"x" * 3_000_000
    cut: list[int] = []

    async def cut_off(batches: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for batch in batches:
            yield batch
            if not cut:
                cut.append(1)
                await wire.blink()

    monkeypatch.setattr(stand, "altered", cut_off)
    firmware = await connected.build()
    assert firmware.ota.stat().st_size == 3_000_000 + len(b"firmware of ")
    assert stand.requests["get"] == 2
    assert not list(connected.layout.staging.glob("*.bin*"))


async def test_a_bundle_is_cut_off_and_sent_again(
    connected: Pi, stand: Stand, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.bundles.files["font.ttf"] = bytes(range(256)) * 4000
    receive = stand.lender.host.receive
    cut: list[int] = []

    async def cut_off(*arguments: object) -> None:
        if not cut:
            cut.append(1)
            await wire.blink()
        await receive(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stand.lender.host, "receive", cut_off)
    await connected.build()
    assert stand.requests["put"] == 2


@pytest.mark.parametrize("stage", ["waiting", "compiling", "fetching"])
async def test_what_is_cancelled_ends_over_there(
    connected: Pi, stand: Stand, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    sink, block = Sink(), Block()
    held = stand.lender.slots.take("own") if stage == "waiting" else None
    if stage == "compiling":
        stand.lender.script = [block]
    if stage == "fetching":

        async def never(batches: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
            await block(None, sink)
            yield await anext(batches)

        monkeypatch.setattr(stand, "altered", never)
    build = asyncio.create_task(connected.build(sink))
    wanted = {"compiling": Stage.COMPILING, "fetching": Stage.FETCHING}.get(stage)
    await sink.until(lambda: bool(sink.places) if wanted is None else wanted in sink.stages)
    if stage != "waiting":
        await block.entered.wait()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not stand.lender.host.active()
    assert stage != "compiling" or block.cancelled
    if held is not None:
        held.release()


async def test_cancelled_before_the_answer_to_the_submit_it_ends_all_the_same(
    connected: Pi, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connected.build()
    submit, entered, release = stand.lender.host.submit, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: object) -> None:
        entered.set()
        await release.wait()
        await submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stand.lender.host, "submit", slow)
    stand.lender.script = [Block()]
    build = asyncio.create_task(connected.build())
    await entered.wait()
    build.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not stand.lender.host.active()


async def test_cancelled_while_the_wire_is_cut_it_ends_at_the_next_connect(
    connected: Pi, stand: Stand, wire: Wire
) -> None:
    block = Block()
    build = await _compiling(connected, stand, Sink(), block)
    await wire.cut()
    await connected.until(lambda: not connected.link.connected)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not block.cancelled
    await wire.mend()
    await until(lambda: block.cancelled)


async def test_home_assistant_stops_here_and_the_build_goes_on_there(
    connected: Pi, stand: Stand
) -> None:
    sink, end = Sink(), Block()
    request = connected.request()
    connected.wanted.add(request.attempt_id)
    stand.lender.script = [then(printing("first"), end, printing("last"))]
    build = asyncio.create_task(connected.builder.build(request, sink))
    await sink.until(lambda: "first" in sink.output)
    connected.builder.leave()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await connected.link.stop()
    assert not end.cancelled

    connected.make()
    await connected.connect()
    again = Sink()
    resumed = asyncio.create_task(
        connected.build(again, **_fields(request), resume=True)  # type: ignore[arg-type]
    )
    await again.until(lambda: "first" in again.output)
    end.release.set()
    firmware = await resumed
    assert again.built == ["first", "last"]
    assert firmware.ota.read_bytes().startswith(b"firmware of ")
    assert (len(stand.lender.builds), connected.bundles.made) == (1, 1)


async def test_a_link_that_is_stopped_leaves_the_build_going_on_there(
    connected: Pi, stand: Stand
) -> None:
    request, end = connected.request(), Block()
    build = await _compiling(connected, stand, Sink(), end, **_fields(request))
    await connected.link.stop()
    with pytest.raises(BuildDetached, match="the connection to workshop was closed"):
        await build

    connected.wanted.add(request.attempt_id)
    connected.make()
    await connected.connect()
    assert not end.cancelled
    end.release.set()
    await connected.build(**_fields(request), resume=True)  # type: ignore[arg-type]
    assert len(stand.lender.builds) == 1


async def test_forgetting_a_tree_fails_when_the_link_is_stopped(connected: Pi) -> None:
    await connected.link.stop()
    with pytest.raises(BuildError) as failure:
        await connected.builder.clean("lamp.yaml")
    assert failure.value.failure_reason is FailureReason.BUILDER_UNAVAILABLE


async def test_what_is_resumed_but_unknown_there_is_lost(connected: Pi) -> None:
    with pytest.raises(BuildError) as failure:
        await connected.build(resume=True)
    assert failure.value.failure_reason is FailureReason.BUILD_LOST


async def test_what_nobody_wants_any_more_is_ended_after_a_restart(
    connected: Pi, stand: Stand
) -> None:
    block = Block()
    build = await _compiling(connected, stand, Sink(), block)
    connected.builder.leave()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await connected.link.stop()
    connected.wanted.clear()
    connected.make()
    await connected.connect()
    assert block.cancelled


async def test_a_full_disk_there_is_told(
    connected: Pi, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand.lender.host._inbox, "_free", lambda _folder: 0)
    with pytest.raises(BuildError, match="workshop has too little free disk") as failure:
        await connected.build()
    assert failure.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT


async def test_a_bundle_that_is_altered_here_while_it_is_sent_is_made_anew(
    connected: Pi, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = connected.bundles.make

    async def damaged(request: BuildRequest, lines: object) -> object:
        bundle = await make(request, lines)  # type: ignore[arg-type]
        bundle.path.write_bytes(bytes(bundle.size))
        return bundle

    monkeypatch.setattr(connected.bundles, "make", damaged)
    with pytest.raises(BuildError) as failure:
        await connected.build()
    assert failure.value.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    assert connected.bundles.doubted == ["lamp.yaml"]


async def test_a_defect_in_one_build_leaves_the_others_alone(connected: Pi, stand: Stand) -> None:
    class Broken(Sink):
        def lines(self, lines: object) -> None:
            raise ZeroDivisionError

    stand.lender.slots.set_count(2)
    sink, end = Sink(), Block()
    good = await _compiling(connected, stand, sink, end, configuration="a.yaml", device_name="a")
    stand.lender.script = [printing("x")]
    with pytest.raises(ZeroDivisionError):
        await connected.build(Broken(), configuration="b.yaml", device_name="b")
    assert connected.link.connected
    end.release.set()
    await good
    assert stand.commands["hello"] == 1


def _fields(request: BuildRequest) -> dict[str, object]:
    return {"job_id": request.job_id, "attempt_id": request.attempt_id}
