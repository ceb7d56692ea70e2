"""A builder with a window, and what can go wrong on the way to it."""

from collections.abc import Awaitable, Callable

import pytest

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.pairing import (
    Paired,
    PairingError,
    PairingFailure,
    PairingWindow,
)

from .conftest import Clock


class Builder:
    """A builder's window and what its owner hears."""

    def __init__(self, identity: Identity, offer: Offer, clock: Clock) -> None:
        self.paired: list[Paired] = []
        self.changes = 0
        self.window = PairingWindow(
            identity,
            offer,
            lambda: "workshop",
            on_paired=self.paired.append,
            on_change=self._changed,
            clock=clock,
        )

    def _changed(self) -> None:
        self.changes += 1


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 10**8:08d}"


async def failure(pairing: Awaitable[Paired]) -> PairingFailure:
    with pytest.raises(PairingError) as caught:
        await pairing
    return caught.value.failure


def stopped_before(
    message: str, post: Callable[[Json], Awaitable[Json]]
) -> Callable[[Json], Awaitable[Json]]:
    """A post that breaks off before a message of this type."""

    async def stopping(raw: Json) -> Json:
        if raw["type"] == message:
            raise ConnectionError
        return await post(raw)

    return stopping
