"""A toolchain's Python that has ESPHome imported, and forks for each of its calls.

ESPHome takes a quarter of a second to import on a fast machine and seconds on a small board, more
than most of its calls. This program pays for that once. It is started with the number of a socket;
each message on it has a number and brings the three pipes of a launcher, and a fork of this program
becomes that launcher, with all that it does (``program``): what it runs instead of a new Python is
itself. Back go ``ready``, the pid of each launcher with its number, and how each ended. The end of
the socket ends it.

It runs nothing of a configuration itself: whatever a call imports or changes stays in its fork.
"""

from __future__ import annotations

import atexit
import gc
from importlib import import_module
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time

from .oom import set_oom_score
from .program import Spec, main as launch

_MODULES = (
    "esphome.__main__",
    "esphome.automation",
    "esphome.bundle",
    "esphome.compiled_config",
    "esphome.config",
    "esphome.core.config",
    "esphome.core.entity_helpers",
    "esphome.espidf.component",
    "esphome.espota2",
    "esphome.git",
    "esphome.platformio.library",
    "esphome.platformio.toolchain",
    "esphome.preferences",
    "esphome.resolver",
    "esphome.writer",
    "asyncio",
    "concurrent.futures.thread",
    "http.client",
    "tarfile",
    "urllib.request",
    "zoneinfo",
)
"""Nothing below ``esphome.components`` that these do not bring: a configuration may replace it."""
_OOM_SCORE = 800
_COLLECT_EVERY = 100_000
"""Objects; a validation of a usual configuration makes 35,000, and frees few before its end."""
_PIPES = 3
_own_arguments = sys.argv
"""The number of the socket, and how many arguments of a command line start its Python."""


def main() -> None:
    """Run as a program; never returns."""
    server = socket.socket(fileno=int(_own_arguments[2]))
    oom_score = set_oom_score(_OOM_SCORE)
    for name in _MODULES:
        try:
            import_module(name)
        except ImportError:
            # Another version has other modules; what is missing is imported by the call.
            continue
    gc.collect()
    # Else a collection in a fork would touch, and so copy, every page.
    gc.freeze()
    try:
        server.send(b"ready")
        _serve(server, oom_score)
    except OSError:
        # The other end is gone; launchers notice that by themselves.
        pass
    os._exit(0)


def _serve(server: socket.socket, oom_score: int | None) -> None:
    wake, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    while True:
        ready = select.select((server.fileno(), wake), (), ())[0]
        if wake in ready:
            os.read(wake, 4096)
            _reap(server)
        if server.fileno() in ready:
            message, pipes, _flags, _address = socket.recv_fds(server, 64, _PIPES)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                _become_launcher(server, pipes, (wake, wakeup), oom_score)
            for pipe in pipes:
                os.close(pipe)
            server.send(b"started %s %d" % (message, pid))


def _reap(server: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        server.send(f"ended {pid} {os.waitstatus_to_exitcode(status)}".encode())


def _become_launcher(
    server: socket.socket, pipes: list[int], ours: tuple[int, ...], oom_score: int | None
) -> None:
    """Turn a fork into a launcher; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for standard, pipe in enumerate(pipes):
            os.dup2(pipe, standard)
        # Not by ``close``: an object that is collected later would close what has its number then.
        for number in (server.detach(), *pipes, *ours):
            if number >= _PIPES:
                os.close(number)
        if oom_score is not None:
            set_oom_score(oom_score, lower=True)
        launch(_run)
    finally:
        os._exit(1)


def _run(spec: Spec) -> None:
    """Run a command line of Python in this process, which is as good as a new one."""
    _close_all_others()
    gc.set_threshold(_COLLECT_EVERY)
    # As a Python sets them at its start; a launcher has them as other programs do.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(spec.env)
    time.tzset()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    kind, *arguments = spec.argv[int(_own_arguments[3]) :]
    try:
        if kind == "-c":
            sys.argv = ["-c", *arguments[1:]]
            exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
        elif kind == "-m":
            sys.argv = ["", *arguments[1:]]
            # Else it is known already, and Python warns that it is run a second time.
            sys.modules.pop(f"{arguments[0]}.__main__", None)
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [kind, *arguments]
            runpy.run_path(kind, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException:  # noqa: BLE001 - as a new Python would
        sys.excepthook(*sys.exc_info())
        code = 1
    # What a Python does at its end, but for taking itself down.
    for finish in (
        threading._shutdown,  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs,  # noqa: SLF001
        sys.stdout.flush,
        sys.stderr.flush,
    ):
        try:
            finish()
        except BaseException:  # noqa: BLE001, S112 - the others are still to be done
            continue
    os._exit(code)


def _close_all_others() -> None:
    """Close all descriptors but the standard ones; not by trying each number there could be.

    There could be a thousand million in a container, and musl cannot close a range in one step.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - each call pays for an import
        try:
            if int(name) >= _PIPES:
                os.close(int(name))
        except OSError:
            continue  # that of the list itself


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)  # noqa: T201
    return 1
