"""What is kept of configurations that are gone."""

from collections.abc import Collection
import logging
import os
from pathlib import Path
import threading
from typing import Final

from .layout import CacheLayout, configuration_key

_LOGGER = logging.getLogger(__name__)

GONE_FOR: Final = 7 * 24 * 3600.0
"""Seconds. Files also go for a while, with another branch or a share, and a cold build on a board
takes half an hour: a week of a few hundred MiB costs less."""


def prune_orphans(
    layout: CacheLayout, known: Collection[str], now: float, stop: threading.Event
) -> None:
    """Remove all that is kept of configurations that have been gone for long enough.

    ``known`` are the configurations that are there, or in use; ``now`` is Unix time. Since when one
    is gone is noted at the first call without it. Blocks; stops early when ``stop`` is set.
    """
    kinds = (layout.trees, layout.bundles, layout.all_firmware, layout.all_flash)
    kept = {path.name for kind in kinds for path in _folders(kind)}
    gone = kept - {configuration_key(configuration) for configuration in known}
    layout.gone.mkdir(parents=True, exist_ok=True)
    for mark in layout.gone.iterdir():
        if mark.name not in gone:
            mark.unlink(missing_ok=True)
    for key in sorted(gone):
        if stop.is_set():
            return
        mark = layout.gone / key
        since = mark.stat().st_mtime if mark.exists() else now
        mark.touch()
        # With a clock that was set back it begins anew.
        os.utime(mark, (min(since, now),) * 2)
        if now - since < GONE_FOR:
            continue
        _LOGGER.debug("The configuration of %s is gone, and with it what was kept of it", key)
        for kind in kinds:
            layout.discard(kind / key)
        mark.unlink()


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
