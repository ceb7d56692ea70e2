"""Real sockets on this machine for every test here."""

import pytest


@pytest.fixture(autouse=True)
def _sockets(socket_enabled: None) -> None:
    """Let aiohttp listen and connect on the loopback interface."""
