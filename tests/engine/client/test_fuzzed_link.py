"""A link whose builder says anything: what was asked for ends as defined, and nothing is left."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
import tempfile

import aiohttp
from hypothesis import given, strategies as st

from custom_components.esphome_offload.engine.build.model import BuildRequest
from custom_components.esphome_offload.engine.client.attempt_progress import (
    AttemptProgress,
    failure_of,
)
from custom_components.esphome_offload.engine.client.dial import Caller
from custom_components.esphome_offload.engine.client.link import LinkState, PeerLink
from custom_components.esphome_offload.engine.codec import Json, encode
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.calls import CommandRefused
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import (
    BUILD_EVENTS,
    LINK_EVENTS,
    AttemptEvent,
    Fetch,
    SendBundle,
    Submit,
)
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import (
    BuildParameters,
    FirmwareHeader,
)

from ..fuzzing import JSON, mangled, messages, no_errors_logged, no_tasks_left, share
from ..jobs.fakes import VirtualTime
from ..protocol.ends import BUILDER, OFFLOADER, TO_BUILDER, memory_link
from .remote import Sink

ATTEMPT = "0123456789abcdef0123456789abcdef"
DIGEST = "0" * 64
PARAMETERS = BuildParameters(ATTEMPT, ATTEMPT, "lamp.yaml", "lamp", "2026.10.0", "UTC")
EVENTS = (*BUILD_EVENTS, *LINK_EVENTS, FirmwareHeader)

events = st.one_of(
    st.sampled_from(EVENTS).flatmap(messages).map(encode).map(lambda said: said | (
        {"attempt_id": ATTEMPT} if "attempt_id" in said else {})),
    st.sampled_from(EVENTS).flatmap(mangled),
    JSON,
)  # fmt: skip
# 1 and 2 are what the link asks by itself, 3 to 8 what the test asks.
ids = st.integers(1, 8)
refusals = st.fixed_dictionaries({"code": st.sampled_from(ErrorCode), "message": st.text()})
said = st.one_of(
    st.fixed_dictionaries({"id": ids, "type": st.just("event"), "event": events}),
    st.fixed_dictionaries({"id": ids, "type": st.just("result"), "success": st.just(True)},
                          optional={"result": events}),
    st.fixed_dictionaries({"id": ids, "type": st.just("result"), "success": st.just(False)},
                          optional={"error": refusals | JSON}),
)  # fmt: skip


@share(60)
@given(st.booleans(), st.lists(said, max_size=20))
async def test_a_link_survives_whatever_a_builder_says(welcome: bool, script: list[Json]) -> None:
    with tempfile.TemporaryDirectory() as folder, no_errors_logged():
        async with no_tasks_left(), aiohttp.ClientSession() as http, memory_link() as ends:
            link = PeerLink(
                url="http://nowhere",
                caller=Caller(OFFLOADER, TO_BUILDER),
                peer_key=BUILDER.public,
                label="builder",
                session=http,
                wanted=lambda: (),
                time=VirtualTime(),
            )
            staying = asyncio.create_task(link._stay(ends.offloader))
            builder = ends.builder.channel
            reading = asyncio.create_task(_read(builder))
            if welcome:
                for command_id in (1, 2):
                    await builder.send({"id": command_id, "type": "result", "success": True})
                while link._session is None:  # noqa: ASYNC110 - nothing is told of that
                    await asyncio.sleep(0)
            sink = Sink()
            asked = [asyncio.create_task(each) for each in _ask(link, Path(folder), sink)]
            await asyncio.sleep(0)
            with suppress(ChannelClosed):
                for message in script:
                    await builder.send(message)
                    await asyncio.sleep(0)
            for _ in range(30):
                await asyncio.sleep(0)
            await ends.sockets[1].close()
            (why,) = await asyncio.gather(staying, return_exceptions=True)
            assert isinstance(why, Exception)
            assert link._note_failure(why) > 0
            assert link._session is None
            assert link.state is not LinkState.CONNECTED
            for each in await asyncio.gather(*asked, return_exceptions=True):
                _check_end(each)
            await link.stop()
            await reading
        assert {path.name for path in Path(folder).iterdir()} <= {"source"}
        assert len(sink.output) <= sum(_lines_in(each) for each in script)


async def _read(channel: object) -> None:
    with suppress(ChannelClosed):
        while True:
            await channel.receive()  # type: ignore[attr-defined]


def _ask(link: PeerLink, folder: Path, sink: Sink) -> list[Coroutine[None, None, object]]:
    source = folder / "source"
    source.write_bytes(b"bundle")

    def accept(raw: object) -> IncomingFile:
        header = parse(FirmwareHeader, raw)
        return IncomingFile(folder / "firmware", header.size, header.sha256)

    return [
        link.submit(Submit(PARAMETERS, DIGEST)),
        link.send_bundle(SendBundle(ATTEMPT, DIGEST, len(b"bundle")), source),
        link.follow(ATTEMPT, 0, AttemptProgress(sink, "builder").accept),
        link.cancel(ATTEMPT),
        link.fetch(Fetch(ATTEMPT), accept),
        link.clean("lamp.yaml"),
    ]


def _check_end(end: object) -> None:
    """Fail when a command ended in another way than it says."""
    if isinstance(end, AttemptEvent):
        request = BuildRequest(
            job_id=ATTEMPT,
            attempt_id=ATTEMPT,
            configuration="lamp.yaml",
            config_dir=Path("nowhere"),
            device_name="lamp",
            esphome_version="2026.10.0",
            time_zone="UTC",
        )
        failure = failure_of(request, "builder", end)
        assert failure is None or str(failure.reason)
    else:
        assert end is None or isinstance(end, (ChannelClosed, CommandRefused, ProtocolError)), end


def _lines_in(message: Json) -> int:
    """Return how many lines a message may lead to: its own, and that some were left out."""
    event = message.get("event")
    lines = event.get("lines") if isinstance(event, dict) else None
    return len(lines) + 1 if isinstance(lines, list) else 0
