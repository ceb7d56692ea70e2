"""The address of the other end of a connection to a device."""

import ipaddress
import socket
from typing import Final

_LOOPBACK: Final = "lo"


def peer_addresses(client: object, port: object) -> tuple[str, ...]:
    """Return where a connected client of aioesphomeapi has found its device.

    ``port`` is that of the device's API. Nothing when the device has dialled in: what is behind
    the address that it came from need not be the device. A link-local IPv6 address needs the zone
    of its interface; where it is not known, each is given.
    """
    address = getattr(client, "connected_address", None)
    if not isinstance(address, str) or not address:
        return ()
    # The address of the library has lost its zone, the socket has it.
    peer = _peer(getattr(getattr(client, "_connection", None), "_socket", None))
    if peer is not None and peer[1] != port:
        return ()
    if "%" in address or not _link_local(address):
        return (address,)
    zone = peer[3] if peer is not None and len(peer) > 3 else 0
    zones = socket.if_nameindex()
    return tuple(
        f"{address}%{name}"
        for index, name in zones
        if index == zone or (not zone and name != _LOOPBACK)
    ) or (address,)


def _peer(connection: object) -> tuple[str, int, int, int] | tuple[str, int] | None:
    try:
        peer = connection.getpeername()  # type: ignore[attr-defined]  # or it has none
    except AttributeError, OSError:
        return None
    return peer if isinstance(peer, tuple) and len(peer) in (2, 4) else None


def _link_local(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.version == 6 and parsed.is_link_local
