"""Ask ESPHome about many configurations in one process; one line of JSON for each.

``main`` runs in a toolchain's Python. Its argument is a file with a ``Request`` in JSON. A child
does the work, because one file may crash it, take all its memory or never end: that file is
answered by the parent, and another child goes on with the next one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from pathlib import Path
import resource
import signal
import sys

from .examiner import Examiner, OutOfTime
from .offline import go_offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Request(TypedDict):
        """What to ask: file names in a folder, where clones of packages may be, and limits.

        ``seconds`` of CPU and ``memory`` in bytes are for each file. ``fetch``: remote packages that
        are nowhere are fetched into ESPHome's data directory.
        """

        config_dir: str
        names: list[str]
        clones: list[str]
        seconds: float
        memory: int
        fetch: bool


_WAITING = 6.0
"""How much longer than its CPU time a file may take, beside builds and on slow disks."""
_GRACE = 1.0
"""Seconds until a child that does not notice that its time is over is killed."""
_COLLECTED = 25
"""Files after which memory is collected: not after each, which would take a third of the time."""
_NO_MEMORY = 7


def main() -> None:
    """Run as a program; never returns."""
    request: Request = json.loads(Path(sys.argv[1]).read_bytes())
    examiner = Examiner(request["config_dir"], request["clones"], fetch=request["fetch"])
    if not request["fetch"]:
        go_offline()
    output = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    # What ESPHome prints is none of the answers.
    os.dup2(null, 1)
    os.dup2(null, 2)
    gc.collect()
    gc.freeze()
    left = request["names"]
    while left:
        left = left[_run_child(examiner, request, left, output) :]
    os._exit(0)


def _run_child(examiner: Examiner, request: Request, names: list[str], output: int) -> int:
    """Have a child answer as many as it can; return how many are answered now."""
    reading, writing = os.pipe()
    # Contained, a process cannot be looked at in /proc, except for this one.
    size = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _limit_memory(size + request["memory"])
        _work(examiner, request, names, writing)
    os.close(writing)
    answered = _forward(reading, output)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0 or answered == len(names):
        return answered
    if answered and code != -signal.SIGALRM:
        # Once more, by itself.
        return answered + _run_child(examiner, request, names[answered : answered + 1], output)
    key = {
        _NO_MEMORY: "configuration_takes_memory",
        -signal.SIGKILL: "configuration_takes_memory",
        -signal.SIGXCPU: "configuration_takes_time",
        -signal.SIGALRM: "configuration_takes_time",
    }.get(code, "configuration_crashes_esphome")
    _write(output, _line(examiner.failed(names[answered], key)))
    return answered + 1


def _forward(reading: int, output: int) -> int:
    """Hand on whole lines until the child has ended; return how many."""
    answered = 0
    rest = b""
    while chunk := os.read(reading, 65536):
        lines, _, rest = (rest + chunk).rpartition(b"\n")
        if lines:
            answered += lines.count(b"\n") + 1
            _write(output, lines + b"\n")
    os.close(reading)
    return answered


def _work(examiner: Examiner, request: Request, names: list[str], output: int) -> NoReturn:
    try:
        gc.disable()
        for index, name in enumerate(names):
            if index % _COLLECTED == _COLLECTED - 1:
                gc.collect()
            _limit_time(request["seconds"])
            answer = examiner.examine(name)
            if examiner.exhausted and index:
                # It may be what those before have left.
                os._exit(_NO_MEMORY)
            _write(output, _line(answer))
            if examiner.exhausted:
                # The state is unknown, and memory may be short: another child goes on.
                break
        os._exit(0)
    except (MemoryError, OutOfTime):
        os._exit(_NO_MEMORY)
    finally:
        os._exit(1)


def _limit_memory(size: int) -> None:
    # Without permission, or with a lower limit already.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Give the next file its time: first an exception, then what cannot be caught."""

    def over(_number: int, _frame: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds * _WAITING + _GRACE)
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds + _GRACE) + 1
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _line(answer: dict[str, object]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _write(output: int, data: bytes) -> None:
    while data:
        data = data[os.write(output, data) :]
