"""Find processes in /proc and end them, without mistaking one for another."""
# ruff: noqa: PTH123, PTH208
# Without pathlib, because every command pays for the start of the launcher.

import os
import signal
import time

TREE_VARIABLE = "ESPHOME_OFFLOAD_TREE"
"""Set for every command: the path of its lock, else its working directory."""
OWNERS_VARIABLE = "ESPHOME_OFFLOAD_OWNERS"
"""Set for every command: the launcher and what started it, each as ``pid:start time``."""

_MARKS = (TREE_VARIABLE.encode(), OWNERS_VARIABLE.encode())

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL; ninja and gcc use them to remove half-written files."""
GIVE_UP = 5.0
"""Seconds after which a sweep leaves what even SIGKILL did not end (uninterruptible sleep)."""

WALK_POLL = 0.05
"""Seconds between two looks at what is left."""

type Identity = tuple[int, str]
"""A process that cannot be mistaken for a later one with the same pid: pid, start time."""


def _stat(pid: int) -> tuple[str, int, str] | None:
    """Return state, parent and start time of a process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name is in parentheses and may hold any character, also ")".
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), fields[19].decode()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def identity(pid: int) -> str:
    """Return ``pid:start time``."""
    stat = _stat(pid)
    return f"{pid}:{stat[2] if stat else 0}"


def _alive(identity: str) -> bool:
    pid, _, start = identity.partition(":")
    stat = _stat(int(pid))
    return stat is not None and stat[2] == start and stat[0] not in "ZX"


def _send(process: Identity, number: int) -> None:
    """Signal a process, and never a later one that was given its pid."""
    pid, start = process
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:
        # No pidfd here (an old kernel, a seccomp filter): the moment between check and signal
        # is then the best there is.
        handle = -1
    try:
        stat = _stat(pid)
        if stat is None or stat[2] != start:
            return
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError, PermissionError:
        return
    finally:
        if handle >= 0:
            os.close(handle)


def descendants(ancestor: int) -> list[Identity]:
    """Return all processes below one, also those that have ended but were not reaped yet."""
    children: dict[int, list[Identity]] = {}
    for pid in _pids():
        if stat := _stat(pid):
            children.setdefault(stat[1], []).append((pid, stat[2]))
    found: list[Identity] = []
    parents = [ancestor]
    while parents:
        for child in children.pop(parents.pop(), ()):
            found.append(child)
            parents.append(child[0])
    return found


class Ending:
    """SIGTERM to each process once, SIGKILL to all from ``GRACE`` seconds on."""

    def __init__(self) -> None:
        """Start the clock."""
        self.told: set[Identity] = set()
        self.since = time.monotonic()

    @property
    def killing(self) -> bool:
        """Whether the time to end by themselves is over."""
        return time.monotonic() - self.since >= GRACE

    def send(self, processes: list[Identity]) -> None:
        """Send each what is due; to be called again and again until none is left."""
        killing = self.killing
        for process in processes:
            if killing:
                _send(process, signal.SIGKILL)
            elif process not in self.told:
                _send(process, signal.SIGTERM)
            self.told.add(process)


def _leftovers(root: str) -> list[Identity]:
    """Return the processes of commands below ``root`` that have lost one of their owners."""
    found: list[Identity] = []
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError:
            continue
        marks = dict(
            os.fsdecode(entry).partition("=")[::2] for entry in entries if entry.startswith(_MARKS)
        )
        tree = marks.get(TREE_VARIABLE, "")
        if tree != root and not tree.startswith(root.rstrip("/") + "/"):
            continue
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            continue
        if not all(map(_alive, marks.get(OWNERS_VARIABLE, "0:0").split(","))):
            found.append((pid, stat[2]))
    return found


def sweep(root: str) -> int:
    """End what commands below ``root`` (an absolute path) left behind; return how many.

    Left behind is a process whose launcher, or the program that started the launcher, is gone.
    Blocks up to ``GIVE_UP`` seconds.
    """
    ending = Ending()
    while left := _leftovers(root):
        ending.send(left)
        if time.monotonic() - ending.since > GIVE_UP:
            break
        time.sleep(WALK_POLL)
    return len(ending.told)
