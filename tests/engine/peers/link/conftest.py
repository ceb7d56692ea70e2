"""A builder at a port, a wire to it, and a paired offloader at the other end."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from custom_components.esphome_offload.engine.host.guests import Guest

from ..stand import Lent, Stand, Wire
from .pi import Pi


@pytest.fixture
async def stand(tmp_path: Path, socket_enabled: None) -> AsyncIterator[Stand]:
    stand = Stand(Lent(tmp_path))
    await stand.start()
    yield stand
    await stand.stop()


@pytest.fixture
async def wire(stand: Stand) -> AsyncIterator[Wire]:
    wire = Wire(stand.port)
    await wire.mend()
    yield wire
    await wire.cut()


@pytest.fixture
async def pi(tmp_path: Path, stand: Stand, wire: Wire) -> AsyncIterator[Pi]:
    """Paired, not connected."""
    async with aiohttp.ClientSession() as session:
        pi = Pi(tmp_path, stand, wire, session)
        lender = stand.lender
        guest = Guest(pi.identity.public, "pi", "user of pi", lender.time.now())
        await lender.guests.add(guest)
        yield pi
        await pi.link.stop()


@pytest.fixture
async def connected(pi: Pi) -> Pi:
    await pi.connect()
    return pi
