"""Run one command so that nothing of it outlives this program or the one that started it.

``main`` runs in a Python of its own, started with ``-I -S``. Standard input is a control pipe:
one JSON object on one line says what to run (``Spec``), and after that its end, or any further
byte, ends everything. So do SIGTERM, SIGINT, SIGHUP and the death of the program that started
this one. Whatever is still there when the command itself has ended is ended too, also what left
the session or was orphaned.

It is two processes: the launcher starts the command, the guard started the launcher. Both are
subreapers, and either ends everything when the other is killed. Both hold the locks, so a lock is
free only when nothing of the command is left: the kernel says so, not anything a command can
write.

The command writes to standard output; standard error carries one JSON object when all is over:
``{"exit_code", "signal", "terminated", "out_of_memory"}``, or ``{"error", "message"}`` with
"spec", "lock" or "start" when nothing was run.
"""
# ruff: noqa: PTH103, PTH116, PTH120, SIM105
# Without pathlib and contextlib, because every command pays for the start of this program.

from __future__ import annotations

from collections.abc import Callable
import ctypes
import fcntl
from functools import partial
import json
import os
import select
import signal
import time

from .descendants import POLL, Ending, descendants
from .oom import oom_kills, set_oom_score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .domain_killer import DomainKiller

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Python ignores the last two, and what is ignored stays ignored across exec.
_DEFAULTED_SIGNALS = (
    *_ENDING_SIGNALS,
    signal.SIGQUIT,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)
_LOCK_POLL = 0.05

_ENDED_BEFORE_START: dict[str, object] = {
    "exit_code": 128 + signal.SIGTERM,
    "signal": int(signal.SIGTERM),
    "terminated": True,
    "out_of_memory": False,
}


