"""CPU time and memory of a running Home Assistant, as the kernel accounts for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import re

import psutil

from tests.e2e.harness.builder import Builder
from tests.e2e.harness.pair import Pair

SIDES = ("offloader", "builder")

_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_RESET_HIGH_WATER = "5"


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process and of all of its descendants, living and ended."""
    process = psutil.Process(pid)
    return _own(process) + sum(map(_own, process.children(recursive=True)))


def _own(process: psutil.Process) -> float:
    """Return what the kernel has accounted to a process: its own, and what it has waited for."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        # It ended meanwhile, so what it used counts for its parent now.
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@dataclass(frozen=True, slots=True)
class Growth:
    """The most by which a process's memory grows after ``start``."""

    pid: int
    before: int

    @classmethod
    def start(cls, pid: int) -> Growth:
        """Reset the peak so far."""
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_HIGH_WATER, encoding="ascii")
        return cls(pid, psutil.Process(pid).memory_info().rss)

    def mb(self) -> float:
        """Return the MiB by which it was larger at its peak."""
        found = _HIGH_WATER.search(Path(f"/proc/{self.pid}/status").read_text(encoding="ascii"))
        assert found is not None
        return round(max(int(found[1]) * 1024 - self.before, 0) / 2**20, 1)


@contextmanager
def growth(pair: Pair[Builder]) -> Iterator[dict[str, float]]:
    """Yield a dict that afterwards holds the MiB by which each instance grew at most."""
    instances = zip(SIDES, (pair.offloader.instance, pair.builder.instance), strict=True)
    growing = {side: Growth.start(instance.pid) for side, instance in instances}
    grown: dict[str, float] = {}
    yield grown
    grown.update({side: each.mb() for side, each in growing.items()})
