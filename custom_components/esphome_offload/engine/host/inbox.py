"""Inbox: bundles that came, until they are submitted and unpacked."""

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from pathlib import Path
import shutil
from typing import Final

from ..clock import Time
from ..protocol.body import open_header
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.limits import BUNDLE_LIMIT
from ..const import MIB
from ..protocol.parsing import parse
from ..protocol.payloads import BodyHeader, BuildParameters
from ..protocol.seal import Channel, Purpose
from ..protocol.transfer import receive
from .attempt import AttemptKey

AT_ONCE: Final = 2
"""Bundles that one guest may send at the same time."""
WAITING: Final = 8
"""Bundles of one guest that are not submitted; the oldest goes when there are more."""
WAIT: Final = 3600.0
"""Seconds until a bundle that nobody submits goes."""
DISK_RESERVE: Final = 512 * MIB
"""What stays free for the machine itself, in bytes."""


@dataclass(frozen=True, slots=True)
class Received:
    """A whole bundle, as its sender sealed it."""

    key: AttemptKey
    path: Path
    sha256: str
    size: int
    parameters: BuildParameters


def free_disk(folder: Path) -> int:
    """Return how many bytes are free where a folder is or will be. Blocking."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def parameters_of(header: BodyHeader, key: AttemptKey) -> BuildParameters:
    """Return what a bundle's header wants built; raises ProtocolError MALFORMED or TAMPERED."""
    parameters = parse(BuildParameters, header.parameters)
    if parameters.attempt_id != key.attempt_id:
        raise ProtocolError(ErrorCode.TAMPERED, "a bundle that was sealed for another attempt")
    return parameters


def open_parameters(
    channel: Channel, key: AttemptKey, sealed: bytes
) -> tuple[str, BuildParameters]:
    """Return digest and parameters of a header that came without its bundle."""
    header = open_header(channel, Purpose.BUNDLE, sealed, BUNDLE_LIMIT)
    return header.sha256, parameters_of(header, key)


class Inbox:
    """One file per attempt. Use it on the event loop only."""

    def __init__(self, folder: Path, time: Time, free: Callable[[Path], int] = free_disk) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self._time = time
        self._free = free
        self._receiving: set[AttemptKey] = set()
        self._received: dict[AttemptKey, Received] = {}
        self._timers: dict[AttemptKey, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """Bytes of all bundles that came and are not dropped."""
        return sum(each.size for each in self._received.values())

    async def empty(self) -> None:
        """Remove what an earlier run left; nobody will submit it."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def receive(
        self, channel: Channel, key: AttemptKey, pieces: AsyncIterable[bytes]
    ) -> None:
        """Take a sealed bundle, in place of an earlier one of the attempt.

        Raises ProtocolError (BUSY, NO_SPACE, TAMPERED, MALFORMED, TOO_LARGE, STALLED) and what
        ``pieces`` raises; nothing is left then.
        """
        of_guest = [each for each in self._receiving if each.pin_sha256 == key.pin_sha256]
        if key in of_guest or len(of_guest) >= AT_ONCE:
            raise ProtocolError(ErrorCode.BUSY, "other bundles of this guest are on their way")
        self._receiving.add(key)
        try:
            path = self._folder / key.pin_sha256[:32] / f"{key.attempt_id}.tar.gz"
            await asyncio.to_thread(self._make_room, path.parent)
            header = await receive(
                channel,
                Purpose.BUNDLE,
                pieces,
                path,
                limit=BUNDLE_LIMIT,
                accept=lambda header: _demand(header, key),
            )
        finally:
            self._receiving.discard(key)
        self._keep(Received(key, path, header.sha256, header.size, parameters_of(header, key)))

    def find(self, key: AttemptKey) -> Received | None:
        """Return the bundle of an attempt."""
        return self._received.get(key)

    def submitted(self, key: AttemptKey) -> None:
        """Leave a bundle to whoever builds it; ``drop`` it afterwards."""
        if timer := self._timers.pop(key, None):
            timer()

    def drop(self, key: AttemptKey) -> None:
        """Remove a bundle, if there is one."""
        self.submitted(key)
        received = self._received.pop(key, None)
        if received is not None:
            task = asyncio.create_task(asyncio.to_thread(_unlink, received.path))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def drop_guest(self, pin_sha256: str) -> None:
        """Remove all bundles of a guest."""
        for key in tuple(self._received):
            if key.pin_sha256 == pin_sha256:
                self.drop(key)

    async def close(self) -> None:
        """Remove all bundles."""
        for key in tuple(self._received):
            self.drop(key)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _make_room(self, folder: Path) -> None:
        if self._free(folder) < DISK_RESERVE:
            raise ProtocolError(ErrorCode.NO_SPACE, "the disk is full")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _keep(self, received: Received) -> None:
        key = received.key
        self.submitted(key)
        self._received[key] = received
        self._timers[key] = self._time.call_later(WAIT, lambda: self.drop(key))
        waiting = [each for each in self._timers if each.pin_sha256 == key.pin_sha256]
        for oldest in waiting[:-WAITING]:
            self.drop(oldest)


def _demand(header: BodyHeader, key: AttemptKey) -> None:
    parameters_of(header, key)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
