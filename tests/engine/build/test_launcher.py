"""The launcher as a program of its own, and what happens when somebody is killed."""

import asyncio
from collections.abc import Iterator
import io
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

import pytest

from custom_components.esphome_offload.engine.build.launcher import descendants, oom, program
from custom_components.esphome_offload.engine.build.process import processes as process
from custom_components.esphome_offload.engine.build.process.processes import Processes

from .processes import (
    FAMILY,
    LEAVES_A_FAMILY,
    LONG,
    STAYS,
    STUBBORN,
    alive,
    gone,
    pids,
    python,
)

pytestmark = pytest.mark.usefixtures("measured_launcher")

BUILDERS = Path(process.__file__).parents[1]

PARENT = """
import json, os, subprocess, sys, time
launcher = subprocess.Popen(json.loads(sys.argv[1]), stdin=subprocess.PIPE)
launcher.stdin.write(sys.argv[2].encode() + b"\\n")
launcher.stdin.flush()
if "fork" in sys.argv and os.fork() == 0:
    # Holds the control pipe open after its parent's death.
    open("fork", "w").write(str(os.getpid()))
time.sleep(600)
"""


def argv() -> list[str]:
    return [sys.executable, "-I", "-S", "-c", process._LAUNCHER, str(BUILDERS)]


def spec(folder: Path, *arguments: str, **changes: Any) -> str:
    command = python(LEAVES_A_FAMILY + STAYS, str(folder), *arguments, cwd=folder)
    return json.dumps(
        {
            "argv": command.argv,
            "cwd": str(folder),
            "env": dict(command.env),
            "nice": 0,
            "oom_score_adj": 0,
            "lock_path": None,
            "lock_timeout": 10,
            "lease_path": None,
            "containment": None,
            **changes,
        }
    )


def launch() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def launch_with(line: str) -> subprocess.Popen[bytes]:
    launcher = launch()
    _write(launcher, line)
    return launcher


def _write(launcher: subprocess.Popen[bytes], line: str) -> None:
    assert launcher.stdin is not None
    launcher.stdin.write(line.encode() + b"\n")
    launcher.stdin.flush()


