"""Addresses of builders, as people type them or others announce them."""

import re
from typing import Final

from yarl import URL

from ..const import STANDALONE_PORT

HOME_ASSISTANT_PORT: Final = 8123

_SCHEMES: Final = ("https", "http")
# Two colons and no brackets: an IPv6 address without a port.
_BARE_IPV6 = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%\w+)?")


def candidates(typed: str) -> tuple[str, ...]:
    """Return the base URLs that an address may mean, the likeliest first.

    What is said is kept: a scheme, a port. Where nothing is said, https comes before http, and
    Home Assistant's own port before the one that the scheme has by default and that of a
    standalone builder, which has no https. A path, as it stands
    in a browser's address bar, is dropped. Raises ValueError for what is no address.
    """
    text = typed.strip()
    if _BARE_IPV6.fullmatch(text):
        text = f"[{text}]"
    scheme, separator, _ = text.partition("://")
    url = URL(text if separator else f"//{text}")
    if separator and scheme.lower() not in _SCHEMES:
        raise ValueError("neither http nor https")
    if not url.host or re.search(r"[\s<>@]", url.host) or url.user or url.password:
        raise ValueError("no host")
    schemes = (scheme.lower(),) if separator else _SCHEMES
    if url.explicit_port is not None:
        return tuple(_base(each, url.host, url.explicit_port) for each in schemes)
    by_default = tuple(_base(each, url.host, None) for each in schemes)
    own = tuple(_base(each, url.host, HOME_ASSISTANT_PORT) for each in schemes)
    usual = (*by_default, *own) if separator else (*own, *by_default)
    if "http" not in schemes:
        return usual
    return (*usual, _base("http", url.host, STANDALONE_PORT))


def host(url: str) -> str:
    """Return the host of a base URL."""
    return URL(url).host or ""


def _base(scheme: str, name: str, port: int | None) -> str:
    return str(URL.build(scheme=scheme, host=name, port=port)).rstrip("/")
