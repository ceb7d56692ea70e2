"""DomainKiller: a process that kills everything a contained command started in one step.

Searching for processes and killing what was found loses against a build whose processes fork and
exit all the time: each has ended before its turn comes. ``kill(-1)`` misses none, since the kernel
lets no process fork meanwhile, and Landlock limits it to the domain of the caller.
"""

import os
import signal

from . import landlock

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DomainKiller:
    """Shared by the launcher, which makes it before it forks, and the command to be.

    It waits until it is triggered, or until the launcher has ended.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._triggered, self._trigger = os.pipe()
        self._ready, self._report_ready = os.pipe()

    def fork(self, launcher: int) -> None:
        """Start it, out of reach of this process from then on. Raises OSError.

        Call it in the command to be, once its Landlock domain limits signals. It becomes a child
        of the launcher: commands would notice a child that they did not start.
        """
        between = os.fork()
        if between == 0:
            try:
                if os.fork() == 0:
                    self._run(launcher)
            finally:
                os._exit(0)
        os.waitpid(between, 0)
        landlock.limit_signals()

    def forked(self) -> None:
        """Learn its pid, in the launcher, when the command runs or could not be started."""
        os.close(self._triggered)
        os.close(self._report_ready)
        self.pid = int(os.read(self._ready, 32) or 0)
        os.close(self._ready)

    def release(self) -> None:
        """Close the pipes in a process that has no part in this: their end would not be noticed."""
        for handle in (self._triggered, self._trigger, self._ready, self._report_ready):
            os.close(handle)

    def trigger(self) -> None:
        """Kill everything in the domain, itself included."""
        if self._trigger >= 0:
            os.close(self._trigger)
            self._trigger = -1

    def _run(self, launcher: int) -> None:
        os.setsid()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        try:
            os.kill(launcher, 0)
        except PermissionError:
            pass
        else:
            # It would kill far more than this command.
            return
        os.write(self._report_ready, str(os.getpid()).encode())
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        triggered = os.dup2(self._triggered, 3)
        # Of all pipes whose end others wait for, including the trigger's.
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.read(triggered, 1)
        os.kill(-1, signal.SIGKILL)
