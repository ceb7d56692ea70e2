"""Listeners: the one way in which something tells others that it changed."""

from collections.abc import Callable
import logging

_LOGGER = logging.getLogger(__name__)


class Listeners[**P]:
    """Callables that are notified, in the order in which they subscribed.

    A listener may subscribe and unsubscribe others while it is notified. One that raises is
    logged, and keeps no other from being notified.
    """

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[P, None]] = {}

    def __bool__(self) -> bool:
        """Return whether anybody is subscribed."""
        return bool(self._listeners)

    def subscribe(self, listener: Callable[P, None]) -> Callable[[], None]:
        """Call ``listener`` at each ``notify``; returns unsubscribe, which may be called twice."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def notify(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call all listeners."""
        for token, listener in tuple(self._listeners.items()):
            if token not in self._listeners:  # unsubscribed by one before it
                continue
            try:
                listener(*args, **kwargs)
            except Exception:
                _LOGGER.exception("A listener failed")
