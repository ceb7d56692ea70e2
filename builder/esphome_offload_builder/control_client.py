"""Asking the running program, for the commands other than ``run``."""

from http import HTTPStatus
from typing import cast

import aiohttp

from .payloads import (
    CACHE,
    GUESTS,
    PAIRING,
    STATUS,
    CleanedPayload,
    PairingPayload,
    StatusPayload,
)
from .settings import DataFolder, RefusedError

_CLEAN_TIMEOUT = 600.0
"""Seconds; a hundred thousand files take a slow disk a while."""


class ControlClient:
    """Requests to the program that runs with a data folder; all raise RefusedError."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    async def status(self) -> StatusPayload:
        """Return its status."""
        return cast("StatusPayload", await self._ask("GET", STATUS))

    async def open_window(self) -> PairingPayload:
        """Open the pairing window."""
        return cast("PairingPayload", await self._ask("POST", PAIRING))

    async def window(self) -> PairingPayload:
        """Return how the pairing window stands."""
        return cast("PairingPayload", await self._ask("GET", PAIRING))

    async def close_window(self) -> None:
        """Close the pairing window."""
        await self._ask("DELETE", PAIRING)

    async def remove_guest(self, pin_sha256: str) -> None:
        """Unpair a guest and delete what was built for it."""
        await self._ask("DELETE", f"{GUESTS}/{pin_sha256}")

    async def clean(self) -> CleanedPayload:
        """Delete all in the cache that is not in use."""
        return cast("CleanedPayload", await self._ask("DELETE", CACHE))

    async def _ask(self, method: str, path: str) -> object:
        connector = aiohttp.UnixConnector(str(self._folder.control))
        timeout = aiohttp.ClientTimeout(total=_CLEAN_TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://builder{path}") as response,
            ):
                if response.status == HTTPStatus.NOT_FOUND:
                    raise RefusedError("There is no such guest")
                response.raise_for_status()
                return None if response.status == HTTPStatus.NO_CONTENT else await response.json()
        except aiohttp.ClientConnectorError as err:
            if isinstance(err.os_error, PermissionError):
                raise RefusedError(f"{self._folder.root} belongs to another user") from err
            raise RefusedError(
                f"No builder runs with {self._folder.root}; start it, or name its --data"
            ) from err
        except (aiohttp.ClientError, TimeoutError) as err:
            raise RefusedError(f"The builder did not answer: {err!r}") from err
