"""A machine that lends itself, and a guest of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .lender import Lender, Offloader


@pytest.fixture
async def lender(tmp_path: Path) -> AsyncIterator[Lender]:
    """A builder that lends itself, with one slot."""
    lender = Lender(tmp_path)
    await lender.start()
    yield lender
    await lender.host.stop()


@pytest.fixture
async def pi(lender: Lender) -> Offloader:
    """A paired offloader."""
    return await lender.pair("pi")
