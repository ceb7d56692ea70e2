"""What a process does to itself to be contained, done to one thread of this process.

Landlock, the filter of system calls and capabilities belong to a thread, and end with it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import ctypes
import errno
import os
from pathlib import Path
import resource
import signal
import threading

import pytest

from custom_components.esphome_offload.engine.build.launcher import (
    confinement,
    domain_killer,
    landlock,
    seccomp,
)
from custom_components.esphome_offload.engine.build.launcher.domain_killer import DomainKiller

from .marks import HERE, needs_containment


def in_new_thread[T](work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """Record limits in place of setting them, which would be for the whole process."""
    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    return limits


@needs_containment
def test_a_contained_thread_has_only_what_it_was_given(
    tmp_path: Path, limits: dict[int, tuple[int, int]]
) -> None:
    given, other, program = tmp_path / "given", tmp_path / "other", tmp_path / "program"
    for folder in (given, other, program):
        folder.mkdir()
        (folder / "file").write_text("content")

    def contained() -> list[object]:
        signals = confinement.contain(
            write=[str(given)],
            run=[str(program)],
            read=[str(tmp_path / "missing")],
            devices=["/dev/null"],
            by_landlock=True,
            uid=None,
            search=False,
        )
        return [
            signals,
            error_of(lambda: (given / "new").write_text("x")),
            (program / "file").read_text(),
            error_of(lambda: (program / "file").write_text("x")),
            error_of((other / "file").read_text),
            error_of(lambda: Path("/dev/null").write_text("x")),
            error_of(lambda: (given / "file").chmod(0o4755)),
        ]

    signals = HERE.abi >= landlock.SIGNALS_ABI
    outcomes = [signals, "done", "content", "EACCES", "EACCES", "done", "EPERM"]
    assert in_new_thread(contained) == outcomes
    assert limits[resource.RLIMIT_CORE] == (0, 0)
    assert limits[resource.RLIMIT_NPROC][0] <= confinement.PROCESSES
    assert limits[resource.RLIMIT_FSIZE] == (confinement.FILE_SIZE,) * 2
    assert limits[resource.RLIMIT_NOFILE][0] <= confinement.OPEN_FILES
    # Nothing of that is left.
    assert (other / "file").read_text() == "content"


@needs_containment
def test_a_folder_that_must_exist_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(OSError, match=str(missing)):
        landlock.restrict(HERE.abi, [(str(missing), landlock.READ_FILE, True)])


def test_what_cannot_be_contained_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def contain() -> None:
        confinement.contain(
            write=[], run=[], read=[], devices=[], by_landlock=True, uid=None, search=False
        )

    monkeypatch.setattr(landlock, "abi", lambda: landlock._syscall(-1))
    with pytest.raises(OSError, match="no Landlock"):
        contain()
    for uid, search in ((None, False), (77, True)):
        with pytest.raises(OSError, match="without Landlock"):
            confinement.contain(
                write=[], run=[], read=[], devices=[], by_landlock=False, uid=uid, search=search
            )
    monkeypatch.setattr(seccomp, "_AUDIT_ARCH", {})
    with pytest.raises(OSError, match="machine of type"):
        contain()


class Libc:
    """Records what it is asked, and fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[tuple[object, ...]] = []

    def prctl(self, *arguments: int) -> int:
        self.calls.append(arguments)
        return -1 if self.fails == "prctl" else 0

    def capget(self, _header: object, held: object) -> int:
        ctypes.memset(held, 0xFF, ctypes.sizeof(held))  # type: ignore[arg-type]
        return -1 if self.fails == "capget" else 0

    def capset(self, _header: object, wanted: list[int]) -> int:
        self.calls.append(("capset", *wanted))
        return -1 if self.fails == "capset" else 0


@pytest.mark.parametrize("search", [False, True])
def test_a_guest_is_a_user_in_no_other_group(monkeypatch: pytest.MonkeyPatch, search: bool) -> None:
    changes: list[object] = []
    monkeypatch.setattr(os, "setgroups", lambda groups: changes.append(("groups", *groups)))
    monkeypatch.setattr(os, "setresgid", lambda *ids: changes.append(("gid", *ids)))
    monkeypatch.setattr(os, "setresuid", lambda *ids: changes.append(("uid", *ids)))
    libc = Libc()
    confinement._become(libc, 77, search=search)  # type: ignore[arg-type]
    assert changes == [("groups",), ("gid", 77, 77, 77), ("uid", 77, 77, 77)]
    kept = 1 << 2 if search else 0
    assert ("capset", kept, kept, kept, 0, 0, 0) in libc.calls
    assert bool([call for call in libc.calls if call[0] == 47]) is search


