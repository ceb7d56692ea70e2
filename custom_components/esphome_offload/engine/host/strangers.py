"""Strangers: connections that are not yet known to be a guest's."""

import asyncio
from collections import Counter, deque
from ipaddress import IPv4Address, ip_address
from typing import Final

from aiohttp import web

LIMIT: Final = 256
"""Strangers at the same time, each of which costs some ten kilobytes."""
_TURNS_AT_ONCE: Final = 4
"""Turns in one round of the event loop; each takes a millisecond or less."""
_PREFIX: Final = 64
"""The leading bits of an IPv6 address that name a network: one machine may have all the rest."""


class Stranger:
    """A connection that is not known to be a guest's. ``waiting``: the next message has to come from its other end."""

    def __init__(self, request: web.Request) -> None:
        self.network = network_of(request.remote)
        self.waiting = False
        self.evicted = False
        self._transport = request.transport

    def evict(self) -> None:
        """Break the connection."""
        self.evicted = True
        if self._transport is not None:
            self._transport.abort()


class Strangers:
    """The strangers, oldest first.

    When there are too many, the network that has the most of them makes room, so that it locks
    out no other. Connections whose other end sends nothing go first.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._all: dict[Stranger, None] = {}

    def admit(self, request: web.Request) -> Stranger | None:
        """Add a connection; None when it has to be refused. Call ``leave`` in the end."""
        newcomer = Stranger(request)
        if len(self._all) >= self._limit and not self._make_room(newcomer):
            return None
        self._all[newcomer] = None
        return newcomer

    def leave(self, stranger: Stranger) -> None:
        """Remove a connection, which is closed, or a guest's."""
        self._all.pop(stranger, None)

    def close(self) -> None:
        """Break all connections."""
        for each in tuple(self._all):
            each.evict()

    def _make_room(self, newcomer: Stranger) -> bool:
        counts = Counter(each.network for each in (*self._all, newcomer))
        crowd, most = counts.most_common(1)[0]
        if counts[newcomer.network] == most:
            crowd = newcomer.network
        # All from different networks: the longest idle one makes room. A guest is never that long.
        of_crowd = [each for each in self._all if most == 1 or each.network == crowd]
        idle = [each for each in of_crowd if each.waiting]
        if not idle and crowd == newcomer.network:
            return False
        going = (idle or of_crowd)[0]
        self.leave(going)
        going.evict()
        return True


class Turns:
    """Makes strangers take turns, first come, first served.

    Without it the event loop would do the work for all who come at once before anything else.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def wait(self) -> None:
        """Return when it is the caller's turn, which lasts until it waits for something."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._schedule()
        await turn

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self) -> None:
        self._scheduled = False
        granted = 0
        while self._waiting and granted < _TURNS_AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled meanwhile
                turn.set_result(None)
                granted += 1
        self._schedule()


def network_of(address: str | None) -> str:
    """Return what counts as one network: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        ip = ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{int(ip) >> (128 - _PREFIX):x}/{_PREFIX}"
