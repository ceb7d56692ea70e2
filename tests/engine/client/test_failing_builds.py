"""Builds on another instance that are refused or fail, over a real connection."""

import asyncio
from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
)
from custom_components.esphome_offload.engine.client import peer_builder
from custom_components.esphome_offload.engine.const import FailureReason, Stage
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.calls import Call
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..jobs.fakes import Block, failing
from .remote import Offloader, RemoteBuilder, Sink


async def _fails(ready: Offloader, **changes: object) -> BuildError:
    with pytest.raises(BuildError) as failure:
        await ready.build(**changes)
    return failure.value


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