@pytest.mark.parametrize("fails", ["prctl", "capget", "capset"])
def test_a_step_that_fails_is_an_error(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *_: None)
    with pytest.raises(OSError):  # noqa: PT011 - the number is that of the last system call
        confinement._become(Libc(fails), 77, search=True)  # type: ignore[arg-type]


@needs_containment
def test_a_filter_that_the_kernel_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "program", lambda *_, **__: b"")
    with pytest.raises(OSError):  # noqa: PT011
        in_new_thread(lambda: seccomp.restrict(truncate=True))


@pytest.mark.skipif(HERE.abi < landlock.SIGNALS_ABI, reason="this Landlock has no scopes")
def test_a_domain_that_limits_signals_can_still_move_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").touch()
    parent = os.getppid()

    def limited() -> tuple[str, str]:
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
        landlock.limit_signals()
        return (
            error_of(lambda: os.kill(parent, 0)),
            error_of(lambda: (tmp_path / "a" / "file").rename(tmp_path / "b" / "file")),
        )

    assert in_new_thread(limited) == ("EPERM", "done")


class Killed(Exception):  # noqa: N818 - what happened in place of the end of the process
    """The process would have been killed."""


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> DomainKiller:
    """Return one that, run in this process, leaves it alone."""
    handles = {0, 1, 2}
    monkeypatch.setattr(domain_killer.os, "setsid", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(domain_killer.os, "closerange", lambda *_: None)
    dup2 = os.dup2
    monkeypatch.setattr(
        domain_killer.os, "dup2", lambda old, new: old if new in {*handles, 3} else dup2(old, new)
    )
    return DomainKiller()


def test_everything_in_the_domain_is_killed_when_triggered(
    killer: DomainKiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        if number == 0:
            raise PermissionError
        killed.append((pid, number))

    monkeypatch.setattr(domain_killer.os, "kill", kill)
    running = threading.Thread(target=killer._run, args=(4711,))
    running.start()
    assert os.read(killer._ready, 32) == str(os.getpid()).encode()
    assert killed == []
    killer.trigger()
    killer.trigger()
    running.join(30)
    assert killed == [(-1, signal.SIGKILL)]


def test_one_that_reaches_its_launcher_kills_nothing(
    killer: DomainKiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(domain_killer.os, "kill", lambda *call: killed.append(call))
    killer._run(4711)
    assert killed == [(4711, 0)]
    killer.release()


@pytest.mark.parametrize("pids", [(4712,), (0, 4713), (0, 0)], ids=["command", "between", "killer"])
def test_the_killer_is_a_child_of_the_launcher_and_out_of_reach_of_the_command(
    monkeypatch: pytest.MonkeyPatch, pids: tuple[int, ...]
) -> None:
    forks = iter(pids)
    steps: list[str] = []

    def ended(_code: int) -> None:
        raise Killed

    monkeypatch.setattr(domain_killer.os, "fork", lambda: next(forks))
    monkeypatch.setattr(domain_killer.os, "waitpid", lambda *_: steps.append("waited"))
    monkeypatch.setattr(domain_killer.os, "_exit", ended)
    monkeypatch.setattr(landlock, "limit_signals", lambda: steps.append("limited"))
    monkeypatch.setattr(DomainKiller, "_run", lambda *_: steps.append("ran"))
    killer = DomainKiller()
    if pids == (4712,):
        killer.fork(4711)
        assert steps == ["waited", "limited"]
    else:
        with pytest.raises(Killed):
            killer.fork(4711)
        assert steps == (["ran"] if pids == (0, 0) else [])
    killer.release()


def test_the_launcher_knows_the_killer_or_that_there_is_none() -> None:
    killer = DomainKiller()
    os.write(killer._report_ready, b"4711")
    killer.forked()
    assert killer.pid == 4711
    killer.trigger()
    none = DomainKiller()
    none.forked()
    assert none.pid == 0
    none.trigger()
