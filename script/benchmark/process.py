"""What a running Home Assistant uses, as the kernel accounts for it."""

from dataclasses import dataclass
from pathlib import Path
import re

import psutil

_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_RESET_HIGH_WATER = "5"


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process and of all of its descendants that have ended."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


@dataclass(frozen=True, slots=True)
class Growth:
    """How a process's memory grows at most, from the moment this was made by ``start``."""

    pid: int
    before: int

    @classmethod
    def start(cls, pid: int) -> Growth:
        """Begin to watch: forget the peak so far."""
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_HIGH_WATER, encoding="ascii")
        return cls(pid, psutil.Process(pid).memory_info().rss)

    def mb(self) -> float:
        """Return by how many MiB it was larger at its peak."""
        found = _HIGH_WATER.search(Path(f"/proc/{self.pid}/status").read_text(encoding="ascii"))
        assert found is not None
        return round(max(int(found[1]) * 1024 - self.before, 0) / 2**20, 1)
