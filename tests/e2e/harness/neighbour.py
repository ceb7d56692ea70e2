"""A second guest of a workshop: our own client code under an identity of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from custom_components.esphome_offload.engine.client.connection import Connection
from custom_components.esphome_offload.engine.client.http_client import PeerDoor
from custom_components.esphome_offload.engine.protocol.seal import Channel

from custom_components.esphome_offload.engine.client.dial import connect
from custom_components.esphome_offload.engine.client.probe import pairing
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from .workshop import BuildServices

_NAME = "neighbour"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What it has to do with the workshop: a proven connection, and the way for bodies."""

    channel: Channel
    connection: Connection
    door: PeerDoor


@asynccontextmanager
async def neighbour_of(workshop: BuildServices) -> AsyncIterator[Neighbour]:
    """Pair a neighbour with the workshop by its code and connect it; it is no guest afterwards."""
    identity = Identity.generate()
    offer = own_offer("0.1.0")
    url = workshop.instance.url
    async with aiohttp.ClientSession() as session:
        code = await workshop.open_pairing()
        paired = await pairing(session, url, identity, offer, _NAME).pair(code)
        try:
            channel = Channel(identity, paired.public)
            door = PeerDoor(session, channel, lambda: url)
            connection, _ = await connect(
                session, door, url, channel=channel, offer=offer, label=workshop.name
            )
            try:
                yield Neighbour(channel, connection, door)
            finally:
                await connection.close()
        finally:
            for guest in await workshop.guests():
                if guest["name"] == _NAME:
                    await workshop.remove_guest(guest["id"])
