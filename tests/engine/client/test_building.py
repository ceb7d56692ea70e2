"""A build on another instance, over a real connection."""

import asyncio
from dataclasses import replace
import os

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildRequest,
    BuildSink,
    Elsewhere,
    Node,
)
from custom_components.esphome_offload.engine.client import peer_builder
from custom_components.esphome_offload.engine.client.attempt_progress import AttemptProgress
from custom_components.esphome_offload.engine.const import FailureReason, Image, Source, Stage
from custom_components.esphome_offload.engine.host.firmware_file import FirmwareFile
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.calls import Call
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import Fetch, FetchImage, LinesEvent
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..host.builder import printing, then, until
from ..jobs.fakes import Block, failing
from .remote import Offloader, RemoteBuilder, Sink


async def _fails(ready: Offloader, **changes: object) -> BuildError:
    with pytest.raises(BuildError) as failure:
        await ready.build(**changes)
    return failure.value


async def test_firmware_that_is_built_there_is_kept_here(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    sink = Sink()
    firmware = await ready.build(sink, time_zone="Asia/Tokyo")
    assert firmware.ota.read_bytes() == b"firmware of esphome:\n  name: lamp\n"
    assert firmware.ota.is_relative_to(ready.layout.root)
    assert (firmware.configuration, firmware.device_name) == ("lamp.yaml", "lamp")
    assert await ready.store.load("lamp.yaml", firmware.sha256) == firmware
    (build,) = remote.builds
    assert (build.esphome_version, build.time_zone) == ("2026.10.0", "Asia/Tokyo")
    assert sink.stages == [Stage.PREPARING, Stage.COMPILING, Stage.FETCHING]


async def test_output_progress_and_place_come_here(ready: Offloader, remote: RemoteBuilder) -> None:
    async def at_half(_request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(50.0)

    remote.script = [then(printing("one", "two"), at_half, printing("three"))]
    held = remote.slots.take("own")
    assert held is not None
    sink = Sink()
    build = asyncio.create_task(ready.build(sink))
    await sink.until(lambda: bool(sink.places))
    held.release()
    await build
    assert sink.places[0] == 0
    assert sink.output == ["one", "two", "three"]
    assert 50.0 in sink.percents


async def test_tools_that_are_downloaded_there_are_a_stage_here(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    blocks = [Block(), Block(), Block()]

    async def downloads(request: BuildRequest, sink: BuildSink) -> None:
        sink.stage(Stage.DOWNLOADING)
        for percent, block in zip((25.0, 75.0), blocks, strict=False):
            sink.progress(percent)
            await block(request, sink)
        sink.stage(Stage.COMPILING)
        sink.progress(10.0)
        await blocks[2](request, sink)

    remote.script = [downloads]
    sink = Sink()
    build = asyncio.create_task(ready.build(sink))
    for percent, block in zip((25.0, 75.0, 10.0), blocks, strict=True):
        await sink.until(lambda percent=percent: percent in sink.percents)
        block.release.set()
    await build
    assert sink.stages[-3:] == [Stage.DOWNLOADING, Stage.COMPILING, Stage.FETCHING]
    assert sink.percents.index(75.0) < sink.percents.index(10.0)


async def test_the_builders_own_lines_are_marked_with_its_label(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.script = [printing("== Making the toolchain on this machine", "INFO Compiling")]
    sink = Sink()
    await ready.build(sink)
    assert sink.output == [
        "== attic says: Making the toolchain on this machine",
        "INFO Compiling",
    ]


async def test_nothing_is_sent_or_fetched_that_the_other_side_has(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    first = await ready.build()
    second = await ready.build()
    assert second == first
    assert remote.commands["build/bundle"] == 1
    assert len(remote.builds) == 2


async def test_what_was_validated_for_the_bundle_is_kept_with_the_firmware(
    ready: Offloader,
) -> None:
    for text in ("first", "second"):
        ready.bundles.record = text
        firmware = await ready.build()
        assert firmware.validated["validated.json"].read_text() == text


async def test_what_the_builder_calls_the_node_is_not_what_was_asked_for(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ready.build()).node == Node("lamp")
    sent = remote.host.firmware

    async def of_another(pin_sha256: str, command: Fetch) -> FirmwareFile:
        file = await sent(pin_sha256, command)
        info = replace(file.header.build_info, node_name="desk")
        return replace(file, header=replace(file.header, build_info=info))

    monkeypatch.setattr(remote.host, "firmware", of_another)
    ready.bundles.files["lamp.yaml"] = b"changed"
    assert (await ready.build()).node == Node("desk")


async def test_a_changed_bundle_is_sent(ready: Offloader, remote: RemoteBuilder) -> None:
    first = await ready.build()
    ready.bundles.files["lamp.yaml"] = b"changed"
    second = await ready.build()
    assert remote.commands["build/bundle"] == 2
    assert second.sha256 != first.sha256
    assert second.ota.read_bytes() == b"firmware of changed"


async def test_the_builder_keeps_the_other_files_and_sends_them_when_asked(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols", "firmware.factory.bin": b"all of the flash"}
    built = await ready.build()
    assert built.files.keys() == {Image.OTA}
    assert built.elsewhere == Elsewhere(
        ready.builder.builder_id, (Image.FACTORY, Image.ELF), "lamp.yaml"
    )

    fetched = await ready.builder.fetch_image(built, Image.FACTORY)
    assert fetched.images[Image.FACTORY].read_bytes() == b"all of the flash"
    again = await ready.build()
    assert again.images.keys() == {Image.FACTORY}, "it stays with what was built the same again"
    assert await ready.store.load("lamp.yaml", built.sha256) == again


async def test_the_builder_is_asked_for_a_file_by_the_name_that_it_knows(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    await ready.build()
    await ready.store.rename("lamp.yaml", "desk.yaml")
    renamed = await ready.store.latest("desk.yaml")
    assert renamed is not None
    fetched = await ready.builder.fetch_image(renamed, Image.ELF)
    assert fetched.configuration == "desk.yaml"
    assert fetched.images[Image.ELF].read_bytes() == b"symbols"


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (OSError(28, "No space left on device"), ReasonKey.FIRMWARE_NOT_KEPT),
        (ProtocolError(ErrorCode.NO_SPACE, "full"), ReasonKey.FIRMWARE_NOT_KEPT),
        (ProtocolError(ErrorCode.STALLED, "slow"), ReasonKey.PEER_UNREACHABLE),
        (ProtocolError(ErrorCode.TAMPERED, "another"), ReasonKey.IMAGE_GONE),
    ],
)
async def test_a_file_that_cannot_be_fetched_is_not_said_to_be_gone(
    ready: Offloader,
    remote: RemoteBuilder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    key: ReasonKey,
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()

    async def fetch(_command: object, _accept: object) -> None:
        raise error

    monkeypatch.setattr(ready.link, "fetch", fetch)
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(built, Image.ELF)
    assert failure.value.reason.key is key


async def test_a_file_that_the_builder_does_not_keep_any_more_is_gone(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()
    (image,) = remote.layout.root.rglob("firmware/*/*/images/firmware.elf")
    image.unlink()
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(built, Image.ELF)
    assert failure.value.reason.key is ReasonKey.IMAGE_GONE
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(replace(built, sha256="0" * 64), Image.ELF)
    assert failure.value.reason.key is ReasonKey.IMAGE_GONE


async def test_another_file_than_was_asked_for_is_not_kept(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()
    honest = remote.host.firmware
    before = set(ready.layout.staging.iterdir())

    async def lying(pin_sha256: str, command: Fetch | FetchImage) -> FirmwareFile:
        return await honest(pin_sha256, replace(command, image=Image.ELF))

    monkeypatch.setattr(remote.host, "firmware", lying)
    with pytest.raises(BuildError):
        await ready.builder.fetch_image(built, Image.FACTORY)
    assert built.files.keys() == {Image.OTA}
    assert set(ready.layout.staging.iterdir()) == before


async def test_files_cannot_be_fetched_while_the_builder_is_away(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()
    await ready.link.stop()
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(built, Image.ELF)
    assert failure.value.reason.key is ReasonKey.PEER_UNREACHABLE


async def test_firmware_that_was_altered_here_is_fetched_again(ready: Offloader) -> None:
    first = await ready.build()
    first.ota.write_bytes(b"altered")
    second = await ready.build()
    assert second.ota.read_bytes() == b"firmware of esphome:\n  name: lamp\n"


async def test_the_builder_forgets_firmware_that_is_kept_here(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    await ready.build()
    async with asyncio.timeout(5):
        while remote.commands["build/ack"] == 0:  # noqa: ASYNC110 - it goes over the network
            await asyncio.sleep(0.01)
    await until(lambda: not remote.host._attempts.of(ready.identity.pin_sha256))


async def test_a_large_bundle_goes_through(ready: Offloader, remote: RemoteBuilder) -> None:
    ready.bundles.files["font.ttf"] = os.urandom(8 * 1024 * 1024)
    await ready.build()
    (build,) = remote.builds
    content = (build.config_dir / "font.ttf").read_bytes()
    assert content == ready.bundles.files["font.ttf"]


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
    ready: Offloader, remote: RemoteBuilder, there: FailureReason, here: FailureReason
) -> None:
    remote.script = [failing(there, "Platform not found: hunter2", 1)]
    failure = await _fails(ready)
    assert (failure.failure_reason, failure.exit_code) == (here, 1)
    assert str(failure).endswith("Platform not found")
    assert ready.bundles.invalidated == (
        ["lamp.yaml"] if here is FailureReason.BUNDLE_INCOMPLETE else []
    )


async def test_a_builder_that_accepts_no_builds_is_not_available_and_refuses(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    await remote.host.lend(Lending.DRAINING)
    await ready.until(lambda: not ready.builder.status().available)
    status = ready.builder.status()
    assert (status.why_not, status.reachable) == (Reason(ReasonKey.ACCEPTS_NO_BUILDS), True)
    failure = await _fails(ready)
    assert failure.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert str(failure) == "attic does not accept builds at the moment"


async def test_a_builder_without_a_slot_is_not_available(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = ready.builder._link
    assert link.status is not None
    none = replace(link.status, slots=0)
    assert ready.builder.status().available
    monkeypatch.setattr(link, "status", none)
    assert not ready.builder.status().available


async def test_a_build_that_the_builder_stops_goes_elsewhere(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.script = [Block()]
    sink = Sink()
    build = asyncio.create_task(ready.build(sink))
    await sink.until(lambda: Stage.COMPILING in sink.stages)
    await remote.host.lend(Lending.OFF)
    with pytest.raises(BuildError, match="does not build for others any more") as failure:
        await build
    assert failure.value.failure_reason is FailureReason.BUILDER_UNAVAILABLE


async def test_a_configuration_without_a_bundle_is_not_sent(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    ready.bundles.error = BuildError(
        FailureReason.CONFIG_INVALID, Reason(ReasonKey.CONFIG_REFUSED), 2
    )
    failure = await _fails(ready)
    assert failure is ready.bundles.error
    assert not remote.builds


async def test_the_status_of_the_builder_is_known_here(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    builder = ready.builder
    assert (builder.source, builder.builder_id) == (
        Source.REMOTE,
        remote.identity.pin_sha256,
    )
    status = builder.status()
    assert status.available
    assert (status.slots, status.busy, status.versions) == (1, 0, ("2026.10.0",))
    assert status.disk_mib == 50_000
    remote.script = [block := Block()]
    build = asyncio.create_task(ready.build())
    await ready.until(lambda: builder.status().busy == 1)
    block.release.set()
    await build
    await ready.until(lambda: builder.status().busy == 0)


async def test_a_tree_is_forgotten_there(ready: Offloader, remote: RemoteBuilder) -> None:
    await ready.build()
    await ready.builder.clean("lamp.yaml")
    assert ready.bundles.invalidated == ["lamp.yaml"]
    (room,) = remote.builders.values()
    assert room.cleaned == ["lamp.yaml"]
    await ready.builder.clean("lamp.yaml", tools=True)
    assert room.cleaned == ["lamp.yaml", "lamp.yaml", "tools"]


async def test_several_builds_share_one_connection(ready: Offloader, remote: RemoteBuilder) -> None:
    remote.slots.set_count(3)
    remote.script = [printing("x")] * 3
    sinks = {name: Sink() for name in ("lamp", "fan", "door")}
    built = await asyncio.gather(
        *(
            ready.build(sink, configuration=f"{name}.yaml", device_name=name)
            for name, sink in sinks.items()
        )
    )
    assert [sink.output for sink in sinks.values()] == [["x"]] * 3
    assert [each.device_name for each in built] == list(sinks)
    assert remote.connections == 1


async def test_a_flood_of_output_comes_whole(ready: Offloader, remote: RemoteBuilder) -> None:
    lines = [f"line {number}" for number in range(20_000)]

    async def flood(_request: BuildRequest, sink: BuildSink) -> None:
        for start in range(0, len(lines), 100):
            sink.lines(lines[start : start + 100])
            await asyncio.sleep(0)

    remote.script = [flood]
    sink = Sink()
    await ready.build(sink)
    assert sink.output == lines


async def test_a_tree_that_is_not_cleaned_there_is_reported(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_arguments: object) -> None:
        raise ProtocolError(ErrorCode.BUSY, "it is in use")

    monkeypatch.setattr(remote.host, "clean", busy)
    with pytest.raises(BuildError) as failure:
        await ready.builder.clean("lamp.yaml")
    assert failure.value.failure_reason is FailureReason.BUILDER_UNAVAILABLE


async def test_a_bundle_that_is_too_large_is_not_sent(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_builder, "BUNDLE_LIMIT", 10)
    failure = await _fails(ready)
    assert failure.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    assert not remote.commands["build/submit"]


async def test_a_busy_builder_is_asked_again_until_patience_ends(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = remote.host.submit
    times = 0

    async def busy(*arguments: object) -> None:
        nonlocal times
        times += 1
        if times == 3:
            # The offloader's clock stands still between its tries.
            ready.time.passed += peer_builder.SUBMIT_PATIENCE * late
        if times <= 3:
            raise ProtocolError(ErrorCode.BUSY, "too many builds")
        await submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(remote.host, "submit", busy)
    late = 0
    await ready.build()
    times, late = 0, 1
    failure = await _fails(ready)
    assert failure.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert times == 3


async def test_an_event_that_makes_no_sense_ends_the_build(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nonsense(call: Call, _event: object) -> None:
        await call._send("event", event={"type": "progress", "percent": 101})

    monkeypatch.setattr(Call, "event", nonsense)
    failure = await _fails(ready)
    assert failure.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert ready.link.connected


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProtocolError(ErrorCode.NO_SPACE, "full"), FailureReason.BUILDER_ENVIRONMENT),
        (PermissionError("no"), FailureReason.BUILDER_ENVIRONMENT),
    ],
)
async def test_firmware_that_cannot_be_kept_here_is_reported(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: FailureReason
) -> None:
    async def fails(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(ready.link, "fetch", fails)
    failure = await _fails(ready)
    assert failure.failure_reason is reason


@pytest.mark.parametrize("step", ["fetch", "send_bundle"])
async def test_a_body_that_stalls_is_sent_again(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = getattr(ready.link, step)
    times = 0

    async def stalls_once(*arguments: object) -> object:
        nonlocal times
        times += 1
        if times == 1:
            raise ProtocolError(ErrorCode.STALLED, "no data for too long")
        return await real(*arguments)

    monkeypatch.setattr(ready.link, step, stalls_once)
    await ready.build()
    assert times == 2


def test_lines_that_were_left_out_there_are_counted() -> None:
    sink = Sink()
    progress = AttemptProgress(sink, "attic")
    progress.accept(LinesEvent("0" * 32, 3, ("fourth",)))
    progress.accept(LinesEvent("0" * 32, 3, ("fourth", "fifth")))
    progress.accept(LinesEvent("0" * 32, 3, ("fourth",)))
    assert sink.output == ["== 3 lines were left out", "fourth", "fifth"]
