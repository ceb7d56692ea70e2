"""Inbox: bundles that were received, until they are submitted and unpacked."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path
import shutil
from typing import Final

from ..build.resources import free_disk
from ..clock import Time
from ..const import MIB
from ..protocol.bodies import IncomingFile
from ..protocol.errors import ErrorCode, ProtocolError
from ..tasks import BackgroundTasks
from ..threads import in_thread
from .attempt import AttemptKey

AT_ONCE: Final = 2
"""Bundles that one guest may send at the same time."""
WAITING: Final = 8
"""Bundles of one guest that are not submitted; the oldest goes when there are more."""
WAIT: Final = 3600.0
"""Seconds until a bundle that is not submitted goes."""
DISK_RESERVE: Final = 512 * MIB
"""What stays free for the machine itself, in bytes."""

type Receive = Callable[[IncomingFile], Awaitable[None]]
"""Writes the body that a guest sends; raises ProtocolError and OSError."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole bundle."""

    path: Path
    size: int
    sha256: str


class Inbox:
    """The received bundles, one file per attempt. Use it on the event loop only."""

    def __init__(self, folder: Path, time: Time, free: Callable[[Path], int] = free_disk) -> None:
        self._folder = folder
        self._time = time
        self._free = free
        self._receiving: dict[AttemptKey, int] = {}
        self._withdrawn: set[AttemptKey] = set()
        self._received: dict[AttemptKey, Received] = {}
        self._timers: dict[AttemptKey, Callable[[], None]] = {}
        self._tasks = BackgroundTasks()
        self._numbers = count(1)

    @property
    def size(self) -> int:
        """Bytes of all bundles that are received and not dropped, or on their way."""
        return sum(each.size for each in self._received.values()) + sum(self._receiving.values())

    async def empty(self) -> None:
        """Remove what an earlier run left; no guest will submit it."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def receive(self, key: AttemptKey, sha256: str, size: int, receive: Receive) -> None:
        """Receive a bundle, in place of an earlier one of the attempt.

        Raises ProtocolError (ATTEMPT_CONFLICT, ATTEMPT_OVER, BUSY, NO_SPACE) and what ``receive``
        raises; nothing is left then.
        """
        of_guest = [each for each in self._receiving if each.pin_sha256 == key.pin_sha256]
        if key in of_guest or len(of_guest) >= AT_ONCE:
            raise ProtocolError(ErrorCode.BUSY, "other bundles of this guest are on their way")
        self._receiving[key] = size
        try:
            # The file of an earlier one may be in use, or about to be removed.
            name = f"{key.attempt_id}-{next(self._numbers)}.tar.gz"
            path = self._folder / key.pin_sha256[:32] / name
            await in_thread(lambda _: self._prepare(path.parent, size))
            await receive(IncomingFile(path, size, sha256))
        finally:
            del self._receiving[key]
            is_withdrawn = key in self._withdrawn
            self._withdrawn.discard(key)
        if is_withdrawn:
            self._unlink_soon(path)
            raise ProtocolError(ErrorCode.ATTEMPT_OVER, "it was cancelled meanwhile")
        if key in self._received and key not in self._timers:
            self._unlink_soon(path)
            raise ProtocolError(ErrorCode.ATTEMPT_CONFLICT, "it was submitted meanwhile")
        self._keep(key, Received(path, size, sha256))

    def find(self, key: AttemptKey) -> Received | None:
        """Return the bundle of an attempt."""
        return self._received.get(key)

    def submitted(self, key: AttemptKey) -> None:
        """Keep a bundle until ``drop``: it is built."""
        if timer := self._timers.pop(key, None):
            timer()

    def drop(self, key: AttemptKey) -> None:
        """Remove a bundle, if there is one."""
        self.submitted(key)
        received = self._received.pop(key, None)
        if received is not None:
            self._unlink_soon(received.path)

    def withdraw(self, key: AttemptKey) -> None:
        """Remove a bundle that is not submitted, now or when it is received."""
        if key in self._receiving:
            self._withdrawn.add(key)
        if key in self._timers:
            self.drop(key)

    def withdraw_others(self, pin_sha256: str, wanted: Collection[str]) -> None:
        """Withdraw the bundles of all attempts of a guest that are not ``wanted``."""
        for key in (*self._timers, *self._receiving):
            if key.pin_sha256 == pin_sha256 and key.attempt_id not in wanted:
                self.withdraw(key)

    def drop_guest(self, pin_sha256: str) -> None:
        """Remove all bundles of a guest."""
        for key in tuple(self._received):
            if key.pin_sha256 == pin_sha256:
                self.drop(key)

    async def close(self) -> None:
        """Remove all bundles."""
        for key in tuple(self._received):
            self.drop(key)
        await self._tasks.wait()

    def _prepare(self, folder: Path, size: int) -> None:
        if self._free(folder) < DISK_RESERVE + size:
            raise ProtocolError(ErrorCode.NO_SPACE, "the disk is full")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _keep(self, key: AttemptKey, received: Received) -> None:
        self.drop(key)
        self._received[key] = received
        self._timers[key] = self._time.call_later(WAIT, lambda: self.drop(key))
        waiting = [each for each in self._timers if each.pin_sha256 == key.pin_sha256]
        for oldest in waiting[:-WAITING]:
            self.drop(oldest)

    def _unlink_soon(self, path: Path) -> None:
        self._tasks.start(asyncio.to_thread(_unlink, path), "esphome_offload drop a bundle")


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
