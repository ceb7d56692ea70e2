"""Find the processes below one in /proc and end them, without mistaking one for another.

Only what the kernel says of a process counts: its parent and its start time. A process's
environment, arguments and name are its own to write.
"""
# ruff: noqa: PTH123, PTH208
# Without pathlib, because every command pays for the start of the launcher.

import os
import signal
import time

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL; ninja and gcc use them to remove half-written files."""

LAST_RESORT = 0.5
"""Seconds of SIGKILL to what was found, before all processes of a guest's user are killed."""

POLL = 0.05
"""Seconds between two searches for processes that are left."""

type Identity = tuple[int, str]
"""A process that cannot be mistaken for a later one with the same pid: pid, start time."""


def _stat(pid: int) -> tuple[int, str] | None:
    """Return parent and start time of a process; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name is in parentheses and may hold any character, also ")".
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[1]), fields[19].decode()


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
        if stat is None or stat[1] != start:
            return
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        if handle >= 0:
            os.close(handle)


def descendants(ancestor: int) -> list[Identity]:
    """Return all processes below one, also those that have ended but were not reaped yet."""
    children: dict[int, list[Identity]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            children.setdefault(stat[0], []).append((int(name), stat[1]))
    found: list[Identity] = []
    parents = [ancestor]
    while parents:
        for child in children.pop(parents.pop(), ()):
            found.append(child)
            parents.append(child[0])
    return found


def kill_all_of(user: int) -> None:
    """Kill all processes of a guest's user in one step; only root can.

    Searching for processes and killing what was found loses against processes that fork and exit
    all the time. ``kill(-1)`` misses none, since the kernel lets no process fork meanwhile.
    """
    killer = os.fork()
    if killer == 0:
        try:
            # Nobody else has that real and saved user, so what is killed cannot kill it first.
            os.setresuid(user + 1, user, user + 1)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(killer, 0)


class Ending:
    """SIGTERM to each process once, SIGKILL to all from ``GRACE`` seconds on.

    What has a ``user`` of its own is killed with all of that user's if that does not end it.
    """

    def __init__(self, user: int | None = None) -> None:
        self._user = user
        self._terminated: set[Identity] = set()
        self._since = time.monotonic()

    @property
    def killing(self) -> bool:
        """Whether the time to end by themselves is over."""
        return time.monotonic() - self._since >= GRACE

    def send(self, processes: list[Identity]) -> None:
        """Send each the signal that is due; call it again until no process is left."""
        killing = self.killing
        for process in processes:
            if killing:
                _send(process, signal.SIGKILL)
            elif process not in self._terminated:
                _send(process, signal.SIGTERM)
                self._terminated.add(process)
        if self._user is not None and time.monotonic() - self._since >= GRACE + LAST_RESORT:
            kill_all_of(self._user)
