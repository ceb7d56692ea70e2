"""The resources of this machine: kind of system, free memory, free disk."""

from dataclasses import dataclass
from pathlib import Path
import platform
import shutil
import sys

from ..const import MIB, FailureReason
from ..libc import is_musl
from ..reason import Reason, ReasonKey
from .model import BuildError

MEMORY_MIB = 400
"""The largest of ESPHome's files takes g++ about 300 MiB, and ESPHome itself 100."""
DISK_MIB = 1024
"""A toolchain takes about 250 MiB, a tree of an ESP8266 or host device a few hundred.

The tools of ESP-IDF take about 6 GiB more, once. Whether a configuration needs them, only ESPHome
can tell; when they do not fit, it says so.
"""


@dataclass(frozen=True, slots=True)
class Resources:
    """Free resources, in MiB; None when unknown."""

    memory_mib: int | None
    disk_mib: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """The places where resources are read; other paths in tests."""

    cache: Path
    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")

    def read(self) -> Resources:
        """Look at what is free; blocks."""
        free = [mib for mib in (self._available(), *self._limits()) if mib is not None]
        return Resources(memory_mib=min(free, default=None), disk_mib=_disk_mib(self.cache))

    def _available(self) -> int | None:
        return _field(self.proc / "meminfo", "MemAvailable:", 1024)

    def _limits(self) -> list[int | None]:
        """Return what each control group around us leaves, the innermost first."""
        try:
            lines = (self.proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        inner = next((line[3:].strip("/") for line in lines if line.startswith("0::")), None)
        if inner is None:
            return []
        groups = (Path(inner), *Path(inner).parents)
        return [self._group_free(self.cgroup / group) for group in groups]

    @staticmethod
    def _group_free(group: Path) -> int | None:
        try:
            limit = int((group / "memory.max").read_text(encoding="ascii"))
            used = int((group / "memory.current").read_text(encoding="ascii"))
        except OSError, ValueError:
            # No such controller, or "max".
            return None
        # Cached files count as used but give way.
        cached = _field(group / "memory.stat", "inactive_file", 1)
        return max(0, limit - used) // MIB + (cached or 0)


def check(resources: Resources) -> None:
    """Raise BuildError (builder_environment) when there is too little for any build."""
    for free, needed, key in (
        (resources.memory_mib, MEMORY_MIB, ReasonKey.MEMORY_LOW),
        (resources.disk_mib, DISK_MIB, ReasonKey.DISK_LOW),
    ):
        if free is not None and free < needed:
            raise BuildError(
                FailureReason.BUILDER_ENVIRONMENT,
                Reason(key, {"free": str(free), "needed": str(needed)}),
            )


def why_not_here() -> Reason | None:
    """Return why this kind of system cannot compile for any device; None when it can."""
    if sys.platform != "linux":
        return Reason(ReasonKey.NOT_LINUX, {"system": platform.system()})
    if is_musl():
        return Reason(ReasonKey.NOT_GLIBC)
    return None


def free_disk(folder: Path) -> int:
    """Return how many bytes are free where a folder is or will be. Blocks; raises OSError."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _disk_mib(folder: Path) -> int | None:
    try:
        return free_disk(folder) // MIB
    except OSError:
        return None


def _field(path: Path, name: str, unit: int) -> int | None:
    """Return the number behind a name, counted in ``unit`` bytes, in MiB."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next(
            (int(line.split()[1]) * unit // MIB for line in lines if line.startswith(name)), None
        )
    except OSError, ValueError, IndexError:
        return None
