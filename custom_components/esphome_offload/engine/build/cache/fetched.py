"""What ESPHome fetched to know devices and hashes: packages and components, to be fetched again."""

from contextlib import suppress
import logging
from pathlib import Path
import time
from typing import Final, override

from ...threads import in_thread
from .eviction import CacheFolder, folders
from .layout import CacheLayout

_LOGGER = logging.getLogger(__name__)

_RECENT: Final = 3600.0
"""Seconds; longer than ESPHome may be asked about all configurations."""


class FetchedSources(CacheFolder):
    """The clones of one kind; ESPHome's name for the kind is that of the folder."""

    def __init__(self, layout: CacheLayout, folder: Path) -> None:
        self._layout = layout
        self._folder = folder

    @property
    @override
    def folder(self) -> Path:
        """Where the clones are."""
        return self._folder

    @override
    async def discard(self, key: str) -> bool:
        """Remove a clone; returns False if it was made or read a short time ago."""
        return await in_thread(lambda _: self._discard(self._folder / key))

    def _discard(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            if 0 <= time.time() - path.stat().st_mtime < _RECENT:
                return False
        _LOGGER.debug("Removed the clone %s to free disk space", path)
        self._layout.discard(path)
        return True


def fetched_sources(layout: CacheLayout) -> list[FetchedSources]:
    """Return the folders of clones that there are. Blocks."""
    return [
        FetchedSources(layout, folder)
        for data_dir in layout.fetched
        for folder in folders(data_dir)
    ]
