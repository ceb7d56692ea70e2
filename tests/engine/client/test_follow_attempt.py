"""An attempt that is followed at a peer whose events make no sense."""

import asyncio
from collections.abc import Callable
import gc
from typing import Any, cast

import pytest

from custom_components.esphome_offload.engine.client.follow_attempt import follow_attempt
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ProtocolError
from custom_components.esphome_offload.engine.protocol.session import Listener, Session

NONSENSE = {"type": "attempt", "attempt_id": 5}


class _Peer:
    """The part of a session that following needs; ``first`` comes before the answer."""

    def __init__(self, first: object, refusal: Exception | None) -> None:
        self._first = first
        self._refusal = refusal

    async def subscribe(self, _command: object, listener: Listener) -> Callable[[], None]:
        listener(self._first)
        if self._refusal is not None:
            raise self._refusal
        return lambda: None

    async def wait_lost(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError


async def _follow(first: object, refusal: Exception | None = None) -> None:
    session = cast("Session", _Peer(first, refusal))
    await follow_attempt(session, "1" * 32, 0, lambda _event: None)


async def test_an_event_that_makes_no_sense_is_the_end() -> None:
    with pytest.raises(ProtocolError):
        await _follow(NONSENSE)


async def test_one_before_a_refusal_leaves_nothing_for_the_log_of_asyncio() -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    try:
        with pytest.raises(ChannelClosed):
            await _follow(NONSENSE, ChannelClosed("gone"))
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not told
