"""How far a build is, from the rows in which its tools count."""

from dataclasses import dataclass
import math
import re

_ROWS = re.compile(
    rb"^[ ]*+\[[ ]*+(?P<step>\d{1,9})/(?P<steps>\d{1,9})\](?P<text>.{0,60}+)"  # ninja
    rb"|^[ ]*+\[[ ]*+(?P<make>\d{1,3})[ ]*+%[ ]*+\]"  # PlatformIO, cmake
    rb"|^(?P<file>(?:Compiling|Archiving|Indexing|Linking) )"  # PlatformIO without numbers
    # esptool 4 and 5. Percents in parentheses alone also end IDF's "0xd5f50 bytes (48%) free".
    rb"|(?:Writing at\b|^[ ]*+Uploading:)(?P<bar>[^%\n]{0,200}+)%"
    # ESPHome, PlatformIO, west.
    rb"|^[ ]*+(?:Downloading|Extracting|Unpacking|Receiving objects|Resolving deltas|Updating files)\b"
    rb"(?P<load>[^%\n]{0,200}+)%"
    rb"|^(?P<other>-- |Processing )",  # cmake, PlatformIO
    re.MULTILINE,
)
"""Possessive, and not far from where it begins: its time grows with the text and no faster."""
_PERCENT = re.compile(rb"(?<![\d.])(\d{1,3})(?:\.\d{1,3})?[ ]{0,3}\Z")
_SUB_BUILD_STARTS = b"Performing build step for"
_SUB_BUILD_ENDS = (b"Performing install step for", b"No install step for", b"Completed '")
_EXTERNAL = (b" step for '", b"Creating directories for '", b"Completed '")

_FRAME = 40
"""Steps of a build that, at most, does no more than to build others inside, as sysbuild does."""
_HALF_WAY = 250
"""Files of a build of which nothing is known: an estimate, with which it gets ever slower."""
_MOST = 99.0
"""A build is at its end when it has ended."""


@dataclass(slots=True)
class _Ninja:
    """A build that counts its steps, and its share of the whole, from ``start`` on, in percent."""

    start: float = 0.0
    share: float = 100.0
    step: int = 0
    steps: int = 0
    most: int = 0
    """The most steps that it has had; they get fewer when ninja finds outputs unchanged."""
    announced: bool = False
    """A build inside of it was announced."""
    frame: bool = False
    """It does no more than to build others inside."""

    @property
    def percent(self) -> float:
        return self.start + self.share * min(1.0, self.step / self.steps if self.steps else 0.0)


class BuildProgress:
    """Follows the rows of all tools. ``files`` is how many a build like this had, if known."""

    def __init__(self, files: int | None = None) -> None:
        self.percent: float | None = None
        self.loading: float | None = None
        """How far the tools are downloaded and unpacked; None while something else is done."""
        self.files = 0
        """Files that PlatformIO has said it compiles."""
        self._expected = files
        self._ninjas = [_Ninja()]
        self._bar = 0.0
        self._bars = 0

    def read(self, block: bytes) -> None:
        """Read whole rows, each of which ends with a line feed or is the last one."""
        for found in _ROWS.finditer(block):
            if (bar := found["load"]) is not None:
                if (percent := _percent(bar)) is not None:
                    self._load(percent)
                continue
            self.loading = None
            if found["steps"]:
                self._step(int(found["step"]), int(found["steps"]), found["text"])
            elif found["file"]:
                self._file()
            elif found["make"]:
                self._advance(float(min(int(found["make"]), 100)))
            elif found["bar"] and (percent := _percent(found["bar"])) is not None:
                # An upload, which may begin again.
                self.percent = percent

    def expect(self, files: int) -> None:
        """Take the number of files of a build that is like this one."""
        self._expected = self._expected or files

    def _load(self, percent: float) -> None:
        """Take a row of one of several downloads; nobody says how many: each takes half of the rest."""
        if self.percent is not None:
            return
        if self._bars == 0 or percent < self._bar:
            self._bars += 1
        self._bar = percent
        left = 100.0 / 2.0**self._bars
        self.loading = min(100.0 - left * (2.0 - percent / 100.0), _MOST)

    def _advance(self, percent: float) -> None:
        self.percent = max(percent, self.percent or 0.0)

    def _file(self) -> None:
        self.files += 1
        if self._expected:
            percent = 100.0 * self.files / self._expected
        else:
            percent = 100.0 * (1.0 - math.exp(-self.files / _HALF_WAY))
        self._advance(min(percent, _MOST))

    def _step(self, step: int, steps: int, text: bytes) -> None:
        if steps == 0:
            return
        ninja = self._builds(step, steps, text)
        # Much fewer steps than before are those of a sub-build that was not announced.
        if steps * 10 < ninja.most * 9:
            return
        ninja.step, ninja.steps, ninja.most = step, steps, max(ninja.most, steps)
        ninja.frame |= ninja.most <= _FRAME and any(word in text for word in _EXTERNAL)
        if not ninja.frame or step == steps:
            self._advance(ninja.percent)
        ninja.announced = _SUB_BUILD_STARTS in text

    def _builds(self, step: int, steps: int, text: bytes) -> _Ninja:
        """Return the build that counts so: the innermost, one around it, or a new one inside."""
        ends = any(end in text for end in _SUB_BUILD_ENDS)
        innermost = self._ninjas[-1]
        if (
            innermost.announced
            and not ends
            and (steps != innermost.steps or step <= innermost.step)
        ):
            inside = self._inside(innermost, steps)
            self._ninjas.append(inside)
            return inside
        if len(self._ninjas) > 1 and (ends or steps != innermost.steps):
            around = self._ninjas[-2]
            if ends or steps == around.steps:
                self._ninjas.pop()
                return around
        return self._ninjas[-1]

    def _inside(self, around: _Ninja, steps: int) -> _Ninja:
        """Return a build inside of a step of another; of one that does nothing else, most of it."""
        if around.frame:
            start = self.percent or around.start
            left = around.start + around.share - start
            return _Ninja(start, left * steps / (steps + _HALF_WAY))
        return _Ninja(around.percent, around.share / max(around.steps, 1))


def _percent(bar: bytes) -> float | None:
    """Return the number at the end of a progress bar."""
    found = _PERCENT.search(bar)
    return None if found is None else float(min(int(found[1]), 100))
