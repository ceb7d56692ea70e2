"""What the config entry of a peer holds."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from homeassistant.config_entries import ConfigEntry

from ..engine.client.address import candidates
from ..engine.protocol.identity import PublicKey
from ..options import EntryKey

ENTRY_KIND_PEER: Final = "peer"


class PeerKey(StrEnum):
    """Keys of the data of a peer's entry, besides the kind."""

    URL = "url"
    VERIFY_SSL = "verify_ssl"
    PIN = "pin"
    PUBLIC_KEY = "public_key"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """A paired builder. ``url`` is its base URL without a slash at the end."""

    url: str
    verify_ssl: bool
    public: PublicKey
    label: str

    @classmethod
    def from_entry(cls, entry: ConfigEntry) -> Self:
        """Read a config entry; raises ValueError when it is damaged.

        The label is the entry's title: that is what its owner sees and may change.
        """
        data: Mapping[str, Any] = entry.data
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
            PeerKey.PIN: self.public.pin_sha256,
            PeerKey.PUBLIC_KEY: base64.b64encode(self.public.raw).decode(),
            PeerKey.LABEL: self.label,
        }


def is_peer(entry: ConfigEntry) -> bool:
    """Whether an entry is a peer's, and not "this instance"."""
    return entry.data.get(EntryKey.KIND) == ENTRY_KIND_PEER
