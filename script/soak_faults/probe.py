"""What is looked at from outside, and by the hook in each Python: clock, tasks, memory, files."""

import asyncio
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import re
import signal

import psutil

from tests.e2e.harness.client import Json
from tests.e2e.harness.waiting import until

HOOK = Path(__file__).with_name("hook")
_ANSWER = 30.0
_SHOWN = 400
# A record of a log, with the traceback beneath it.
_RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\d |(?:INFO|WARNING|ERROR|CRITICAL)\b)", re.MULTILINE)
_PROBLEM = re.compile(
    r"^[-:., \d]*(ERROR|CRITICAL)|^[-:., \d]*WARNING ((?!\()|.*esphome_offload)|^Traceback|was never awaited",
    re.MULTILINE,
)
# What Home Assistant says at each start here, of packages and programs that are not there; and
# of the hook, which looks at files. How jobs end, and what is refused, is checked elsewhere.
_EXPECTED = (
    r"No module named",
    r"FFmpeg|ffmpeg",
    r"libturbojpeg",
    r"UnknownHandler",
    r"not been tested",
    r"sitecustomize",
    r"There is no ESPHome",
    r"jobs\.ledger\] Job \w+ \(.*\): failed",
)


@dataclass
class Probe:
    """One Python of the soak; ``folder`` is for what the hook reads and writes."""

    name: str
    folder: Path
    log: Path
    _number: int = 0
    _read: tuple[int, int] = (0, 0)
    memory: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What its process needs in its environment."""
        return {"PYTHONPATH": str(HOOK), "SOAK_HOOK": str(self.folder)}

    async def ask(self, pid: int, *, ahead: float = 0.0) -> Json:
        """Set how many seconds its clock is ahead, and return what it reports of itself."""
        self._number += 1
        wanted = {"ahead": ahead, "number": self._number}
        (self.folder / "wanted.json").write_text(json.dumps(wanted))
        os.kill(pid, signal.SIGUSR2)

        async def answered() -> Json | None:
            report = self.folder / "report.json"
            read = json.loads(report.read_text()) if report.exists() else {}
            return read if read.get("number") == self._number else None

        return await until(answered, f"the report of {self.name}", _ANSWER)

    def note_memory(self, pid: int) -> None:
        """Note what its process uses, in bytes."""
        self.memory.append(psutil.Process(pid).memory_info().rss)

    def new_problems(self, pid: int, said: tuple[str, ...]) -> list[str]:
        """Return the problems in its log since the last call, but for those that match ``said``."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        known, offset = self._read
        news = text[offset if known == pid and offset <= len(text) else 0 :]
        self._read = (pid, len(text))
        found = [record.strip() for record in _RECORD.split(news) if _PROBLEM.search(record)]
        return [
            _ends(each)
            for each in found
            if not any(re.search(rule, each) for rule in (*_EXPECTED, *said))
        ]


def _ends(record: str) -> str:
    """Return what a record begins and ends with."""
    return record if len(record) <= 2 * _SHOWN else f"{record[:_SHOWN]} … {record[-_SHOWN:]}"


def leftovers(cache: Path) -> list[str]:
    """Return the temporary files in the cache of an idle instance."""
    places = ("staging", "trash", "inbox")
    roots = [cache, *(cache / "guests").glob("*")]
    return [
        str(path.relative_to(cache))
        for root in roots
        for place in places
        for path in (root / place).rglob("*")
        if path.is_file()
    ]


def sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(each.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


async def pause(seconds: float) -> None:
    """Let time pass: a moment that the seed chose."""
    await asyncio.sleep(seconds)
