"""The harness that each test of jobs lives in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .queue_harness import QueueHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[QueueHarness]:
    """A started queue with one local builder and devices that are there."""
    harness = QueueHarness(tmp_path)
    await harness.queue.start()
    yield harness
    await harness.queue.stop()
