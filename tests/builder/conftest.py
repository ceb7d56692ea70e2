"""A running builder and somebody who may become its guest."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from esphome_offload_builder.settings import Settings
import pytest
import pytest_socket

from .running import Guest, running, settings_of


@pytest.fixture(autouse=True)
def local_sockets(socket_enabled: None) -> None:
    """Allow sockets of this machine, also those with a path."""
    pytest_socket.socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Return the settings of a builder that runs."""
    settings = settings_of(tmp_path)
    async with running(settings):
        yield settings


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def guest(settings: Settings, http: aiohttp.ClientSession) -> Guest:
    return Guest(settings, http)
