"""A second guest of a builder: the engine's protocol under an identity of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
import hashlib
from pathlib import Path
import tarfile
from tempfile import TemporaryDirectory

import aiohttp

from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.protocol.hello import (
    URL_LINK,
    Hello,
    Introduction,
    Opening,
    open_link,
    read_hello,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.messages import SendBundle, Submit
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import pair
from custom_components.esphome_offload.engine.protocol.payloads import BuildParameters
from custom_components.esphome_offload.engine.protocol.session import Session

from .any_builder import AnyBuilder
from .device import NEW_VERSION

NAME = "second guest"


@asynccontextmanager
async def opening(url: str, identity: Identity) -> AsyncIterator[tuple[Opening, Hello]]:
    """Connect to the link of a builder and read its hello."""
    introduction = Introduction(own_offer("0.1.0"), NAME)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}{URL_LINK}", max_msg_size=0) as socket,
    ):
        hello, raw = await read_hello(socket, introduction.offer)
        yield Opening(socket, raw, identity, introduction), hello


async def pair_with(builder: AnyBuilder, identity: Identity) -> PublicKey:
    """Pair with a builder by the code that it shows; return the builder's key."""
    code = await builder.open_pairing()
    async with opening(builder.url, identity) as (to_builder, hello):
        return (await pair(to_builder, hello, code)).public


@dataclass(frozen=True, slots=True)
class SecondGuest:
    """A guest that is connected."""

    identity: Identity
    session: Session

    async def build(self, project: Path, name: str) -> None:
        """Have the builder compile the configuration ``name``.yaml of a folder."""
        attempt_id = new_id()
        parameters = BuildParameters(
            job_id=new_id(),
            attempt_id=attempt_id,
            configuration=f"{name}.yaml",
            device_name=name,
            esphome_version=NEW_VERSION,
            time_zone="UTC",
        )
        with TemporaryDirectory() as folder:
            bundle = Path(folder, "bundle.tar.gz")
            with tarfile.open(bundle, "w:gz") as archive:
                for path in project.iterdir():
                    archive.add(path, path.name)
            content = bundle.read_bytes()
            sha256, size = hashlib.sha256(content).hexdigest(), len(content)
            await self.session.send_file(SendBundle(attempt_id, sha256, size), bundle, size)
        await self.session.call(Submit(parameters, sha256))


@asynccontextmanager
async def second_guest_of(builder: AnyBuilder) -> AsyncIterator[SecondGuest]:
    """Pair a guest with the builder and connect it; it is no guest afterwards."""
    identity = Identity.generate()
    public = await pair_with(builder, identity)
    try:
        async with opening(builder.url, identity) as (to_builder, _):
            opened = await open_link(to_builder, public)
            session = Session(opened.channel)
            running = asyncio.create_task(session.run())
            try:
                yield SecondGuest(identity, session)
            finally:
                await session.close()
                with suppress(asyncio.CancelledError):
                    await running
    finally:
        await remove_second_guest(builder)


async def remove_second_guest(builder: AnyBuilder) -> None:
    """Remove the second guest at the builder."""
    for guest, label in (await builder.guests()).items():
        if label == NAME:
            await builder.remove_guest(guest)
