"""NewVersions: announces each newer ESPHome version once, also over restarts."""

from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.start import async_at_started

from ..const import DOMAIN
from ..engine.listeners import Listeners
from ..stores.storage import StatePersistence
from .target_listeners import TargetListeners
from .versions import VersionTracker, is_older

_ANNOUNCED: Final = "announced"
_FOLLOWED: Final = "followed"


class NewVersions:
    """Compares the version that devices are to run with the one that was announced last.

    ``subscribe`` adds a listener, which is called with both.
    """

    def __init__(
        self, hass: HomeAssistant, versions: VersionTracker, changes: TargetListeners
    ) -> None:
        """Check at all ``changes``: the options may name another version."""
        self._hass = hass
        self._versions = versions
        self._store = StatePersistence(hass, "new_versions")
        self._announced: str | None = None
        self._followed: str | None = None
        self._can_be_heard = False
        self._listeners = Listeners[str, str]()
        self.subscribe = self._listeners.subscribe
        changes.subscribe(self.check, None)

    async def async_start(self) -> None:
        """Load what was announced before a restart; announce once automations can hear it."""
        stored = await self._store.load() or {}
        announced, followed = stored.get(_ANNOUNCED), stored.get(_FOLLOWED)
        self._announced = announced if isinstance(announced, str) else None
        self._followed = followed if isinstance(followed, str) else None

        @callback
        def started(_hass: HomeAssistant) -> None:
            # Automations have attached their triggers by then.
            self._can_be_heard = True
            self.check()

        async_at_started(self._hass, started)

    @callback
    def check(self) -> None:
        """Announce the version that devices are to run if it is newer than before."""
        version, followed = self._versions.latest, self._versions.followed
        if version is None or followed is None or not self._can_be_heard:
            return
        before = self._announced
        is_newer = before is not None and is_older(before, version)
        # An older one counts when it was chosen, not when a newer one was withdrawn.
        if before is not None and not is_newer and followed == self._followed:
            return
        self._announced, self._followed = version, followed
        self._hass.async_create_task(
            self._async_announce(before if is_newer else None, version), f"{DOMAIN} new version"
        )

    async def _async_announce(self, before: str | None, version: str) -> None:
        """Store what is announced, first: it must not be announced twice."""
        await self._store.save_now({_ANNOUNCED: self._announced, _FOLLOWED: self._followed})
        if before is not None:
            self._listeners.notify(before, version)
