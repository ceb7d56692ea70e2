"""The guests: paired offloaders that this machine builds for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
import logging

from ..codec import CodecError, decode, encode
from ..listeners import Listeners
from ..protocol.fields import Count, Label
from ..protocol.identity import PublicKey
from ..text import one_line
from .ports import StateStore

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Guest:
    """A paired offloader. ``builds`` counts those that succeeded, the last one at ``last_build``.

    Times are UTC.
    """

    public_key: PublicKey
    label: Label
    paired_at: datetime
    last_seen: datetime | None = None
    builds: Count = 0
    last_build: datetime | None = None

    @property
    def pin_sha256(self) -> str:
        """The pin of its key."""
        return self.public_key.pin_sha256


class GuestRegistry:
    """The guests, by pin. ``changed`` notifies when one is added, removed or changed."""

    def __init__(self, store: StateStore) -> None:
        self.changed = Listeners[[]]()
        self._store = store
        self._guests: dict[str, Guest] = {}
        self._expected: set[str] = set()

    async def load(self) -> None:
        """Load the stored guests."""
        state = await self._store.load() or {}
        records = state.get("guests")
        for record in records if isinstance(records, list) else ():
            try:
                guest = decode(Guest, record)
            except CodecError as err:
                _LOGGER.warning("A guest's record is damaged; pair with it again: %s", err)
                continue
            self._guests[guest.pin_sha256] = guest

    def all(self) -> tuple[Guest, ...]:
        """Return all guests, in the order in which they were paired."""
        return tuple(self._guests.values())

    def get(self, pin_sha256: str) -> Guest | None:
        """Return one guest."""
        return self._guests.get(pin_sha256)

    async def add(self, public_key: PublicKey, label: str, at: datetime) -> Guest:
        """Add a guest, or pair again with a known one; returns when that is on disk."""
        known = self._guests.get(public_key.pin_sha256)
        if known is None:
            guest = Guest(public_key, label, at)
        else:
            guest = replace(known, label=label, paired_at=at)
        self._guests[guest.pin_sha256] = guest
        _LOGGER.info("%s is paired, its pin is %s", one_line(guest.label, 64), guest.pin_sha256)
        await self._store.save_now(self._state())
        self.changed.notify()
        return guest

    def expect(self, pins: Iterable[str]) -> None:
        """Let the holders of these keys connect without pairing; ``admit`` makes them guests."""
        self._expected.update(pins)

    def may_connect(self, pin_sha256: str) -> bool:
        """Return whether the holder of this key is a guest, or expected."""
        return pin_sha256 in self._guests or pin_sha256 in self._expected

    async def admit(self, public_key: PublicKey, label: str, at: datetime) -> bool:
        """Add one that is expected and has proven its key; returns whether it is a guest."""
        pin_sha256 = public_key.pin_sha256
        if pin_sha256 not in self._guests and pin_sha256 in self._expected:
            await self.add(public_key, label, at)
        return pin_sha256 in self._guests

    async def remove(self, pin_sha256: str) -> Guest | None:
        """Remove a guest and return it; returns when that is on disk."""
        self._expected.discard(pin_sha256)
        guest = self._guests.pop(pin_sha256, None)
        if guest is not None:
            _LOGGER.info("%s is not paired any more", one_line(guest.label, 64))
            await self._store.save_now(self._state())
            self.changed.notify()
        return guest

    def mark_connected(self, pin_sha256: str, label: str, at: datetime) -> None:
        """Note that a guest is connected, and its label."""
        self._change(pin_sha256, lambda guest: replace(guest, label=label, last_seen=at))

    def mark_disconnected(self, pin_sha256: str, at: datetime) -> None:
        """Note that a guest was connected until now."""
        self._change(pin_sha256, lambda guest: replace(guest, last_seen=at))

    def count_build(self, pin_sha256: str, at: datetime) -> None:
        """Count a build that succeeded."""
        self._change(
            pin_sha256, lambda guest: replace(guest, builds=guest.builds + 1, last_build=at)
        )

    def _change(self, pin_sha256: str, change: Callable[[Guest], Guest]) -> None:
        guest = self._guests.get(pin_sha256)
        if guest is None or (changed := change(guest)) == guest:
            return
        self._guests[pin_sha256] = changed
        self._store.save_soon(self._state)
        self.changed.notify()

    def _state(self) -> dict[str, object]:
        return {"guests": [encode(guest) for guest in self._guests.values()]}
