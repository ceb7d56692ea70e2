"""A queue with two peers: attic and shed."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ...jobs.house import House
from ..remote import count_commands
from .peer import Peer


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.queue.start()
    yield house
    await house.queue.stop()


@pytest.fixture
async def attic(
    house: House,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Peer]:
    peer = Peer(house, tmp_path / "attic", "attic", http)
    count_commands(peer.remote, monkeypatch)
    await peer.open()
    yield peer
    await peer.close()


@pytest.fixture
async def shed(house: House, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Peer]:
    peer = Peer(house, tmp_path / "shed", "shed", http)
    await peer.open()
    yield peer
    await peer.close()
