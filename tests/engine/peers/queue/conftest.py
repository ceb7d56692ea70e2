"""A house with two peers: workshop and attic."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from custom_components.esphome_offload.engine.client import peer_builder as peer_module

from ...jobs.house import House
from .peer import Peer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "_RETRY_PAUSE", 0.01)


@pytest.fixture
async def http(socket_enabled: None) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.queue.start()
    yield house
    await house.queue.stop()


@pytest.fixture
async def workshop(
    house: House, tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[Peer]:
    peer = Peer(house, tmp_path / "workshop", "workshop", http)
    await peer.open()
    yield peer
    await peer.close()


@pytest.fixture
async def attic(house: House, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Peer]:
    peer = Peer(house, tmp_path / "attic", "attic", http)
    await peer.open()
    yield peer
    await peer.close()
