"""Run one command so that nothing of it outlives this program or the one that started it.

Started as ``python -I -S launcher.py``, with the standard library only. Standard input is a
control pipe: one JSON object on one line says what to run (``Spec``), and after that its
end, or any further byte, ends everything. So do SIGTERM, SIGINT, SIGHUP and the death of the
program that started this one. Whatever is still there when the command itself has ended is
ended too, also what left the session or was orphaned: this program is its subreaper.

The command writes to standard output; standard error carries one JSON object when all is over:
``{"exit_code", "signal", "terminated", "out_of_memory"}``, or ``{"error", "message"}`` with
"spec", "lock" or "start" when nothing was run.
"""
# ruff: noqa: PTH103, PTH116, PTH120, PTH123, PTH208, SIM105
# Without pathlib and contextlib, because every command pays for the start of this program.

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time

TREE_VARIABLE = "ESPHOME_OFFLOAD_TREE"
"""Set for every command: the path of its lock, else its working directory."""
OWNERS_VARIABLE = "ESPHOME_OFFLOAD_OWNERS"
"""Set for every command: the launcher and what started it, each as ``pid:start time``."""

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL; ninja and gcc use them to remove half-written files."""
GIVE_UP = 5.0
"""Seconds after which a sweep leaves what even SIGKILL did not end (uninterruptible sleep)."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Python ignores the last two, and what is ignored stays ignored across exec.
_DEFAULTED_SIGNALS = (*_ENDING_SIGNALS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
_LOCK_POLL = 0.05
_WALK_POLL = 0.05

type Identity = tuple[int, str]
"""A process that cannot be mistaken for a later one with the same pid: pid, start time."""


class LauncherError(Exception):
    """Nothing was run; ``kind`` is "spec", "lock" or "start"."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the kind beside the message for people."""
        super().__init__(message)
        self.kind = kind


class Spec:
    """What to run, and its limits.

    A missing or unknown key is refused: no limit may be left out because nobody knew it.
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
    ) -> None:
        """Take what the control pipe said; paths are absolute, ``lock_timeout`` in seconds."""
        self.argv = argv
        self.cwd = cwd
        self.env = env
        self.nice = nice
        self.oom_score_adj = oom_score_adj
        self.lock_path = lock_path
        self.lock_timeout = lock_timeout

    @classmethod
    def parse(cls, line: bytes) -> Spec:
        """Read one JSON object."""
        try:
            return cls(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise LauncherError("spec", str(error)) from error


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


def _identity(pid: int) -> str:
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


def _descendants(ancestor: int) -> list[Identity]:
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


class _Ending:
    """SIGTERM to each process once, SIGKILL to all from ``GRACE`` seconds on."""

    def __init__(self) -> None:
        self.told: set[Identity] = set()
        self.since = time.monotonic()

    def send(self, processes: list[Identity]) -> None:
        killing = time.monotonic() - self.since >= GRACE
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
                content = file.read()
        except OSError:
            continue
        if TREE_VARIABLE.encode() not in content:
            continue
        environment = dict(
            entry.partition("=")[::2] for entry in os.fsdecode(content).split("\0") if entry
        )
        tree = environment.get(TREE_VARIABLE, "")
        if tree != root and not tree.startswith(root.rstrip("/") + "/"):
            continue
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            continue
        if not all(map(_alive, environment.get(OWNERS_VARIABLE, "0:0").split(","))):
            found.append((pid, stat[2]))
    return found


def sweep(root: str) -> int:
    """End what commands below ``root`` (an absolute path) left behind; return how many.

    Left behind is a process whose launcher, or the program that started the launcher, is gone.
    Blocks up to ``GIVE_UP`` seconds.
    """
    ending = _Ending()
    while left := _leftovers(root):
        ending.send(left)
        if time.monotonic() - ending.since > GIVE_UP:
            break
        time.sleep(_WALK_POLL)
    return len(ending.told)


def _oom_kills() -> int:
    """Return the number of processes killed for memory so far, in this control group if known."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line[3:].strip() for line in file if line.startswith("0::")]
    except OSError:
        groups = []
    for path in (*(f"/sys/fs/cgroup{group}/memory.events" for group in groups), "/proc/vmstat"):
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except OSError:
            continue
    return 0


class Launcher:
    """One command from its spec to its report."""

    def __init__(self) -> None:
        """Become what signals and orphans below come to."""
        self._ending = False
        self._status: int | None = None
        self._main = 0
        self._libc = ctypes.CDLL(None)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if os.getsid(0) != os.getpid():
            os.setsid()
        self._wake, wakeup = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in _ENDING_SIGNALS:
            signal.signal(number, self._on_ending_signal)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        parent = os.getppid()
        self._owners = f"{_identity(os.getpid())},{_identity(parent)}"
        self._watched = [0]
        try:
            # The control pipe alone is not enough: a fork of the parent may hold its other end.
            self._watched.append(os.pidfd_open(parent))
        except OSError:
            pass

    def run(self) -> dict[str, object] | None:
        """Run the command and return the report; None when there was nothing to run."""
        line = self._read_line()
        if line is None:
            return None
        spec = Spec.parse(line)
        if spec.lock_path is not None:
            if not self._lock(spec.lock_path, spec.lock_timeout):
                return _report(-signal.SIGTERM, terminated=True, out_of_memory=False)
            # Who holds the lock is alone here, unless a launcher was killed before its command.
            sweep(spec.lock_path)
        oom_kills = _oom_kills()
        self._start(spec)
        while self._status is None and not self._ending:
            self._wait(None)
            self._reap()
        terminated = self._status is None
        self._end_descendants()
        code = os.waitstatus_to_exitcode(self._status or 0)
        return _report(
            code,
            terminated=terminated,
            out_of_memory=not terminated and code != 0 and _oom_kills() > oom_kills,
        )

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

    def _lock(self, path: str, timeout: float) -> bool:
        """Lock a tree until this program ends; False when told to end meanwhile."""
        give_up = time.monotonic() + timeout
        os.makedirs(os.path.dirname(path), exist_ok=True)
        while not self._ending:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it may have removed the file; another one is then locked by now.
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return True
            except BlockingIOError, FileNotFoundError:
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
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.close(null)
        message = os.read(failed, 4096)
        os.close(failed)
        if message:
            self._end_descendants()
            raise LauncherError("start", message.decode(errors="replace"))

    def _become(self, spec: Spec, launcher: int) -> None:
        """Turn the forked child into the command; limits of any kind are set here."""
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != launcher:
            os._exit(127)
        os.setsid()
        for number in _DEFAULTED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.nice(spec.nice)
        _raise_oom_score(spec.oom_score_adj)
        os.chdir(spec.cwd)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(1, 2)
        tree = spec.lock_path or spec.cwd
        env = {**spec.env, TREE_VARIABLE: tree, OWNERS_VARIABLE: self._owners}
        # Every other descriptor of this program is closed by exec.
        os.execvpe(spec.argv[0], spec.argv, env)  # noqa: S606 - no shell is wanted

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
        ending = _Ending()
        while self._reap():
            ending.send(_descendants(os.getpid()))
            # Without the control pipe, which has nothing more to say.
            if select.select([self._wake], (), (), _WALK_POLL)[0]:
                os.read(self._wake, 4096)


def _raise_oom_score(score: int) -> None:
    """Offer this process to the kernel when memory ends; raising needs no privilege."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            if int(file.read()) < score:
                file.seek(0)
                file.write(str(score))
    except OSError:
        # Not everywhere may /proc be written; the command is no worse without.
        pass


def _report(code: int, *, terminated: bool, out_of_memory: bool) -> dict[str, object]:
    """Make the report; ``code`` is negative for a signal, as ``waitstatus_to_exitcode`` has it."""
    return {
        "exit_code": 128 - code if code < 0 else code,
        "signal": -code if code < 0 else None,
        "terminated": terminated,
        "out_of_memory": out_of_memory,
    }


def main() -> int:
    """Run as a program; the exit status says whether there is a report of a run."""
    try:
        report = Launcher().run()
    except LauncherError as error:
        report = {"error": error.kind, "message": str(error)}
    if report is not None:
        try:
            os.write(2, json.dumps(report).encode() + b"\n")
        except BrokenPipeError:
            pass
    return 0 if report and "error" not in report else 1


if __name__ == "__main__":
    sys.exit(main())
