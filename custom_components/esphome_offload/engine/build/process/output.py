"""From the bytes that ESPHome's tools print to lines and progress."""

import re

from ...job_log import LINE_LIMIT
from .build_progress import BuildProgress

_ESCAPES = re.compile(rb"(?:\x1b|\\033)\[[0-?]*+[ -/]*+[@-~]|\x1b\][^\x07\x1b]*+(?:\x07|\x1b\\)")
r"""Colours and the like. ``esphome --dashboard`` prints the escape character as ``\033``."""

_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
"""What the output may quote from a configuration; in a log it rings, or makes the file binary."""

_CUT = " … "
_LONGEST_LINE = 4 * LINE_LIMIT
"""Bytes of a line that are kept; the rest of its characters would not be shown anyway."""


class OutputParser:
    """Cuts output into lines, without control characters, and finds progress in it.

    Each line has at most ``LINE_LIMIT`` characters. A progress bar, drawn over and over on one
    row with carriage returns, gives one line: its last state. A piece of output costs time in
    proportion to its size, whatever came before it.
    """

    def __init__(self, progress: BuildProgress | None = None) -> None:
        """``progress`` reads along; without one nothing is known of builds like this."""
        self._pending = b""
        self._progress = progress or BuildProgress()

    def feed(self, data: bytes) -> tuple[list[str], float | None]:
        """Take the next bytes; return the lines that they finish and the progress.

        Progress is 0 to 100, None when it is what it was.
        """
        before = self._progress.percent
        lines: list[str] = []
        head, newline, data = data.rpartition(b"\n")
        if newline:
            lines = self._lines(self._pending + head)
            self._pending = b""
        pending = self._pending + data
        if b"\r" in pending:
            self._find_progress(self._clean(pending).replace(b"\r", b"\n"))
            # Earlier states of a progress bar; a return at the end may yet become a line's end.
            pending = pending[pending.rfind(b"\r", 0, -1) + 1 :]
        if len(pending) > _LONGEST_LINE:
            # What it says may stand at its end as well.
            pending = pending[: _LONGEST_LINE // 2] + pending[-_LONGEST_LINE // 2 :]
        self._pending = pending
        percent = self._progress.percent
        return lines, percent if percent != before else None

    def finish(self) -> list[str]:
        """Return the last line if no newline ended it."""
        pending, self._pending = self._pending, b""
        return self._lines(pending) if pending.strip() else []

    @staticmethod
    def _clean(block: bytes) -> bytes:
        if b"\x1b" in block or b"\\033" in block:
            block = _ESCAPES.sub(b"", block)
        return block.translate(None, _CONTROLS)

    def _lines(self, block: bytes) -> list[str]:
        block = self._clean(block)
        self._find_progress(block.replace(b"\r", b"\n"))
        lines = block.decode(errors="replace").split("\n")
        return [_clip(_last_state(line)) for line in lines]

    def _find_progress(self, block: bytes) -> None:
        self._progress.read(block)


def _last_state(line: str) -> str:
    """Return what a terminal would show in the end, taking each state as a whole row."""
    if "\r" not in line:
        return line
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")


def _clip(line: str) -> str:
    """Return a line of at most ``LINE_LIMIT`` characters: the beginning and the end of a longer one."""
    if len(line) <= LINE_LIMIT:
        return line
    return f"{line[: LINE_LIMIT // 2]}{_CUT}{line[-LINE_LIMIT // 2 + len(_CUT) :]}"
