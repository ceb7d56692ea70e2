"""Ender: a process that ends all that a contained command started, at one blow.

Looking for processes and ending what was found loses against a build whose processes fork and
exit all the time: each is gone before its turn comes. ``kill(-1)`` misses none, since the kernel
lets no process fork meanwhile, and Landlock keeps it to those in the domain of who calls it.
"""

import os
import signal

from . import landlock

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DomainKiller:
    """Shared by the launcher, who makes it before it forks, and the command to be.

    It waits until it is told, or until the launcher is gone.
    """

    def __init__(self) -> None:
        """Open the pipes; nothing runs yet."""
        self.pid = 0
        self._told, self._tell = os.pipe()
        self._ready, self._say_ready = os.pipe()

    def fork(self, launcher: int) -> None:
        """Start it, out of reach of this process from then on. Raises OSError.

        To be called in the command to be, once its Landlock domain limits signals. It becomes a
        child of the launcher: commands would take notice of a child that they did not start.
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
        """Take notice of it, in the launcher, when the command runs or could not be started."""
        os.close(self._told)
        os.close(self._say_ready)
        self.pid = int(os.read(self._ready, 32) or 0)
        os.close(self._ready)

    def tell(self) -> None:
        """Have it end everything, and itself."""
        if self._tell >= 0:
            os.close(self._tell)
            self._tell = -1

    def _run(self, launcher: int) -> None:
        os.setsid()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        try:
            os.kill(launcher, 0)
        except PermissionError:
            pass
        else:
            # It would end far more than this command.
            return
        os.write(self._say_ready, str(os.getpid()).encode())
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        told = os.dup2(self._told, 3)
        # Of all pipes that others wait for the end of, the one to hear the launcher included.
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.read(told, 1)
        os.kill(-1, signal.SIGKILL)
