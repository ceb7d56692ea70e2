"""What the fuzzed tests share: how many examples, what is sent, and what must not be left.

``pytest --hypothesis-profile=fuzz`` runs many more, other ones each time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
import logging
import re
from types import NoneType, UnionType
import typing
from typing import Annotated, override

import aiohttp
from hypothesis import settings, strategies as st
from hypothesis.strategies import SearchStrategy

from custom_components.esphome_offload.engine.codec import (
    Blob,
    Json,
    Keyed,
    Many,
    Number,
    OrElse,
    Text,
    encode,
    schema,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.session import CALLS, Session

KEY = Identity.generate().public.raw
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    # No others can be sent.
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def share(percent: int) -> settings:
    """Return the settings of a test whose examples take long: so many percent of the usual number."""
    return settings(max_examples=max(1, settings.default.max_examples * percent // 100))


# Messages that keep every limit, made from the types of their fields.


def messages(kind: type) -> SearchStrategy[object]:
    """Return instances of a message that the other end accepts."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: _values(hints[name]) for name in schema(kind)})


def _values(hint: object) -> SearchStrategy[object]:
    if typing.get_origin(hint) is Annotated:
        base, rule = typing.get_args(hint)
        return _limited(base, rule)
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        (one,) = (each for each in typing.get_args(hint) if each is not NoneType)
        return st.none() | _values(one)
    if hint is bool:
        return st.booleans()
    assert isinstance(hint, type)
    return st.sampled_from(list(hint)) if issubclass(hint, str) else messages(hint)


def _limited(base: object, rule: object) -> SearchStrategy[object]:
    match rule:
        case Text(limit=limit, pattern=None, free=free):
            allowed = st.characters(codec="utf-8", exclude_categories=() if free else ("C", "Z"))
            return st.text(allowed, max_size=min(limit, 20)) | st.just("x" * limit)
        case Text(limit=limit, pattern=str(pattern)) if pattern.startswith("[0-9a-f]{"):
            return st.binary(min_size=limit // 2, max_size=limit // 2).map(bytes.hex)
        case Text(limit=limit, pattern=str(pattern)):
            printable = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
            fitting = st.from_regex(re.compile(pattern), fullmatch=True, alphabet=printable)
            return fitting.filter(lambda text: len(text) <= limit)
        case Number(low=low, high=high) if base is float:
            return st.floats(low, high)
        case Number(low=low, high=high):
            return st.integers(int(low), int(high))
        case Blob(low=32, high=32):  # a public key, and few bytes are one
            return st.just(KEY)
        case Many(limit=limit):
            return st.lists(_values(typing.get_args(base)[0]), max_size=min(limit, 3)).map(tuple)
        case Keyed(limit=limit):
            key, value = map(_values, typing.get_args(base))
            return st.dictionaries(key, value, max_size=min(limit, 3))
        case OrElse(fallback=fallback):
            return st.sampled_from(list(type(fallback)))
    raise AssertionError(f"no values for {rule}")


@st.composite
def mangled(draw: st.DrawFn, kind: type) -> Json:
    """Return the JSON of a message in which up to two fields are missing or something else."""
    wire = encode(draw(messages(kind)))
    for name in draw(st.lists(st.sampled_from(sorted(wire) or ["type"]), max_size=2)):
        if draw(st.booleans()):
            wire.pop(name, None)
        else:
            wire[name] = draw(JSON)
    return wire


# A wire without a network, which is much quicker.


class MemorySocket:
    """One end of a websocket in memory. ``taken`` counts the messages that were received from it."""

    def __init__(self) -> None:
        self.other: MemorySocket
        self.taken = 0
        self._incoming = asyncio.Queue[aiohttp.WSMessage]()
        self._closed = False

    @classmethod
    def pair(cls) -> tuple[MemorySocket, MemorySocket]:
        """Return both ends."""
        one, other = cls(), cls()
        one.other, other.other = other, one
        return one, other

    async def send_bytes(self, data: bytes) -> None:
        self.put(aiohttp.WSMsgType.BINARY, bytes(data))

    async def send_str(self, data: str) -> None:
        self.put(aiohttp.WSMsgType.TEXT, data)

    def put(self, kind: aiohttp.WSMsgType, data: object) -> None:
        """Send something, whatever it is."""
        if self._closed:
            raise ConnectionResetError("Cannot write to closing transport")
        self.other._incoming.put_nowait(aiohttp.WSMessage(kind, data, None))

    async def receive(self) -> aiohttp.WSMessage:
        if self._closed and self._incoming.empty():
            return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
        self.taken += 1
        return await self._incoming.get()

    def finish(self) -> None:
        """Say that nothing more comes; what is sent to this end is still taken."""
        self.put(aiohttp.WSMsgType.CLOSED, None)

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        for each in (self, self.other):
            if not each._closed:
                each._closed = True
                each._incoming.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None))
        return True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


# What must not happen, and must not be left.


class _Problems(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))


@contextmanager
def no_errors_logged() -> Iterator[None]:
    """Fail when something is logged as an error: what the other end does is none of this one."""
    problems = _Problems()
    logging.getLogger().addHandler(problems)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(problems)
    assert not problems.said, "\n".join(problems.said)


@asynccontextmanager
async def no_tasks_left() -> AsyncIterator[None]:
    """Fail when a task of the context is still there after it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    if left:  # they may have a last step to do
        await asyncio.wait(left, timeout=10)
    left = asyncio.all_tasks() - before
    assert not left


def check_bounded(session: Session) -> None:
    """Fail when a session keeps more than its limits allow."""
    assert len(session._served) <= CALLS


def check_empty(session: Session) -> None:
    """Fail when a session that was closed keeps something."""
    kept: Mapping[str, object] = {
        "results": session._results,
        "listeners": session._listeners,
        "served": session._served,
        "incoming bodies": session._bodies._incoming,
        "outgoing bodies": session._bodies._outgoing,
    }
    assert not {name: each for name, each in kept.items() if each}


@asynccontextmanager
async def work_per_turn(done: Callable[[], int], limit: int) -> AsyncIterator[None]:
    """Fail when more than ``limit`` pieces of work are done before others have their turn."""
    most = 0

    async def watch() -> None:
        nonlocal most
        before = done()
        while True:
            await asyncio.sleep(0)
            most = max(most, done() - before)
            before = done()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert most <= limit, f"{most} at once"
