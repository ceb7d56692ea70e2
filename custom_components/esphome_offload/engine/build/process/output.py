"""From the bytes that ESPHome's tools print to lines and progress."""

import re

from ...job_log import LINE_LIMIT

_ESCAPES = re.compile(rb"(?:\x1b|\\033)\[[0-?]*+[ -/]*+[@-~]|\x1b\][^\x07\x1b]*+(?:\x07|\x1b\\)")
r"""Colours and the like. ``esphome --dashboard`` prints the escape character as ``\033``."""

_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
"""What the output may quote from a configuration; in a log it rings, or makes the file binary."""

_PROGRESS = re.compile(
    rb"^[ ]*+\[[ ]*+(?P<step>\d{1,9})/(?P<steps>\d{1,9})\](?P<text>.{0,40}+)"  # ninja
    rb"|^[ ]*+\[[ ]*+(?P<make>\d{1,3})[ ]*+%[ ]*+\]"  # PlatformIO, cmake
    # esptool 4 and 5. Percents in parentheses alone also end IDF's "0xd5f50 bytes (48%) free".
    rb"|(?:Writing at\b|^[ ]*+Uploading:)(?P<bar>[^%\n]{0,200}+)%",
    re.MULTILINE,
)
"""Possessive, and not far from where it begins: its time grows with the text and no faster."""
_PERCENT = re.compile(rb"(?<![\d.])(\d{1,3})(?:\.\d{1,3})?[ ]{0,3}\Z")
_SUB_BUILD_STARTS = b"Performing build step for"
_SUB_BUILD_ENDS = (b"Performing install step for", b"No install step for", b"Completed '")

_LONGEST_LINE = 4 * LINE_LIMIT
"""Bytes of a line that are kept; the rest of its characters would not be shown anyway."""


class OutputParser:
    """Cuts output into lines, without control characters, and finds progress in it.

    Each line has at most ``LINE_LIMIT`` characters. A progress bar, drawn over and over on one
    row with carriage returns, gives one line: its last state. A piece of output costs time in
    proportion to its size, whatever came before it.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._steps = 0
        self._outer_steps: int | None = None
        self._percent: float | None = None

    def feed(self, data: bytes) -> tuple[list[str], float | None]:
        """Take the next bytes; return the lines that they finish and the progress.

        Progress is 0 to 100, None when it is what it was.
        """
        before = self._percent
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
        self._pending = pending[:_LONGEST_LINE]
        return lines, self._percent if self._percent != before else None

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
        return [_last_state(line)[:LINE_LIMIT] for line in lines]

    def _find_progress(self, block: bytes) -> None:
        for found in _PROGRESS.finditer(block):
            if found["steps"]:
                self._step(int(found["step"]), int(found["steps"]), found["text"])
            elif (percent := found["make"] or _percent(found["bar"])) is not None:
                self._percent = float(min(int(percent), 100))

    def _step(self, step: int, steps: int, text: bytes) -> None:
        """Follow the outermost ninja; the IDF builds its bootloader with another one inside."""
        if self._outer_steps is not None:
            if steps != self._outer_steps and not any(end in text for end in _SUB_BUILD_ENDS):
                return
            self._outer_steps = None
        # The number of steps shrinks a little when ninja finds outputs unchanged. One that is
        # much smaller is a sub-build that was not announced.
        if steps == 0 or steps * 10 < self._steps * 9:
            return
        self._steps = max(self._steps, steps)
        self._percent = min(100.0, 100.0 * step / steps)
        if _SUB_BUILD_STARTS in text:
            self._outer_steps = steps


def _percent(bar: bytes) -> bytes | None:
    """Return the number at the end of a progress bar."""
    found = _PERCENT.search(bar)
    return None if found is None else found[1]


def _last_state(line: str) -> str:
    """Return what a terminal would show in the end, taking each state as a whole row."""
    if "\r" not in line:
        return line
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")
