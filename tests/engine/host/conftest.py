"""A builder, and a guest of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.clock import Time

from .builder import BuilderMachine, GuestCalls


@pytest.fixture
def time() -> Time | None:
    """The clock of the builder; None for one that the test moves."""
    return None


@pytest.fixture
async def builder(tmp_path: Path, time: Time | None) -> AsyncIterator[BuilderMachine]:
    """A builder that is lent, with one slot."""
    builder = BuilderMachine(tmp_path, time)
    await builder.start()
    yield builder
    await builder.stop()


@pytest.fixture
async def url(builder: BuilderMachine, socket_enabled: None) -> AsyncIterator[str]:
    """Where it serves strangers and guests."""
    async with builder.serving() as url:
        yield url


@pytest.fixture
async def guest(builder: BuilderMachine) -> GuestCalls:
    """A paired offloader."""
    return await builder.pair("guest")
