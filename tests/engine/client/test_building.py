"""A build on another instance, over a real connection."""

import asyncio
from dataclasses import replace
import errno
import os
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildRequest,
    BuildSink,
    Node,
)
from custom_components.esphome_offload.engine.client.attempt_progress import AttemptProgress
from custom_components.esphome_offload.engine.const import FailureReason, Source, Stage
from custom_components.esphome_offload.engine.host.firmware_file import FirmwareFile
from custom_components.esphome_offload.engine.protocol.messages import Fetch, LinesEvent
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..host.builder import printing, then, until
from ..jobs.fakes import Block
from .remote import Offloader, RemoteBuilder, Sink


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


async def test_firmware_that_was_altered_here_is_fetched_again(ready: Offloader) -> None:
    first = await ready.build()
    first.ota.write_bytes(b"altered")
    second = await ready.build()
    assert second.ota.read_bytes() == b"firmware of esphome:\n  name: lamp\n"


async def test_firmware_that_cannot_be_kept_again_is_the_fault_of_this_machine(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready.build()

    async def validated(_configuration: str, _sha256: str) -> dict[str, Path]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(ready.bundles, "validated", validated)
    with pytest.raises(BuildError) as caught:
        await ready.build()
    assert caught.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert caught.value.reason == Reason(
        ReasonKey.FIRMWARE_NOT_KEPT, {"device": "lamp"}, "Input/output error"
    )


async def test_firmware_is_kept_although_its_copy_cannot_be_removed(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refuse_staged(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent == ready.layout.staging:
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse_staged)
    assert (await ready.build()).device_name == "lamp"


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


async def test_a_tree_is_not_forgotten_while_the_disk_here_cannot_be_used(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def invalidate(_configuration: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(ready.bundles, "invalidate", invalidate)
    with pytest.raises(BuildError) as caught:
        await ready.builder.clean("lamp.yaml")
    assert caught.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT


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


def test_lines_that_were_left_out_there_are_counted() -> None:
    sink = Sink()
    progress = AttemptProgress(sink, "attic")
    progress.accept(LinesEvent("0" * 32, 3, ("fourth",)))
    progress.accept(LinesEvent("0" * 32, 3, ("fourth", "fifth")))
    progress.accept(LinesEvent("0" * 32, 3, ("fourth",)))
    assert sink.output == ["== 3 lines were left out", "fourth", "fifth"]
