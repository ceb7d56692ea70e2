"""Firmware that is not what was asked for is never kept; what else a builder could send."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
import hashlib
from pathlib import Path
import time

import pytest

from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import BuildError, Firmware
from custom_components.esphome_offload.engine.client.attempt_progress import AttemptProgress
from custom_components.esphome_offload.engine.client.follow_attempt import follow_attempt
from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.const import FailureReason, Stage
from custom_components.esphome_offload.engine.host.firmware_file import FirmwareFile
from custom_components.esphome_offload.engine.protocol.calls import Call
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.limits import (
    BATCH_CHARACTERS,
    LINES_PER_BATCH,
)
from custom_components.esphome_offload.engine.protocol.messages import (
    Attach,
    AttemptEvent,
    AttemptState,
    Fetch,
    LinesEvent,
)
from custom_components.esphome_offload.engine.protocol.payloads import FirmwareHeader

from ..host.builder import printing, until
from .remote import Offloader, RemoteBuilder, Sink


async def _fails_with_integrity(ready: Offloader) -> BuildError:
    with pytest.raises(BuildError) as failure:
        await ready.build()
    assert failure.value.failure_reason is FailureReason.INTEGRITY
    assert "not used" in str(failure.value)
    assert await ready.store.latest("lamp.yaml") is None
    assert not list(ready.layout.staging.glob("*.bin*"))
    return failure.value


@pytest.mark.parametrize(
    "change",
    [
        lambda header: replace(header, attempt_id="0" * 32),
        lambda header: replace(header, bundle_sha256="0" * 64),
        lambda header: replace(
            header, build_info=replace(header.build_info, esphome_version="2026.9.0")
        ),
        lambda header: replace(header, sha256="0" * 64),
        lambda header: replace(header, size=header.size - 1),
    ],
    ids=["attempt", "bundle", "version", "digest", "size"],
)
async def test_firmware_of_another_build_is_not_kept(
    ready: Offloader,
    remote: RemoteBuilder,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[FirmwareHeader], FirmwareHeader],
) -> None:
    firmware = remote.host.firmware

    async def other(pin_sha256: str, command: Fetch) -> FirmwareFile:
        file = await firmware(pin_sha256, command)
        return replace(file, header=change(file.header))

    async def send_file(call: Call, header: FirmwareHeader, path: Path, _size: int) -> None:
        with call._bodies.outgoing(call._id) as body:
            await call.event(header)
            await body.read(path, path.stat().st_size)

    monkeypatch.setattr(remote.host, "firmware", other)
    monkeypatch.setattr(Call, "send_file", send_file)
    await _fails_with_integrity(ready)
    await until(lambda: not remote.host._attempts.all())


async def test_firmware_that_changes_while_it_is_kept_is_not_used(
    ready: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = FirmwareStore.keep

    async def altered(
        store: FirmwareStore, configuration: str, device_name: str, result: BuildResult
    ) -> Firmware:
        if store is ready.store:
            result.ota.write_bytes(b"evil")
        return await keep(store, configuration, device_name, result)

    monkeypatch.setattr(FirmwareStore, "keep", altered)
    with pytest.raises(BuildError) as failure:
        await ready.build()
    assert failure.value.failure_reason is FailureReason.INTEGRITY
    # It is kept under its own digest only, which nobody has asked for.
    latest = await ready.store.latest("lamp.yaml")
    assert latest is None or latest.sha256 == hashlib.sha256(b"evil").hexdigest()


async def test_events_of_another_attempt_are_ignored() -> None:
    """The builder sends them on the subscription of this one."""
    other, own = "1" * 32, "2" * 32
    sent = (
        AttemptEvent(other, AttemptState.COMPLETED),
        LinesEvent(other, 0, ("of another build",)),
        LinesEvent(own, 0, ("of this build",)),
        AttemptEvent(own, AttemptState.CANCELLED),
        LinesEvent(own, 1, ("after the end",)),
    )

    class Scripted:
        async def subscribe(
            self, command: Attach, listener: Callable[[object], None]
        ) -> Callable[[], None]:
            for event in sent:
                listener(encode(event))
            return lambda: None

        async def wait_lost(self) -> str:
            await asyncio.Event().wait()
            return ""

    sink = Sink()
    progress = AttemptProgress(sink, "attic")
    end = await follow_attempt(Scripted(), own, 0, progress.accept)  # type: ignore[arg-type]
    assert end.state is AttemptState.CANCELLED
    assert sink.output == ["of this build"]


async def test_lines_are_cleaned_and_keep_their_spaces(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.script = [printing("    ^~~~\x1b[31m \u202eevil\n== Done\r", "\tindented")]
    sink = Sink()
    await ready.build(sink)
    assert sink.output == ["    ^~~~ [31m  evil == Done", " indented"]


def test_more_characters_than_a_batch_has_are_refused() -> None:
    progress = AttemptProgress(Sink(), "attic")
    lines = ("x" * 4000,) * 20
    with pytest.raises(ProtocolError) as refusal:
        progress.accept(LinesEvent("0" * 32, 0, lines))
    assert refusal.value.code is ErrorCode.TOO_LARGE


def test_the_worst_batch_of_lines_does_not_stall() -> None:
    progress = AttemptProgress(Sink(), "attic")
    line = "\u202e" * (BATCH_CHARACTERS // LINES_PER_BATCH)
    event = LinesEvent("0" * 32, 0, (line,) * LINES_PER_BATCH)
    start = time.thread_time()
    progress.accept(event)
    assert time.thread_time() - start < 0.02


async def test_a_state_enters_its_stage() -> None:
    sink = Sink()
    AttemptProgress(sink, "attic").accept(AttemptEvent("0" * 32, AttemptState.COMPILING))
    assert sink.stages == [Stage.COMPILING]
