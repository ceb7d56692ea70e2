"""The guests: paired offloaders that this machine builds for."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
import logging

from ..protocol.identity import PublicKey
from .ports import StateStore

_LOGGER = logging.getLogger(__name__)

type GuestsListener = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Guest:
    """A paired offloader. ``user_id`` is that of its Home Assistant user here; times are UTC.

    ``builds`` counts those that succeeded.
    """

    public_key: PublicKey
    label: str
    user_id: str
    paired_at: datetime
    last_seen: datetime | None = None
    builds: int = 0

    @property
    def pin_sha256(self) -> str:
        """The pin of its key."""
        return self.public_key.pin_sha256


class GuestRegistry:
    """All guests, by pin."""

    def __init__(self, store: StateStore) -> None:
        """Know of nobody before ``load``."""
        self._store = store
        self._guests: dict[str, Guest] = {}
        self._listeners: list[GuestsListener] = []

    async def load(self) -> None:
        """Take up the stored guests."""
        state = await self._store.load() or {}
        records = state.get("guests")
        for record in records if isinstance(records, list) else ():
            try:
                guest = _decode(record)
            except KeyError, TypeError, ValueError, binascii.Error:
                _LOGGER.warning("The record of a guest is damaged; it has to be paired again")
                continue
            self._guests[guest.pin_sha256] = guest

    def all(self) -> tuple[Guest, ...]:
        """Return all guests, in the order in which they were paired."""
        return tuple(self._guests.values())

    def get(self, pin_sha256: str) -> Guest | None:
        """Return one guest."""
        return self._guests.get(pin_sha256)

    def by_user(self, user_id: str) -> Guest | None:
        """Return the guest that a Home Assistant user stands for."""
        return next((guest for guest in self._guests.values() if guest.user_id == user_id), None)

    async def add(self, guest: Guest) -> None:
        """Add a guest, in place of one with the same key; returns when that is on disk."""
        self._guests[guest.pin_sha256] = guest
        await self._store.save_now(self._state())
        self._notify()

    async def remove(self, pin_sha256: str) -> Guest | None:
        """Remove a guest and return it; returns when that is on disk."""
        guest = self._guests.pop(pin_sha256, None)
        if guest is not None:
            await self._store.save_now(self._state())
            self._notify()
        return guest

    def seen(self, pin_sha256: str, at: datetime) -> None:
        """Note that a guest was connected."""
        self._change(pin_sha256, lambda guest: replace(guest, last_seen=at))

    def built(self, pin_sha256: str) -> None:
        """Count a build."""
        self._change(pin_sha256, lambda guest: replace(guest, builds=guest.builds + 1))

    def relabel(self, pin_sha256: str, label: str) -> None:
        """Note how a guest is called now."""
        self._change(pin_sha256, lambda guest: replace(guest, label=label))

    def subscribe(self, listener: GuestsListener) -> Callable[[], None]:
        """Call ``listener`` when a guest came, went or changed; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _change(self, pin_sha256: str, change: Callable[[Guest], Guest]) -> None:
        guest = self._guests.get(pin_sha256)
        if guest is None or (changed := change(guest)) == guest:
            return
        self._guests[pin_sha256] = changed
        self._store.save_soon(self._state)
        self._notify()

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def _state(self) -> dict[str, object]:
        return {"guests": [_encode(guest) for guest in self._guests.values()]}


def _encode(guest: Guest) -> dict[str, object]:
    return {
        "public_key": base64.b64encode(guest.public_key.raw).decode(),
        "label": guest.label,
        "user_id": guest.user_id,
        "paired_at": guest.paired_at.isoformat(),
        "last_seen": guest.last_seen.isoformat() if guest.last_seen else None,
        "builds": guest.builds,
    }


def _decode(record: dict[str, object]) -> Guest:
    last_seen = record["last_seen"]
    return Guest(
        public_key=PublicKey(base64.b64decode(str(record["public_key"]), validate=True)),
        label=str(record["label"]),
        user_id=str(record["user_id"]),
        paired_at=datetime.fromisoformat(str(record["paired_at"])),
        last_seen=None if last_seen is None else datetime.fromisoformat(str(last_seen)),
        builds=int(str(record["builds"])),
    )
