"""Finding out who is at an address."""

import asyncio
from collections.abc import Sequence

import aiohttp

from ..protocol.hello import Hello
from .dial import Caller, DialError, DialFailure, dial


async def find(
    session: aiohttp.ClientSession, urls: Sequence[str], caller: Caller
) -> tuple[str, Hello]:
    """Return the first of these base URLs where a builder is, and its hello.

    Nothing of the answer is proven. All are asked at once, since a host that drops what it does
    not know lets each of them wait. Raises DialError with the most telling failure.
    """
    tasks = [asyncio.create_task(_look(session, url, caller)) for url in urls]
    worst: DialError | None = None
    try:
        for task in tasks:
            try:
                return await task
            except DialError as err:
                if worst is None or _telling(err) > _telling(worst):
                    worst = err
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert worst is not None  # noqa: S101 - there is always one address
    raise worst


async def _look(session: aiohttp.ClientSession, url: str, caller: Caller) -> tuple[str, Hello]:
    try:
        return url, await _hello(session, url, caller)
    except DialError as err:
        if err.https is None:
            raise
        # A reverse proxy that wants https; the redirect's path is of no interest.
        return err.https, await _hello(session, err.https, caller)


async def _hello(session: aiohttp.ClientSession, url: str, caller: Caller) -> Hello:
    async with dial(session, url, caller) as answered:
        return answered.hello


def _telling(err: DialError) -> int:
    return list(DialFailure).index(err.failure)
