"""Replay: an attempt's output comes again from its first line; what is logged of it is left out."""

from collections import deque
from collections.abc import Sequence

from ..job_log import OWN


def beginning(label: str) -> str:
    """Return what the line says that is logged once per attempt, when that begins."""
    return f"{OWN}Building on {label}: "


class Replay:
    """Compares with what was logged since the attempt began, until there is a difference."""

    def __init__(self, logged: Sequence[str], label: str) -> None:
        """Take the log of the whole job and the builder's label."""
        begin = beginning(label)
        starts = [index for index, line in enumerate(logged) if line.startswith(begin)]
        self._known = deque(logged[starts[-1] + 1 :] if starts else ())

    def news(self, lines: Sequence[str]) -> Sequence[str]:
        """Return those lines that are not in the log yet."""
        for index, line in enumerate(lines):
            while self._known and self._known[0] != line and self._known[0].startswith(OWN):
                self._known.popleft()
            if not self._known or self._known[0] != line:
                # From the first difference on all is new.
                self._known.clear()
                return lines[index:]
            self._known.popleft()
        return ()
