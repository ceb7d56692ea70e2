"""What one run of ESPHome says while it builds: handed on, and kept as far as it may be needed."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from ..const import Stage
from .build_log import VALIDATED, compiles
from .file_counts import kind_of
from .model import BuildSink
from .process.build_progress import BuildProgress

_TAIL: Final = 500
"""Lines kept to find the cause of a failure: the first of a file's diagnostics may be far up."""


class BuildOutput:
    """Hands lines, progress and stages on to a sink, and says how far the build got.

    ``files`` is how many files this configuration was made of the last time, ``kinds`` the same
    of others by what they are built for.
    """

    def __init__(self, sink: BuildSink, files: int | None, kinds: Mapping[str, int]) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.valid = False
        self.compiled = False
        self.kind: str | None = None
        self.progress = BuildProgress(files)
        self._kinds = kinds
        self._sink = sink
        self._downloading = False

    def lines(self, batch: Sequence[str]) -> None:
        """Take finished lines."""
        self.valid = self.valid or any(VALIDATED in line for line in batch)
        self.compiled = self.compiled or any(map(compiles, batch))
        if self.kind is None and (kind := kind_of(batch)) is not None:
            self.kind = kind
            if (files := self._kinds.get(kind)) is not None:
                self.progress.expect(files)
        self.tail.extend(batch)
        self._sink.lines(batch)

    def progressed(self, percent: float) -> None:
        """Take the progress of what is being done: tools are downloaded before anything compiles."""
        downloading = self.progress.loading is not None
        if downloading is not self._downloading:
            self._downloading = downloading
            self._sink.stage(Stage.DOWNLOADING if downloading else Stage.COMPILING)
        self._sink.progress(percent)
