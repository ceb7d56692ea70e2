"""Free ports, and which process listens on one."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
import random
import socket

# Below what Linux hands out for outgoing connections, so that none takes the port by chance
# between the moment it is picked and the moment it is bound.
_CANDIDATES = range(20_000, 32_000)
_LISTENING = "0A"


def is_free(port: int) -> bool:
    """Return whether ``port`` can be bound on every address."""
    with socket.socket() as probe:
        # As servers do; else the remains of closed connections count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def pick(count: int = 1, *, preferred: Iterable[int] = (), avoid: Iterable[int] = ()) -> list[int]:
    """Return ``count`` free ports, the ``preferred`` ones first."""
    skip = set(avoid)
    shuffled = random.sample(_CANDIDATES, len(_CANDIDATES))
    chosen: list[int] = []
    for port in [*preferred, *shuffled]:
        if len(chosen) == count:
            break
        if port not in skip and is_free(port):
            chosen.append(port)
            skip.add(port)
    if len(chosen) < count:
        raise OSError("no free port")
    return chosen


def is_taken_by(port: int, pid: int) -> bool:
    """Return whether the process ``pid`` itself listens on ``port`` (IPv4 or IPv6)."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in inodes:
                    return True
    return False
