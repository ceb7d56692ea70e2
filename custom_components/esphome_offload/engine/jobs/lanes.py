"""The lane of uploads, and the gate before all lanes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..reason import Reason, ReasonKey
from .ports import QueueSettings


class DispatchGate:
    """Closed while nothing may start; what runs continues."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether work may start."""
        return self._opened.is_set()

    def set(self, *, is_open: bool) -> None:
        """Open or close."""
        if is_open:
            self._opened.set()
        else:
            self._opened.clear()

    async def passed(self) -> None:
        """Return when work may start."""
        while not self.is_open:
            await self._opened.wait()


def _new_future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class UploadLease:
    """The right to flash one device."""

    device_name: str
    granted: asyncio.Future[None] = field(default_factory=_new_future)
    uploading: bool = True


class UploadLane:
    """As many uploads at a time as the options say, never two to the same device."""

    def __init__(self, gate: DispatchGate, settings: Callable[[], QueueSettings]) -> None:
        self._gate = gate
        self._settings = settings
        self._waiting: list[UploadLease] = []
        self._leases: set[UploadLease] = set()

    @asynccontextmanager
    async def lease(
        self, device_name: str, on_wait: Callable[[Reason], None]
    ) -> AsyncIterator[UploadLease]:
        """Hold the device and an upload slot; ``on_wait`` is called with what it waits for."""
        lease = UploadLease(device_name)
        self._waiting.append(lease)
        self.serve()
        if not lease.granted.done():
            on_wait(self._waits_for(lease))
        try:
            await lease.granted
            yield lease
        finally:
            if lease in self._waiting:
                self._waiting.remove(lease)
            self._leases.discard(lease)
            self.serve()

    def uploaded(self, lease: UploadLease) -> None:
        """Free the slot for the next one; the device stays held until it is back."""
        lease.uploading = False
        self.serve()

    def serve(self) -> None:
        """Serve all that waits; to be called after any change."""
        if not self._gate.is_open:
            return
        for lease in tuple(self._waiting):
            if lease.granted.done():
                continue
            if self._free_slots() <= 0:
                return
            if self._held(lease.device_name):
                continue
            self._waiting.remove(lease)
            self._leases.add(lease)
            lease.granted.set_result(None)

    def _free_slots(self) -> int:
        return max(1, self._settings().parallel_uploads) - sum(
            lease.uploading for lease in self._leases
        )

    def _held(self, device_name: str) -> bool:
        return any(lease.device_name == device_name for lease in self._leases)

    def _waits_for(self, lease: UploadLease) -> Reason:
        if self._held(lease.device_name):
            return Reason(ReasonKey.WAITS_FOR_OTHER_JOB)
        return Reason(ReasonKey.WAITS_FOR_UPLOAD_SLOT)
