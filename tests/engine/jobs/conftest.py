"""The house that each test of jobs lives in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A started queue with one local builder and devices that are there."""
    house = House(tmp_path)
    await house.queue.start()
    yield house
    await house.queue.stop()
