"""The config entry of a peer: its data, and the peer while it is loaded."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self, TypeIs

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback

from ..engine.build.model import Builder
from ..engine.client.address import candidates
from ..engine.client.link import LinkState, PeerLink
from ..engine.protocol.identity import PublicKey
from ..options import EntryKey

ENTRY_KIND_PEER: Final = "peer"
ENTRY_MINOR_VERSION: Final = 2
"""The minor version of entries; a peer whose entry is older has to be paired with again."""

type PeerConfigEntry = ConfigEntry[Peer]


class PeerKey(StrEnum):
    """Keys of the data of a peer's entry, besides the kind."""

    URL = "url"
    VERIFY_SSL = "verify_ssl"
    PUBLIC_KEY = "public_key"


class PeerOption(StrEnum):
    """Keys of the options of a peer's entry."""

    USE = "use"
    """Whether jobs use this builder that do not ask for it."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A paired builder. ``url`` is its base URL without a slash at the end."""

    url: str
    verify_ssl: bool
    public: PublicKey
    label: str

    @classmethod
    def from_entry(cls, entry: PeerConfigEntry) -> Self:
        """Read a config entry; raises ValueError when it is damaged, or from before the link.

        The label is the entry's title: that is what its owner sees and may change.
        """
        data: Mapping[str, Any] = entry.data
        if entry.minor_version < ENTRY_MINOR_VERSION:
            raise ValueError("the entry is of an earlier version")
        try:
            raw = base64.b64decode(data[PeerKey.PUBLIC_KEY], validate=True)
            public = PublicKey(raw)
            (url,) = candidates(data[PeerKey.URL])[:1]
        except (KeyError, TypeError, AttributeError, binascii.Error) as err:
            raise ValueError("the entry of a peer is damaged") from err
        if public.pin_sha256 != entry.unique_id:
            raise ValueError("key and pin do not belong together")
        return cls(url, data.get(PeerKey.VERIFY_SSL) is not False, public, entry.title)

    @property
    def data(self) -> dict[str, Any]:
        """The data of its entry."""
        return {
            EntryKey.KIND: ENTRY_KIND_PEER,
            PeerKey.URL: self.url,
            PeerKey.VERIFY_SSL: self.verify_ssl,
            PeerKey.PUBLIC_KEY: base64.b64encode(self.public.raw).decode(),
        }


@dataclass(slots=True, eq=False)
class Peer:
    """A paired builder and the connection to it.

    ``reported_down``: the log says that it is not connected. ``end_absence`` stops the timer that
    runs while it is not.
    """

    entry: PeerConfigEntry
    settings: PeerSettings
    link: PeerLink
    builder: Builder
    unregister: Callable[[], None]
    reported_down: bool = False
    end_absence: CALLBACK_TYPE | None = None

    @property
    def stopped(self) -> bool:
        """Whether this instance ended the connection: the builder has not changed."""
        return self.link.state is LinkState.STOPPED

    @callback
    def stop_timer(self) -> None:
        """Stop the timer that runs while it is not connected."""
        if self.end_absence is not None:
            self.end_absence()
            self.end_absence = None

    @callback
    def async_add_listener(
        self, update_callback: CALLBACK_TYPE, context: object = None
    ) -> CALLBACK_TYPE:
        """Call ``update_callback`` when the state of the link or the builder changed."""
        return self.link.subscribe(update_callback)


def is_used(entry: PeerConfigEntry) -> bool:
    """Return whether jobs use this builder that do not ask for it."""
    return entry.options.get(PeerOption.USE) is not False


@callback
def async_use(hass: HomeAssistant, entry: PeerConfigEntry, *, use: bool) -> None:
    """Use a builder or not for jobs that do not ask for it; builds that it has go on."""
    hass.config_entries.async_update_entry(entry, options={**entry.options, PeerOption.USE: use})


def is_peer(entry: ConfigEntry[Any]) -> TypeIs[PeerConfigEntry]:
    """Return whether an entry is a peer's, and not "this instance"."""
    return entry.data.get(EntryKey.KIND) == ENTRY_KIND_PEER
