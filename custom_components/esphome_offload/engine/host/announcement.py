"""The announcement of a builder in the local network, as a service of mDNS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zeroconf.asyncio import AsyncServiceInfo

from ..const import ZEROCONF_TYPE
from ..protocol.limits import PROTOCOL

# What DNS allows for a name, and for a text with its key, in bytes.
_NAME_BYTES: Final = 63
_TEXT_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class AnnouncedBuilder:
    """A builder as it is announced: hints, which a link proves. ``url`` may be empty."""

    pin_sha256: str
    label: str
    url: str = ""

    def service(self, addresses: Sequence[str], port: int) -> AsyncServiceInfo:
        """Return the service to register; another instance may have its name already."""
        label = _cut(self.label, _TEXT_BYTES)
        name = _cut(label.replace(".", " "), _NAME_BYTES)
        return AsyncServiceInfo(
            ZEROCONF_TYPE,
            name=f"{name}.{ZEROCONF_TYPE}",
            server=f"esphome-offload-{self.pin_sha256[:16]}.local.",
            parsed_addresses=list(addresses),
            port=port,
            properties={
                "pin": self.pin_sha256,
                "label": label,
                "protocol": str(PROTOCOL),
                "url": _cut(self.url, _TEXT_BYTES),
            },
        )


def _cut(text: str, limit: int) -> str:
    """Return as much of a text as fits into so many bytes."""
    return text.encode()[:limit].decode(errors="ignore")