class LauncherError(Exception):
    """A command that was not run; ``kind`` is "spec", "lock" or "start"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Spec:
    """A command to run, and its limits.

    A missing or unknown key is refused: no limit may be left out because it is not known here.
    """

    def __init__(
        self,
        *,
        argv: list[str],
        cwd: str,
        env: dict[str, str],
        nice: int,
        oom_score_adj: int,
        lock_path: str | None,
        lock_timeout: float,
        lease_path: str | None,
        containment: dict[str, Any] | None,
    ) -> None:
        """Paths are absolute, ``lock_timeout`` is in seconds.

        ``lock_path`` is locked for this command alone, ``lease_path`` together with others.
        ``containment`` holds the arguments of ``confinement.contain``; None: not contained.
        """
        self.argv = argv
        self.cwd = cwd
        self.env = env
        self.nice = nice
        self.oom_score_adj = oom_score_adj
        self.lock_path = lock_path
        self.lock_timeout = lock_timeout
        self.lease_path = lease_path
        self.contain: Callable[[], bool] | None = None
        self.killer: DomainKiller | None = None
        self.user: int | None = None
        if containment is not None:
            # Here, because only builds of guests pay for it.
            from .confinement import contain  # noqa: PLC0415
            from .domain_killer import DomainKiller  # noqa: PLC0415

            self.contain = partial(contain, **containment)
            self.killer = DomainKiller()
            self.user = containment["uid"]

    @classmethod
    def parse(cls, line: bytes) -> Spec:
        """Read one JSON object."""
        try:
            return cls(**json.loads(line))
        except (TypeError, ValueError, KeyError) as error:
            raise LauncherError("spec", str(error)) from error


class Launcher:
    """The run of one command, from its spec to its report."""

    def __init__(self, execute: Callable[[Spec], object] | None = None) -> None:
        """``execute`` turns a process into the command, and never returns; else that is exec."""
        self._execute = execute or _execute
        self._ending = False
        self._status: int | None = None
        self._main = 0
        self._killer: DomainKiller | None = None
        self._user: int | None = None
        self._prctl = ctypes.CDLL(None).prctl
        self._prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
        if os.getsid(0) != os.getpid():
            os.setsid()
        self._watched = [0]
        try:
            # The control pipe alone is not enough: a fork of the parent may hold its other end.
            self._watched.append(os.pidfd_open(os.getppid()))
        except OSError:
            pass
        self._listen()
        for number in _ENDING_SIGNALS:
            signal.signal(number, self._on_ending_signal)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def run(self) -> dict[str, object] | None:
        """Run the command and return the report; None in the guard, if the launcher wrote it."""
        line = self._read_line()
        if line is None:
            return _ENDED_BEFORE_START
        spec = Spec.parse(line)
        self._user = spec.user
        if not self._lock(spec.lease_path, fcntl.LOCK_SH, spec.lock_timeout) or not self._lock(
            spec.lock_path, fcntl.LOCK_EX, spec.lock_timeout
        ):
            return _ENDED_BEFORE_START
        guard = os.getpid()
        launcher = os.fork()
        return self._guard(launcher, spec.killer) if launcher else self._launch(spec, guard)

    def _guard(self, launcher: int, killer: DomainKiller | None) -> dict[str, object] | None:
        """Wait for the launcher; end everything if it was killed."""
        self._main = launcher
        # Control pipe and parent are the launcher's to watch, the output is the command's to end.
        self._watched = []
        _to_null(1)
        if killer is not None:
            killer.release()
        while self._status is None:
            if self._ending:
                # It is not reaped yet, so the pid is its own.
                os.kill(launcher, signal.SIGTERM)
            self._wait(None)
            self._reap()
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            return None
        self._end_descendants()
        return {
            "exit_code": 128 - code,
            "signal": -code,
            "terminated": True,
            "out_of_memory": False,
        }

    def _launch(self, spec: Spec, guard: int) -> dict[str, object]:
        """Run the command, ended early if told to or if the guard is killed."""
        self._listen()
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != guard:
            return _ENDED_BEFORE_START
        killed_before = oom_kills()
        self._start(spec)
        while self._status is None and not self._ending:
            self._wait(None)
            self._reap()
        terminated = self._status is None
        self._end_descendants()
        code = os.waitstatus_to_exitcode(self._status or 0)
        return {
            "exit_code": 128 - code if code < 0 else code,
            "signal": -code if code < 0 else None,
            "terminated": terminated,
            "out_of_memory": not terminated and code != 0 and oom_kills() > killed_before,
        }

    def _listen(self) -> None:
        """Receive signals, and adopt orphans below, in this process."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._wake, wakeup = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def _on_ending_signal(self, _number: int, _frame: object) -> None:
        self._ending = True

    def _read_line(self) -> bytes | None:
        line = b""
        while b"\n" not in line:
            self._wait(None, ending=False)
            chunk = b"" if self._ending else os.read(0, 65536)
            if not chunk:
                return None
            line += chunk
        line, _, more = line.partition(b"\n")
        return None if more else line

    def _wait(self, timeout: float | None, *, ending: bool = True) -> None:
        """Wait for a signal, the end of the control pipe or of the parent, or the timeout."""
        watched = [self._wake] if self._ending else [self._wake, *self._watched]
        ready = select.select(watched, (), (), timeout)[0]
        if self._wake in ready:
            os.read(self._wake, 4096)
        if (ending and 0 in ready) or (set(ready) - {0, self._wake}):
            self._ending = True

    def _lock(self, path: str | None, kind: int, timeout: float) -> bool:
        """Lock a file until this program and its forks end; False when told to end meanwhile."""
        if path is None:
            return True
        give_up = time.monotonic() + timeout
        os.makedirs(os.path.dirname(path), exist_ok=True)
        while not self._ending:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
                # Who held it may have removed the file; another one is then locked by now.
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return True
            except (BlockingIOError, FileNotFoundError):
                pass
            os.close(handle)
            if time.monotonic() >= give_up:
                raise LauncherError("lock", f"{path} is in use")
            self._wait(_LOCK_POLL)
        return False

    def _start(self, spec: Spec) -> None:
        failed, failure = os.pipe()
        # A signal that comes between fork and exec must meet no handler of this program.
        signal.pthread_sigmask(signal.SIG_BLOCK, _DEFAULTED_SIGNALS)
        launcher = os.getpid()
        self._main = os.fork()
        if self._main == 0:
            try:
                self._become(spec, launcher)
            except BaseException as error:  # noqa: BLE001 - nothing may return from the child
                os.write(failure, str(error).encode())
            finally:
                os._exit(127)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _DEFAULTED_SIGNALS)
        os.close(failure)
        # From here on only the command holds the output, so its end is the end of the output.
        _to_null(1)
        message = os.read(failed, 4096)
        os.close(failed)
        if spec.killer is not None:
            self._killer = spec.killer
            self._killer.forked()
        if message:
            self._end_descendants()
            raise LauncherError("start", message.decode(errors="replace"))

    def _become(self, spec: Spec, launcher: int) -> None:
        """Turn the forked child into the command; limits of any kind are set here."""
        self._end_with(launcher)
        os.setsid()
        for number in _DEFAULTED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.nice(spec.nice)
        set_oom_score(spec.oom_score_adj)
        # What one command makes others may have to read: a toolchain, the builds of guests.
        os.umask(0o022)
        os.chdir(spec.cwd)
        _to_null(0)
        os.dup2(1, 2)
        if spec.contain is not None:
            if spec.contain() and spec.killer is not None:
                spec.killer.fork(launcher)
            # A change of user resets it.
            self._end_with(launcher)
        self._execute(spec)

    def _end_with(self, launcher: int) -> None:
        """Ask the kernel to kill this process when the launcher ends."""
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:
            os._exit(127)

    def _reap(self) -> bool:
        """Collect ended children and adopted orphans; return whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._main:
                self._status = status

    def _end_descendants(self) -> None:
        """End all processes below. None is left when there is no child: orphans come here."""
        ending = Ending(self._user)
        while self._reap():
            left = descendants(os.getpid())
            if self._killer is not None:
                left = [process for process in left if process[0] != self._killer.pid]
                if ending.killing or not left:
                    self._killer.trigger()
            ending.send(left)
            # Without the control pipe, which has done its work.
            if select.select([self._wake], (), (), POLL)[0]:
                os.read(self._wake, 4096)


def _to_null(standard: int) -> None:
    """Connect a standard descriptor to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, standard)
    os.close(null)


def _execute(spec: Spec) -> None:
    # It closes every other descriptor of this program.
    os.execvpe(spec.argv[0], spec.argv, spec.env)  # noqa: S606 - no shell is wanted


def main(execute: Callable[[Spec], object] | None = None) -> None:
    """Run as a program; never returns."""
    report: dict[str, object] | None
    try:
        report = Launcher(execute).run()
    except LauncherError as error:
        report = {"error": error.kind, "message": str(error)}
    except OSError as error:
        report = {"error": "start", "message": str(error)}
    try:
        if report is not None:
            os.write(2, json.dumps(report).encode())
    except BrokenPipeError:
        pass
    # Nothing is buffered or to be cleaned up, and taking the interpreter down costs time.
    os._exit(0)
