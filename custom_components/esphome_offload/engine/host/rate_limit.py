"""RateLimit: how often one address may ask what needs no key."""

from collections.abc import Callable
import time
from typing import Final

_ADDRESSES: Final = 1024


class RateLimit:
    """Each address may ask ``burst`` times at once, then ``per_second`` times a second."""

    def __init__(
        self, burst: int, per_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin; ``clock`` gives seconds that never go back."""
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, address: str) -> bool:
        """Return whether this request is one that may be answered, and count it."""
        now = self._clock()
        left, at = self._left.pop(address, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_second)
        admitted = left >= 1.0
        # Last in the order, so that those who asked longest ago are forgotten first.
        self._left[address] = (left - 1.0 if admitted else left, now)
        if len(self._left) > _ADDRESSES:
            del self._left[next(iter(self._left))]
        return admitted
