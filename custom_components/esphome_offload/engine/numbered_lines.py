"""NumberedLines: the lines of a log that are kept in memory, found by their numbers."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

# The beginning and the end of a log are kept.
HEAD_LIMIT = 320 * 1024
TAIL_LIMIT = 320 * 1024

# The line's number, a tabulator and the line end.
_OVERHEAD = 10


@dataclass(frozen=True, slots=True)
class LogPage:
    """A run of neighbouring lines; the first has the number ``first_line``, counted from 0.

    ``first_line`` is greater than asked for where lines were left out. Continue at
    ``next_line``; nothing more is there (yet) when it equals ``total``. ``last``: nothing will be
    added after this page; only ``follow`` knows.
    """

    first_line: int
    lines: tuple[str, ...]
    next_line: int
    total: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring lines, the first with the number ``first``."""

    first: int
    lines: Sequence[str]


@dataclass(slots=True)
class NumberedLines:
    """The first and the last lines of a log, with their numbers."""

    head: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=deque)
    tail_first: int = 0
    total: int = 0
    _head_bytes: int = 0
    _tail_bytes: int = 0
    _head_full: bool = False

    def add(self, number: int, line: str) -> int:
        """Add a line, whose number is ``total`` unless lines were left out; returns its bytes."""
        size = _size(line)
        if not self._head_full and number == len(self.head):
            if self._head_bytes + size <= HEAD_LIMIT:
                self.head.append(line)
                self._head_bytes += size
                self.total = self.tail_first = number + 1
                return size
            self._head_full = True
        if number != self.total or not self.tail:
            self._head_full = True
            self.tail.clear()
            self._tail_bytes = 0
            self.tail_first = number
        self.tail.append(line)
        self._tail_bytes += size
        self.total = number + 1
        while self._tail_bytes > TAIL_LIMIT:
            self._tail_bytes -= _size(self.tail.popleft())
            self.tail_first += 1
        return size

    def runs(self) -> tuple[Run, ...]:
        """Return all lines that are kept."""
        return Run(0, tuple(self.head)), Run(self.tail_first, tuple(self.tail))

    def page(self, from_line: int, limit: int, size: int | None = None) -> LogPage:
        """Return lines from a number on, up to where some were left out.

        At most ``limit`` lines, and of more than one no more than ``size`` bytes.
        """
        first = min(max(from_line, 0), self.total)
        if len(self.head) <= first < self.tail_first:
            first = self.tail_first
        lines = self.head[first : first + limit]
        if len(lines) < limit and first + len(lines) >= self.tail_first:
            begin = first + len(lines) - self.tail_first
            lines.extend(islice(self.tail, begin, begin + limit - len(lines)))
        if size is not None:
            del lines[_fitting(lines, size) :]
        return LogPage(first, tuple(lines), first + len(lines), self.total)


def _size(line: str) -> int:
    return _OVERHEAD + (len(line) if line.isascii() else len(line.encode(errors="replace")))


def _fitting(lines: Iterable[str], size: int) -> int:
    """Return how many of the lines take at most ``size`` bytes together, at least 1."""
    count = 0
    for count, line in enumerate(lines):
        size -= _size(line)
        if size < 0:
            return max(count, 1)
    return count + 1
