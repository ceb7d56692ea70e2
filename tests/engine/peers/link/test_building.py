"""A build on another instance, over a real connection."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import BuildError, BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import FailureReason, Source, Stage
from custom_components.esphome_offload.engine.host.admission import Lending

from ...jobs.fakes import Block, failing
from ..host.lender import printing, then
from ..stand import Stand
from .pi import Pi, Sink


async def _fails(pi: Pi, **changes: object) -> BuildError:
    with pytest.raises(BuildError) as failure:
        await pi.build(**changes)
    return failure.value


async def test_what_is_built_there_is_kept_here(connected: Pi, stand: Stand) -> None:
    sink = Sink()
    firmware = await connected.build(sink, esphome_version="2026.10.1", time_zone="Asia/Tokyo")
    assert firmware.ota.read_bytes() == b"firmware of esphome:\n  name: lamp\n"
    assert firmware.ota.is_relative_to(connected.layout.root)
    assert (firmware.configuration, firmware.device_name) == ("lamp.yaml", "lamp")
    assert await connected.store.load("lamp.yaml", firmware.sha256) == firmware
    (build,) = stand.lender.builds
    assert (build.esphome_version, build.time_zone) == ("2026.10.1", "Asia/Tokyo")
    assert sink.stages == [Stage.PREPARING, Stage.COMPILING, Stage.FETCHING]


async def test_output_progress_and_place_come_here(connected: Pi, stand: Stand) -> None:
    async def at_half(_request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(50.0)

    stand.lender.script = [then(printing("one", "two"), at_half, printing("three"))]
    held = stand.lender.slots.take("own")
    assert held is not None
    sink = Sink()
    build = asyncio.create_task(connected.build(sink))
    await sink.until(lambda: bool(sink.places))
    held.release()
    await build
    assert sink.places[0] == 0
    assert sink.output == ["one", "two", "three"]
    assert 50.0 in sink.percents


async def test_what_the_builder_says_of_itself_bears_its_name(connected: Pi, stand: Stand) -> None:
    stand.lender.script = [printing("== Making the toolchain on this machine", "INFO Compiling")]
    sink = Sink()
    await connected.build(sink)
    assert sink.output == [
        "== workshop says: Making the toolchain on this machine",
        "INFO Compiling",
    ]


async def test_nothing_is_sent_or_fetched_that_the_other_side_has(
    connected: Pi, stand: Stand
) -> None:
    first = await connected.build()
    sent, fetched = stand.bundle_bytes, stand.requests["put"]
    second = await connected.build()
    assert second == first
    assert (stand.bundle_bytes, stand.requests["put"]) == (sent, fetched)
    assert len(stand.lender.builds) == 2


async def test_what_changed_is_sent(connected: Pi, stand: Stand) -> None:
    first = await connected.build()
    connected.bundles.files["lamp.yaml"] = b"changed"
    second = await connected.build()
    assert stand.requests["put"] == 2
    assert second.sha256 != first.sha256
    assert second.ota.read_bytes() == b"firmware of changed"


async def test_firmware_that_was_altered_here_is_fetched_again(connected: Pi) -> None:
    first = await connected.build()
    first.ota.write_bytes(b"altered")
    second = await connected.build()
    assert second.ota.read_bytes() == b"firmware of esphome:\n  name: lamp\n"


async def test_one_ticket_is_enough_for_a_build_right_after_connecting(
    connected: Pi, stand: Stand
) -> None:
    await connected.build()
    assert stand.tickets == 1


async def test_the_builder_forgets_what_is_kept_here(connected: Pi, stand: Stand) -> None:
    await connected.build()
    async with asyncio.timeout(5):
        while stand.commands["ack"] == 0:  # noqa: ASYNC110 - it goes over the network
            await asyncio.sleep(0.01)
    guest = stand.lender.guests.all()[0]
    async with asyncio.timeout(5):
        while stand.lender.host._book.of(guest.pin_sha256):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_large_bundle_goes_through(connected: Pi, stand: Stand) -> None:
    import os

    connected.bundles.files["font.ttf"] = os.urandom(8 * 1024 * 1024)
    await connected.build()
    (build,) = stand.lender.builds
    content = (build.config_dir / "font.ttf").read_bytes()
    assert content == connected.bundles.files["font.ttf"]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (FailureReason.COMPILE_FAILED, FailureReason.COMPILE_FAILED),
        (FailureReason.OUT_OF_MEMORY, FailureReason.OUT_OF_MEMORY),
        (FailureReason.VERSION_UNAVAILABLE, FailureReason.VERSION_UNAVAILABLE),
        (FailureReason.BUILDER_ENVIRONMENT, FailureReason.BUILDER_ENVIRONMENT),
        (FailureReason.CONFIG_INVALID, FailureReason.BUNDLE_INCOMPLETE),
        (FailureReason.INTEGRITY, FailureReason.BUILDER_ENVIRONMENT),
        (FailureReason.DEVICE_OFFLINE, FailureReason.BUILDER_ENVIRONMENT),
        (FailureReason.INTERNAL, FailureReason.BUILDER_ENVIRONMENT),
    ],
)
async def test_a_failure_there_becomes_what_it_means_here(
    connected: Pi, stand: Stand, there: FailureReason, here: FailureReason
) -> None:
    stand.lender.script = [failing(there, "lamp.cpp:1:2: error: no", 1)]
    failure = await _fails(connected)
    assert (failure.failure_reason, failure.exit_code) == (here, 1)
    assert "lamp.cpp:1:2: error: no" in str(failure)
    assert connected.bundles.doubted == (
        ["lamp.yaml"] if here is FailureReason.BUNDLE_INCOMPLETE else []
    )


async def test_a_paused_builder_is_not_available_and_refuses(connected: Pi, stand: Stand) -> None:
    await stand.lender.host.lend(Lending.PAUSED)
    await connected.until(lambda: not connected.builder.status().available)
    status = connected.builder.status()
    assert (status.why_not, status.reachable) == ("paused by its owner", True)
    failure = await _fails(connected)
    assert failure.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert "workshop takes no builds now (paused by its owner)" in str(failure)


async def test_a_build_that_the_builder_stops_goes_elsewhere(connected: Pi, stand: Stand) -> None:
    stand.lender.script = [Block()]
    sink = Sink()
    build = asyncio.create_task(connected.build(sink))
    await sink.until(lambda: Stage.COMPILING in sink.stages)
    await stand.lender.host.lend(Lending.OFF)
    with pytest.raises(BuildError, match="not lent any more") as failure:
        await build
    assert failure.value.failure_reason is FailureReason.BUILDER_UNAVAILABLE


async def test_what_makes_no_bundle_is_not_sent(connected: Pi, stand: Stand) -> None:
    connected.bundles.error = BuildError(FailureReason.CONFIG_INVALID, "no", 2)
    failure = await _fails(connected)
    assert failure is connected.bundles.error
    assert not stand.lender.builds


async def test_the_status_of_the_builder_is_known_here(connected: Pi, stand: Stand) -> None:
    builder = connected.builder
    assert (builder.source, builder.builder_id) == (
        Source.REMOTE,
        stand.lender.identity.pin_sha256,
    )
    status = builder.status()
    assert status.available
    assert (status.slots, status.busy, status.versions) == (1, 0, ("2026.10.0",))
    assert status.disk_mib == 50_000
    stand.lender.script = [block := Block()]
    build = asyncio.create_task(connected.build())
    await connected.until(lambda: builder.status().busy == 1)
    block.release.set()
    await build
    await connected.until(lambda: builder.status().busy == 0)


async def test_a_tree_is_forgotten_there(connected: Pi, stand: Stand) -> None:
    await connected.build()
    await connected.builder.clean("lamp.yaml")
    assert connected.bundles.doubted == ["lamp.yaml"]
    (room,) = stand.lender.builders.values()
    assert room.cleaned == ["lamp.yaml"]


async def test_several_builds_share_one_connection(connected: Pi, stand: Stand) -> None:
    stand.lender.slots.set_count(3)
    stand.lender.script = [printing("x")] * 3
    sinks = {name: Sink() for name in ("lamp", "fan", "door")}
    built = await asyncio.gather(
        *(
            connected.build(sink, configuration=f"{name}.yaml", device_name=name)
            for name, sink in sinks.items()
        )
    )
    assert [sink.output for sink in sinks.values()] == [["x"]] * 3
    assert [each.device_name for each in built] == list(sinks)
    assert stand.commands["hello"] == 1


async def test_a_flood_of_output_comes_whole(connected: Pi, stand: Stand) -> None:
    lines = [f"line {number}" for number in range(20_000)]

    async def flood(_request: BuildRequest, sink: BuildSink) -> None:
        for start in range(0, len(lines), 100):
            sink.lines(lines[start : start + 100])
            await asyncio.sleep(0)

    stand.lender.script = [flood]
    sink = Sink()
    await connected.build(sink)
    assert sink.output == lines
