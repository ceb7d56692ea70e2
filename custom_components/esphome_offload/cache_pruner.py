"""Housekeeping: the cache keeps to its budgets, and keeps nothing of what is gone."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
import logging

from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN

_LOGGER = logging.getLogger(__name__)


class CachePruner:
    """Makes room after a build, not before one: nobody waits for the disk to be measured."""

    def __init__(
        self,
        hass: HomeAssistant,
        make_room: Callable[[Collection[str] | None], Coroutine[None, None, None]],
        known: Callable[[], Collection[str] | None],
    ) -> None:
        """``known`` gives the configurations that are there, None while that is not known."""
        self._hass = hass
        self._make_room = make_room
        self._known = known
        self._wanted = False
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    @callback
    def soon(self) -> None:
        """Make room; once more when it is being made already."""
        self._wanted = True
        if not self._stopped and (self._task is None or self._task.done()):
            self._task = self._hass.async_create_background_task(
                self._tidy(), f"{DOMAIN} disk budgets", eager_start=False
            )

    async def async_stop(self) -> None:
        """Make no more room; returns when no thread is at it any more."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _tidy(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._make_room(self._known())
            except OSError as err:
                _LOGGER.warning("No room can be made: %s", err)