def report_of(launcher: subprocess.Popen[bytes]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(launcher.communicate(timeout=30)[1])
    return report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_to_the_launcher_ends_everything(
    tmp_path: Path, number: signal.Signals
) -> None:
    launcher = launch_with(spec(tmp_path))
    family = await pids(tmp_path)
    launcher.send_signal(number)
    assert report_of(launcher) == {
        "exit_code": 143,
        "signal": 15,
        "terminated": True,
        "out_of_memory": False,
    }
    assert not any(map(alive, family))


async def test_a_further_byte_on_the_control_pipe_ends_everything(tmp_path: Path) -> None:
    launcher = launch_with(spec(tmp_path))
    family = await pids(tmp_path)
    assert launcher.stdin is not None
    launcher.stdin.write(b"x")
    launcher.stdin.flush()
    assert launcher.wait(timeout=30) == 0
    assert not any(map(alive, family))
    launcher.communicate()


async def test_a_terminal_signal_to_our_group_does_not_reach_the_command(tmp_path: Path) -> None:
    launcher = launch_with(spec(tmp_path))
    family = await pids(tmp_path)
    assert os.getpgid(launcher.pid) not in {os.getpgid(0), os.getpgid(family[0])}
    assert os.getsid(family[0]) != os.getsid(0)
    report_of(launcher)


@pytest.mark.parametrize(
    "changes", [{"landlock": {}}, {"argv": [1]}], ids=["unknown key", "wrong type"]
)
def test_a_spec_that_is_not_understood_starts_nothing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    report = report_of(launch_with(spec(tmp_path, **changes)))
    assert report["error"] in {"spec", "start"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["[]", "{}", "nonsense"])
def test_what_is_no_spec_is_refused(line: str) -> None:
    assert report_of(launch_with(line))["error"] == "spec"


def test_an_unknown_limit_is_named(tmp_path: Path) -> None:
    assert "landlock" in report_of(launch_with(spec(tmp_path, landlock=1)))["message"]


def test_a_control_pipe_that_ends_before_the_spec_starts_nothing() -> None:
    assert report_of(launch())["terminated"]


def test_a_lock_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = report_of(launch_with(spec(tmp_path, lock_path=str(tmp_path / "file" / "lock"))))
    assert report["error"] == "start"


def test_a_lock_file_that_was_removed_in_the_last_moment_is_not_taken_for_the_lock(
    tmp_path: Path,
) -> None:
    """Another command would lock the new file of that name, and two would run in one tree."""
    removing = """
import fcntl, os, sys
sys.path.append(sys.argv[1])
from launcher import program
lock, flock, files = sys.argv[2], fcntl.flock, []
def remove_first(handle, operation):
    files.append(os.fstat(handle).st_ino)
    if len(files) == 1:
        # The new file is there before the old one goes, so it cannot be given the same number.
        open(lock + ".new", "w").close()
        os.replace(lock + ".new", lock)
    flock(handle, operation)
fcntl.flock = remove_first
taken = program.Launcher()._lock(lock, fcntl.LOCK_EX, 10)
print(taken, files[-1] == os.stat(lock).st_ino, len(files))
"""
    control, held = os.pipe()
    output = subprocess.run(
        [sys.executable, "-I", "-S", "-c", removing, str(BUILDERS), str(tmp_path / "lock")],
        # Open, because the end of its input tells the launcher to end.
        stdin=control,
        capture_output=True,
        text=True,
        check=True,
    )
    os.close(control)
    os.close(held)
    assert output.stdout == "True True 2\n"


def test_a_score_that_is_higher_already_is_not_lowered(tmp_path: Path) -> None:
    raising = "import os, sys; open('/proc/self/oom_score_adj', 'w').write('700');"
    launcher = subprocess.Popen(
        [sys.executable, "-c", raising + "os.execv(sys.argv[1], sys.argv[1:])", *argv()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    command = ["/bin/cat", "/proc/self/oom_score_adj"]
    _write(launcher, spec(tmp_path, argv=command, oom_score_adj=500))
    assert launcher.stdout is not None
    assert launcher.stdout.read() == b"700\n"
    # While the control pipe is open: cat closes its output before it has quite ended.
    assert launcher.stderr is not None
    assert json.loads(launcher.stderr.readline())["exit_code"] == 0
    launcher.communicate()


def _parent(folder: Path, line: str, *options: str) -> subprocess.Popen[bytes]:
    """Start a program that runs the launcher, to be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, json.dumps(argv()), line, *options], cwd=folder
    )


async def test_killing_the_parent_ends_everything(tmp_path: Path, impatient: None) -> None:
    parent = _parent(tmp_path, spec(tmp_path, STUBBORN))
    family = await pids(tmp_path, (*FAMILY, STUBBORN))
    parent.kill()
    parent.wait()
    # By themselves they would stay for ten minutes.
    await gone(*family)


async def test_a_fork_of_the_killed_parent_that_holds_the_control_pipe_changes_nothing(
    tmp_path: Path,
) -> None:
    parent = _parent(tmp_path, spec(tmp_path), "fork")
    family = await pids(tmp_path)
    (fork,) = await pids(tmp_path, ("fork",))
    parent.kill()
    parent.wait()
    await gone(*family)
    assert alive(fork)
    os.kill(fork, signal.SIGKILL)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("victim", ["guard", "launcher"])
async def test_whichever_of_the_two_is_killed_the_other_ends_everything(
    tmp_path: Path, victim: str
) -> None:
    guard = launch_with(spec(tmp_path))
    family = await pids(tmp_path)
    launcher = _parent_of(family[0])
    assert _parent_of(launcher) == guard.pid
    os.kill(guard.pid if victim == "guard" else launcher, signal.SIGKILL)
    report = report_of(guard)
    assert report["terminated"]
    assert report["exit_code"] == (143 if victim == "guard" else 137)
    assert not any(map(alive, family))
    await gone(launcher)


async def test_a_tree_is_locked_until_nothing_of_a_killed_launcher_is_left(
    tmp_path: Path, impatient: None
) -> None:
    tree = tmp_path / "tree.lock"
    guard = launch_with(spec(tmp_path, STUBBORN, lock_path=str(tree)))
    family = await pids(tmp_path, (*FAMILY, STUBBORN))
    os.kill(_parent_of(family[0]), signal.SIGKILL)
    processes = Processes()
    program = "import os, sys; print([os.path.exists(f'/proc/{pid}/exe') for pid in sys.argv[1:]])"
    command = python(program, *map(str, family), cwd=tmp_path, lock=tree)
    _, output = await processes.capture(command, timeout=30)
    assert output == f"{[False] * len(family)}\n"
    report_of(guard)


async def test_a_start_waits_for_what_a_killed_home_assistant_left(
    tmp_path: Path, impatient: None
) -> None:
    lease = tmp_path / "running.lock"
    line = spec(tmp_path, STUBBORN, lease_path=str(lease))
    parent = _parent(tmp_path, line)
    family = await pids(tmp_path, (*FAMILY, STUBBORN))
    assert not await Processes(lease).wait_for_leftovers(timeout=0.1)
    parent.kill()
    parent.wait()
    assert await Processes(lease).wait_for_leftovers()
    assert not any(map(alive, family))


async def test_commands_of_one_home_assistant_share_the_lease(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "running.lock")
    assert await processes.wait_for_leftovers()
    first = asyncio.create_task(
        processes.run(python(LEAVES_A_FAMILY + STAYS, str(tmp_path), cwd=tmp_path))
    )
    await pids(tmp_path)
    result, output = await processes.capture(python("print('too')", cwd=tmp_path), timeout=30)
    assert (result.exit_code, output) == (0, "too\n")
    await processes.aclose()
    await first
    assert await processes.wait_for_leftovers(timeout=0)


FORGED = {
    "a tree of others": {"ESPHOME_OFFLOAD_TREE": "{tree}"},
    "a malformed owner": {"ESPHOME_OFFLOAD_TREE": "{tree}", "ESPHOME_OFFLOAD_OWNERS": "x:y,\udcff"},
    "an owner that has ended": {
        "ESPHOME_OFFLOAD_TREE": "{tree}",
        "ESPHOME_OFFLOAD_OWNERS": "1:1,2:2",
    },
}


@pytest.fixture(params=FORGED.values(), ids=FORGED)
def forger(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process with the markers that leftovers were once recognised by."""
    env = {name: value.format(tree=tmp_path / "tree.lock") for name, value in request.param.items()}
    process = subprocess.Popen(["/bin/sleep", str(LONG)], env=env)
    yield process
    process.kill()
    process.wait()


async def test_what_a_process_claims_in_its_environment_has_no_effect(
    tmp_path: Path, forger: subprocess.Popen[bytes]
) -> None:
    processes = Processes(tmp_path / "running.lock")
    assert await processes.wait_for_leftovers()
    command = python("print('built')", cwd=tmp_path, lock=tmp_path / "tree.lock")
    result, output = await processes.capture(command, timeout=30)
    assert (result.exit_code, output) == (0, "built\n")
    assert forger.poll() is None


def test_a_pid_that_was_given_to_another_process_is_not_signalled() -> None:
    bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", f"import time; {STAYS}"])
    try:
        stat = descendants._stat(bystander.pid)
        assert stat is not None
        start = int(stat[1])
        descendants._send((bystander.pid, str(start - 1)), signal.SIGKILL)
        descendants._send((bystander.pid, str(start)), signal.SIGTERM)
        assert bystander.wait(timeout=30) == -signal.SIGTERM
    finally:
        bystander.kill()
        bystander.wait()


def test_processes_are_ended_also_where_the_kernel_has_no_pidfd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", f"import time; {STAYS}"])
    stat = descendants._stat(child.pid)
    assert stat is not None
    descendants._send((child.pid, stat[1]), signal.SIGTERM)
    assert child.wait(timeout=30) == -signal.SIGTERM


def test_a_report_that_is_not_read_is_no_error(tmp_path: Path) -> None:
    launcher = launch()
    assert launcher.stderr is not None
    launcher.stderr.close()
    launcher.stderr = None
    _write(launcher, spec(tmp_path, argv=["/bin/true"]))
    launcher.communicate(timeout=30)
    assert launcher.returncode == 0


def test_a_score_that_cannot_be_changed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(oom, "open", refuse, raising=False)
    assert oom.set_oom_score(500) is None


def test_nothing_is_run_where_the_parent_was_killed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", ended)
    launcher = object.__new__(program.Launcher)
    monkeypatch.setattr(launcher, "_prctl", lambda *_: 0, raising=False)
    monkeypatch.setattr(launcher, "_listen", lambda: None)
    with pytest.raises(SystemExit):
        launcher._end_with(0)
    parsed = program.Spec.parse(spec(Path("/")).encode())
    assert launcher._launch(parsed, 0) == program._ENDED_BEFORE_START


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        (
            {
                "/proc/self/cgroup": "0::/a\n",
                "/sys/fs/cgroup/a/memory.events": "oom 3\noom_kill 2\n",
            },
            2,
        ),
        ({"/proc/self/cgroup": "4:memory:/b\n0::/\n", "/proc/vmstat": "pgfree 1\noom_kill 5\n"}, 5),
        ({"/proc/vmstat": "oom_kill 7\n"}, 7),
        ({}, 0),
    ],
    ids=["own control group", "no such file in the group", "no control groups", "nothing known"],
)
def test_kills_for_memory_are_counted_as_near_to_us_as_known(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], kills: int
) -> None:
    def pretended(path: str, **_options: str) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(oom, "open", pretended, raising=False)
    assert oom.oom_kills() == kills
