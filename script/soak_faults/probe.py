"""What is looked at from outside, and by the hook in each Python: clock, tasks, memory, files."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import re
import signal

import psutil

from tests.e2e.harness.client import Json

HOOK = Path(__file__).with_name("hook")
_ANSWER = 30.0
_LOOK = 0.02
_OPEN = psutil.CONN_ESTABLISHED
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
    r"sitecustomize|/hook-\w+/",
    r"There is no ESPHome",
    r"jobs\.transition_log\] Job \w+ \(.*\): failed",
    r"jobs\.transition_log\] More jobs in the last minute: ",
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

        report = self.folder / "report.json"
        async with asyncio.timeout(_ANSWER):
            while True:
                await asyncio.sleep(_LOOK)
                read = json.loads(report.read_text()) if report.exists() else {}
                if read.get("number") == self._number:
                    return read

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
        return [_ends(each) for each in found if not is_about(each, said)]


def is_about(record: str, said: tuple[str, ...]) -> bool:
    """Return whether a record is what is said at each start, or about a fault.

    No fault is a reason for an error of ours that nobody has thought of.
    """
    if any(re.search(rule, record) for rule in _EXPECTED):
        return True
    is_unexpected = "Traceback" in record and "esphome_offload" in record
    return not is_unexpected and any(re.search(rule, record) for rule in said)


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


def sockets(pid: int) -> Counter[str]:
    """Return the sockets of a process by what they are, but those of our own questions to it.

    And but those to Pythons that have ESPHome imported: they are gone after some minutes.
    """
    ours = {
        each.laddr.port for each in psutil.Process().net_connections("tcp") if each.status == _OPEN
    }
    process = psutil.Process(pid)
    found: Counter[str] = Counter()
    all_of_it = process.net_connections("all")
    listening = {each.laddr.port for each in all_of_it if each.status == psutil.CONN_LISTEN}
    for each in all_of_it:
        kind = f"{each.family.name} {each.type.name} {each.status}"
        if each.status == _OPEN and each.laddr.port in listening:
            if each.raddr.port in ours:
                continue
            kind += " from outside"
        elif each.status == _OPEN:
            kind += f" to {each.raddr.port}"
        found[kind] += 1
    found["AF_UNIX SOCK_SEQPACKET NONE"] -= _warm(process)
    return +found


def _warm(process: psutil.Process) -> int:
    return sum("launcher.warm" in " ".join(each.cmdline()) for each in process.children())


async def pause(seconds: float) -> None:
    """Let time pass: a moment that the seed chose."""
    await asyncio.sleep(seconds)
