"""The one way to subscribe to changes of an object."""

from collections.abc import Callable
import logging

_LOGGER = logging.getLogger(__name__)


class Listeners[**P]:
    """Callables that are notified, in the order in which they subscribed.

    A listener may subscribe and unsubscribe others while it is called. One that raises is logged,
    and the others are called all the same.
    """

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[P, None]] = {}

    def __bool__(self) -> bool:
        """Return whether there is a listener."""
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
            # One listener must not keep the others from being notified.
            except Exception:
                _LOGGER.exception("A listener failed")
