"""Removal of what is kept of configurations that no longer exist."""

from collections.abc import Collection
import logging
import os
import threading
from typing import Final

from .eviction import folders
from .layout import CacheLayout, configuration_key

_LOGGER = logging.getLogger(__name__)

KEPT_FOR: Final = 7 * 24 * 3600.0
"""Seconds. Files are also missing for a while, with another branch or a share, and a cold build on
a board takes half an hour: a week of a few hundred MiB costs less."""


def prune_orphans(
    layout: CacheLayout,
    known: Collection[str],
    now: float,
    stop: threading.Event,
    firmware_in_use: Collection[str] = (),
) -> None:
    """Remove all that is kept of configurations that have been missing for long enough.

    ``known`` are the configurations that exist, or are in use; ``now`` is Unix time. When one was
    missed first is noted. ``firmware_in_use`` are digests: a device that waits for firmware under the
    former name of its file keeps it. Blocks; stops early when ``stop`` is set.
    """
    kinds = (layout.trees, layout.bundles, layout.all_firmware, layout.all_flash)
    kept = {path.name for kind in kinds for path in folders(kind)}
    orphans = kept - {configuration_key(configuration) for configuration in known}
    orphans -= {
        folder.name
        for folder in folders(layout.all_firmware)
        if any((folder / sha256).exists() for sha256 in firmware_in_use)
    }
    layout.orphans.mkdir(parents=True, exist_ok=True)
    for stamp in layout.orphans.iterdir():
        if stamp.name not in orphans:
            stamp.unlink(missing_ok=True)
    for key in sorted(orphans):
        if stop.is_set():
            return
        stamp = layout.orphans / key
        since = stamp.stat().st_mtime if stamp.exists() else now
        stamp.touch()
        # With a clock that was set back the time starts again.
        os.utime(stamp, (min(since, now),) * 2)
        if now - since < KEPT_FOR:
            continue
        _LOGGER.debug("Removed what was kept of the missing configuration %s", key)
        for kind in kinds:
            layout.discard(kind / key)
        stamp.unlink()
