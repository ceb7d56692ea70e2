"""One device that Home Assistant has, and what answers in the network."""

import pytest

from .core_devices import Devices, Network


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def devices() -> Devices:
    return Devices()
