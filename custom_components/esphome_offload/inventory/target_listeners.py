"""TargetListeners: who is told of changes, of one target or of any, without a stall."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import batched

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback

from ..const import DOMAIN
from ..engine.listeners import Listeners
from ..engine.target import TargetId

# In a fleet of hundreds, thousands of entities follow a new version.
_TARGETS_AT_ONCE = 25


@dataclass(slots=True, eq=False)
class _Subscription:
    listener: CALLBACK_TYPE
    target_of: Callable[[], TargetId]
    unsubscribe: CALLBACK_TYPE


class TargetListeners:
    """Listeners by the target that they follow, so that a change costs the same in any fleet.

    Those of ``of_list`` are told when there may be other targets.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        self.of_list = Listeners[[]]()
        self._hass = hass
        self._of_any = Listeners[[]]()
        self._of_target: dict[TargetId, Listeners[[]]] = {}
        self._filed: dict[TargetId, dict[_Subscription, None]] = {}
        self._changed: set[TargetId] = set()
        self._notifying = False

    @callback
    def subscribe(
        self, listener: CALLBACK_TYPE, target_of: Callable[[], TargetId] | None
    ) -> CALLBACK_TYPE:
        """Call ``listener`` after changes of a target, or of any (None); returns unsubscribe."""
        if target_of is None:
            return self._of_any.subscribe(listener)
        subscription = _Subscription(listener, target_of, lambda: None)
        self._file(subscription)
        return lambda: subscription.unsubscribe()  # noqa: PLW0108 - it is another one later

    @callback
    def moved(self, target: TargetId) -> None:
        """File those anew that have followed a target and now may follow another."""
        for subscription in tuple(self._filed.get(target, ())):
            subscription.unsubscribe()
            self._file(subscription)

    @callback
    def notify(self, targets: Collection[TargetId] | None) -> None:
        """Tell those that follow one of the targets, then those that follow any.

        With many targets, or all (None), that is soon rather than now, and a few at a time.
        """
        if targets is None:
            targets = self._of_target.keys()
        if len(targets) <= _TARGETS_AT_ONCE:
            self._notify(targets)
            self._of_any.notify()
            return
        self._changed.update(targets)
        if not self._notifying:
            self._notifying = True
            self._hass.async_create_task(
                self._notify_changed(), f"{DOMAIN} changes of many devices", eager_start=False
            )

    def _file(self, subscription: _Subscription) -> None:
        target = subscription.target_of()
        filed = self._filed.setdefault(target, {})
        listeners = self._of_target.setdefault(target, Listeners())
        remove = listeners.subscribe(subscription.listener)
        filed[subscription] = None

        def unsubscribe() -> None:
            remove()
            filed.pop(subscription, None)
            if not filed and self._filed.get(target) is filed:
                del self._filed[target], self._of_target[target]

        subscription.unsubscribe = unsubscribe

    def _notify(self, targets: Collection[TargetId]) -> None:
        for target in tuple(targets):
            if (listeners := self._of_target.get(target)) is not None:
                listeners.notify()

    async def _notify_changed(self) -> None:
        try:
            while self._changed:
                changed, self._changed = self._changed, set()
                for some in batched(changed, _TARGETS_AT_ONCE, strict=False):
                    self._notify(some)
                    await asyncio.sleep(0)
                self._of_any.notify()
        finally:
            self._notifying = False
