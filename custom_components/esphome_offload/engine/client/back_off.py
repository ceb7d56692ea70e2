"""BackOff: how long to wait until the next try."""

from collections.abc import Callable


class BackOff:
    """Pauses in seconds, each twice as long as the one before, shortened at random.

    Of many that lost the same peer, not all come back at once.
    """

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        """Start with about ``first`` seconds; ``jitter`` gives numbers from 0 to 1."""
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._tries = 0

    def reset(self) -> None:
        """Start again with the first pause."""
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait now."""
        pause = min(self._longest, self._first * 2.0**self._tries)
        self._tries = min(self._tries + 1, 32)
        return pause * (0.5 + 0.5 * self._jitter())
