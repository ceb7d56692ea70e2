"""How many files a build compiles, where its tools do not say: as many as the last time."""

from collections.abc import Sequence
import json
import logging
from pathlib import Path
import re
from typing import Final, TypedDict

from .cache.layout import CacheLayout

_LOGGER = logging.getLogger(__name__)

_KIND: Final = re.compile(
    r"^Processing \S.{0,200}\(board: ([\w-]{1,60}); framework: ([\w, -]{1,60})"
)
_MOST: Final = 1_000_000


class _Kept(TypedDict):
    files: int
    kind: str


def kind_of(lines: Sequence[str]) -> str | None:
    """Return what PlatformIO says it builds for, if it is in these lines."""
    found = (match for line in lines if (match := _KIND.match(line)) is not None)
    match = next(found, None)
    return None if match is None else f"{match[1]} {match[2]}"


class FileCounts:
    """The counts of the configurations that are built in one cache; beside their trees."""

    def __init__(self, layout: CacheLayout) -> None:
        self._layout = layout

    def read(self, configuration: str) -> tuple[int | None, dict[str, int]]:
        """Return the count of a configuration, and the largest of each kind. Blocks."""
        own = _read(self._layout.file_count(configuration))
        kinds: dict[str, int] = {}
        for path in self._layout.trees.glob(f"*{self._layout.FILE_COUNT}"):
            if (kept := _read(path)) is not None:
                kinds[kept["kind"]] = max(kept["files"], kinds.get(kept["kind"], 0))
        return None if own is None else own["files"], kinds

    def keep(self, configuration: str, kind: str, files: int) -> None:
        """Keep the count of a build that is done, unless it compiled only what had changed. Blocks."""
        path = self._layout.file_count(configuration)
        own = _read(path)
        if files and (own is None or own["kind"] != kind or files > own["files"]):
            try:
                path.write_text(json.dumps(_Kept(files=files, kind=kind)), encoding="utf-8")
            except OSError as error:
                _LOGGER.debug("The number of files of a build cannot be kept: %s", error)


def _read(path: Path) -> _Kept | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        files, kind = kept["files"], kept["kind"]
    except OSError, ValueError, KeyError, TypeError:
        return None
    if not isinstance(files, int) or not isinstance(kind, str) or not 0 < files <= _MOST:
        return None
    return _Kept(files=files, kind=kind)
