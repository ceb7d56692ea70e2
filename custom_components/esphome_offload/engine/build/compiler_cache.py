"""The compiler cache (ccache): one for our own builds and one for each guest's, never shared.

ESPHome uses the ``ccache`` on its PATH by itself and sets what its platforms need, so that devices
share what does not differ between them. Here is where the cache is, how large it may get, and what
it did for a build.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..const import COMPILER_CACHE_GIB, GIB, MIB
from ..regular_file import open_regular
from .cache.layout import CacheLayout
from .resources import free_disk
from .toolchain.toolchain import Toolchain

_SHARE: Final = 4
"""A cache gets no more than one part in so many of the disk that is free."""
_LOG: Final = "ccache.log"
_LARGEST_LOG: Final = 8 * MIB
"""Some 300 bytes a file; ESP-IDF has two thousand."""
_HITS: Final = ("direct_cache_hit", "preprocessed_cache_hit")
_MISS: Final = "cache_miss"


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How many ``files`` were asked of the cache, and how many of them it had (``hits``)."""

    hits: int = 0
    files: int = 0

    def __add__(self, other: CacheUse) -> CacheUse:
        """Return both together."""
        return CacheUse(self.hits + other.hits, self.files + other.files)

    @property
    def percent(self) -> int | None:
        """How much of what was asked of it the cache had; None when nothing was."""
        return round(100 * self.hits / self.files) if self.files else None


class CompilerCaches:
    """What all compiler caches of one machine share: limits, and ``use`` since the start.

    Each may have ``limit`` bytes; those of guests also no more than a part of ``guest_disk``, which
    all guests have together.
    """

    def __init__(self) -> None:
        self.limit = COMPILER_CACHE_GIB * GIB
        self.guest_disk: int | None = None
        self.use = CacheUse()


class CompilerCache:
    """The cache of all builds in one layout; ``use`` is what it did since the start.

    Nothing here runs ccache: builds may have written settings into their cache.
    """

    def __init__(self, caches: CompilerCaches, layout: CacheLayout, *, guest: bool) -> None:
        self.use = CacheUse()
        self._caches = caches
        self._layout = layout
        self._guest = guest

    def prepare(self, toolchain: Toolchain, tree: Path) -> dict[str, str]:
        """Return the variables of a build in ``tree``, whose count begins anew. Blocks."""
        log = tree / _LOG
        # Whatever a build left there: at worst nothing is counted.
        with suppress(OSError):
            log.unlink()
        variables = {
            "CCACHE_DIR": _literal(self._layout.compiler_cache),
            "CCACHE_MAXSIZE": f"{max(1, self._limit() // MIB)}Mi",
            "CCACHE_STATSLOG": _literal(log),
        }
        if toolchain.ccache.is_file():
            # ESPHome tries it out, with a time limit that a busy machine exceeds, and then does
            # without. It was tried out when the toolchain was made.
            variables["ESPHOME_CCACHE_ENABLE"] = "1"
        return variables

    def count(self, tree: Path) -> CacheUse:
        """Return what the cache did since ``prepare``, and add it to all. Blocks."""
        use = _read(tree / _LOG)
        self.use += use
        self._caches.use += use
        return use

    def _limit(self) -> int:
        limits = [self._caches.limit]
        with suppress(OSError):
            limits.append(free_disk(self._layout.root) // _SHARE)
        if self._guest and self._caches.guest_disk is not None:
            limits.append(self._caches.guest_disk // _SHARE)
        return min(limits)


def _literal(path: Path) -> str:
    """Return a path as ccache reads it, which expands variables."""
    return str(path).replace("$", "$$")


def _read(log: Path) -> CacheUse:
    """Read ccache's log of statistics: for each file its name after ``#``, then what was done.

    A build could have put anything in its place; what is no such file counts nothing.
    """
    try:
        with open_regular(log) as file:
            lines = file.read(_LARGEST_LOG).decode(errors="replace").splitlines()
    except OSError:
        return CacheUse()
    done = Counter(lines)
    hits = sum(done[name] for name in _HITS)
    return CacheUse(hits, hits + done[_MISS])
