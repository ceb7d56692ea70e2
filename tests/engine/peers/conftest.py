"""Two instances and a stranger."""

import pytest

from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer, own_offer
from custom_components.esphome_offload.engine.protocol.seal import Channel


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pi() -> Identity:
    """The offloader."""
    return Identity.generate()


@pytest.fixture
def workshop() -> Identity:
    """The builder."""
    return Identity.generate()


@pytest.fixture
def mallory() -> Identity:
    """Somebody in between."""
    return Identity.generate()


@pytest.fixture
def offer() -> Offer:
    return own_offer("0.1.0")


@pytest.fixture
def to_workshop(pi: Identity, workshop: Identity) -> Channel:
    """The channel as the offloader has it."""
    return Channel(pi, workshop.public)


@pytest.fixture
def to_pi(pi: Identity, workshop: Identity) -> Channel:
    """The same channel as the builder has it."""
    return Channel(workshop, pi.public)
