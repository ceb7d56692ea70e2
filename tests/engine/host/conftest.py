"""A builder, and a guest of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .builder import BuilderMachine, GuestCalls


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[BuilderMachine]:
    """A builder that is lent, with one slot."""
    builder = BuilderMachine(tmp_path)
    await builder.start()
    yield builder
    await builder.stop()


@pytest.fixture
async def guest(builder: BuilderMachine) -> GuestCalls:
    """A paired offloader."""
    return await builder.pair("guest")
