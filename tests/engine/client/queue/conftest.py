"""A queue with two peers: attic and shed."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ...jobs.queue_harness import QueueHarness
from ..remote import count_commands
from .peer import Peer


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[QueueHarness]:
    harness = QueueHarness(tmp_path)
    await harness.queue.start()
    yield harness
    await harness.queue.stop()


@pytest.fixture
async def attic(
    harness: QueueHarness,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Peer]:
    peer = Peer(harness, tmp_path / "attic", "attic", http)
    count_commands(peer.remote, monkeypatch)
    await peer.open()
    yield peer
    await peer.close()


@pytest.fixture
async def shed(
    harness: QueueHarness, tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[Peer]:
    peer = Peer(harness, tmp_path / "shed", "shed", http)
    await peer.open()
    yield peer
    await peer.close()
