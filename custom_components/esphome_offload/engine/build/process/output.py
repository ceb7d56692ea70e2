"""From the bytes that ESPHome's tools print to lines and progress."""

import re

_ESCAPES = re.compile(rb"(?:\x1b|\\033)\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
r"""Colours and the like. ``esphome --dashboard`` prints the escape character as ``\033``."""

_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
"""What the output may quote from a configuration; in a log it rings, or makes the file binary."""

_PROGRESS = re.compile(
    rb"^[ ]*\[[ ]*(?P<step>\d{1,9})/(?P<steps>\d{1,9})\](?P<text>.{0,40})"  # ninja
    rb"|^[ ]*\[[ ]*(?P<make>\d{1,3})[ ]*%[ ]*\]"  # PlatformIO, cmake
    # esptool 4 and 5. Percents in parentheses alone also end IDF's "0xd5f50 bytes (48%) free".
    rb"|Writing at\b.{0,200}?(?P<flash>\d{1,3})(?:\.\d{1,3})?[ ]{0,3}%"
    rb"|^[ ]*Uploading:.{0,200}?\b(?P<ota>\d{1,3})[ ]{0,3}%",
    re.MULTILINE,
)
"""Looks only so far from where it begins: else a line of 64 KiB, full of beginnings, took seconds."""
_SUB_BUILD_STARTS = b"Performing build step for"
_SUB_BUILD_ENDS = (b"Performing install step for", b"No install step for", b"Completed '")

_LONGEST_LINE = 64 * 1024
"""What prints no newline for longer than this is cut, so that memory stays bounded."""


class OutputParser:
    """Cuts output into lines, without control characters, and finds progress in it.

    A progress bar, drawn over and over on one row with carriage returns, gives one line: its
    last state.
    """

    def __init__(self) -> None:
        """Start before the first byte."""
        self._pending = b""
        self._steps = 0
        self._outer_steps: int | None = None
        self._percent: float | None = None

    def feed(self, data: bytes) -> tuple[list[str], float | None]:
        """Take the next bytes; return the lines that they finish and the progress.

        Progress is 0 to 100, None when it is what it was.
        """
        head, newline, tail = data.rpartition(b"\n")
        before = self._percent
        lines: list[str] = []
        if newline:
            lines = self._lines(self._pending + head)
            self._pending = tail
        else:
            self._pending += tail
        if b"\r" in self._pending:
            self._look(self._clean(self._pending).replace(b"\r", b"\n"))
            # Earlier states of a progress bar; a return at the end may yet become a line's end.
            start = self._pending.rfind(b"\r", 0, -1) + 1
            self._pending = self._pending[start:]
        if len(self._pending) > _LONGEST_LINE:
            lines += self._lines(self._pending)
            self._pending = b""
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
        if b"\r" not in block:
            self._look(block)
            return block.decode(errors="replace").split("\n")
        self._look(block.replace(b"\r", b"\n"))
        return [_last_state(line) for line in block.decode(errors="replace").split("\n")]

    def _look(self, block: bytes) -> None:
        for found in _PROGRESS.finditer(block):
            if found["steps"]:
                self._step(int(found["step"]), int(found["steps"]), found["text"])
            else:
                percent = int(found["make"] or found["flash"] or found["ota"])
                self._percent = float(min(percent, 100))

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


def _last_state(line: str) -> str:
    """Return what a terminal would show in the end, taking each state as a whole row."""
    if "\r" not in line:
        return line
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")
