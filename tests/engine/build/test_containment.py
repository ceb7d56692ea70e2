"""What a contained command can do, tried one thing at a time by a real one on this kernel.

What must be denied is also tried uncontained, where it must work: else the denial would say nothing.
"""

import asyncio
from collections.abc import Callable
import platform
import resource
import signal

import pytest

from custom_components.esphome_offload.engine.build.launcher.confinement import PROCESSES
from custom_components.esphome_offload.engine.build.launcher.descendants import descendants
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    Degree,
)

from .containment_harness import ContainmentHarness
from .marks import HERE, needs_containment, needs_root
from .processes import LONG, alive

needs_signals = pytest.mark.skipif(
    HERE.degree is not Degree.CONTAINED, reason="Landlock of this kernel has no scopes"
)
pytestmark = needs_containment

PTRACE = "if libc.ptrace(16, at['victim'], 0, 0) < 0: raise OSError(ctypes.get_errno(), '')"

READS = {
    "home assistant's storage": "open(at['storage']).read()",
    "home assistant's storage, by a link": (
        "os.symlink(at['storage'], at['tree'] + '/link'); open(at['tree'] + '/link').read()"
    ),
    "home assistant's storage, from the root": "open('/proc/self/root' + at['storage']).read()",
    "home assistant's folder": "os.listdir(at['config'])",
    "another guest's tree": "open(at['theirs']).read()",
    "names of guests": "os.listdir(at['guests'])",
    "environment of another process": "open(f'/proc/{at[\"victim\"]}/environ').read()",
    "memory of another process": "open(f'/proc/{at[\"victim\"]}/mem', 'rb')",
    "its own environment": "open('/proc/self/environ').read()",
    "names of processes": "os.listdir('/proc')",
    "the root folder": "os.listdir('/')",
    "what happens in home assistant's folder": (
        "if libc.inotify_add_watch(libc.inotify_init1(0), os.fsencode(at['config']), 0xFFF) < 0:"
        " raise OSError(ctypes.get_errno(), '')"
    ),
}
WRITES = {
    "change the toolchain": "open(at['module'], 'a')",
    "add to the toolchain": "open(at['toolchain'] + '/new', 'w')",
    "remove from the toolchain": "os.unlink(at['module'])",
    "rename in the toolchain": "os.rename(at['module'], at['module'] + '.old')",
    "empty by path": "os.truncate(at['storage'], 0)",
    "change its own yaml": "open(at['yaml'], 'a')",
    "put a link beside its yaml": "os.symlink('/', at['sources'] + '/link')",
    "a tree of its own choice": "os.mkdir(at['trees'] + '/new')",
    "remove its lock": "os.unlink(at['lock'])",
    "home assistant's folder": "open(at['config'] + '/configuration.yaml', 'w')",
}
MOVES = {
    "move a file in": "os.rename(at['storage'], at['tree'] + '/moved')",
    "link a file in": "os.link(at['storage'], at['tree'] + '/linked')",
    "move a file out": "os.rename(at['ours'], at['config'] + '/moved')",
}
OTHERS = {
    "limits": "resource.prlimit(at['victim'], resource.RLIMIT_CPU, (1000, 1000))",
    "priority": "os.setpriority(os.PRIO_PROCESS, at['victim'], 15)",
    "processors": "os.sched_setaffinity(at['victim'], os.sched_getaffinity(0))",
    "scheduling": "os.sched_setscheduler(at['victim'], os.SCHED_IDLE, os.sched_param(0))",
    "tracing": PTRACE,
}
SIGNALS = {
    "SIGTERM": "os.kill(at['victim'], signal.SIGTERM)",
    "SIGKILL by handle": "signal.pidfd_send_signal(os.pidfd_open(at['victim']), signal.SIGKILL)",
    "its launcher": "os.kill(os.getppid(), signal.SIGHUP)",
}
SOCKETS = {
    "stream": "socket.socket(socket.AF_UNIX).connect(at['listener'])",
    "half of a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.01)


def cases(statements: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("statement", statements.values(), ids=statements)


@cases(READS)
async def test_what_is_not_granted_cannot_be_read(
    harness: ContainmentHarness, statement: str
) -> None:
    assert await harness.tries(statement) == "EACCES"
    harness.tree.joinpath("link").unlink(missing_ok=True)
    assert await harness.tries(statement, contained=False) == "done"


@cases(WRITES)
async def test_what_is_not_granted_cannot_be_changed(
    harness: ContainmentHarness, statement: str
) -> None:
    assert await harness.tries(statement) == "EACCES"
    assert all(path.read_text() == "content" for path in harness.files.values())
    assert await harness.tries(statement, contained=False) == "done"


@cases(MOVES)
async def test_no_file_crosses_the_border(harness: ContainmentHarness, statement: str) -> None:
    assert await harness.tries(statement) in {"EACCES", "EPERM", "EXDEV"}
    assert all(path.read_text() == "content" for path in harness.files.values())
    assert await harness.tries(statement, contained=False) == "done"


@cases(OTHERS)
async def test_other_processes_are_left_as_they_are(
    harness: ContainmentHarness, statement: str
) -> None:
    assert await harness.tries(statement) == "EPERM"
    assert await harness.tries(statement, contained=False) == "done"


@needs_signals
@cases(SIGNALS)
async def test_processes_outside_get_no_signal(harness: ContainmentHarness, statement: str) -> None:
    assert await harness.tries(statement) == "EPERM"
    assert alive(harness.victim.pid)


async def test_uncontained_the_victim_would_be_ended(harness: ContainmentHarness) -> None:
    assert await harness.tries(SIGNALS["SIGTERM"], contained=False) == "done"
    assert harness.victim.wait(timeout=30) == -signal.SIGTERM


@needs_signals
@pytest.mark.usefixtures("measured_launcher")
async def test_what_it_started_ends_with_its_launcher(harness: ContainmentHarness) -> None:
    hidden = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    open(sys.argv[1], 'w').close()\n"
        # With another program's environment, it bears no mark to find it by.
        f"    os.execve('/bin/sleep', ['sleep', '{LONG}'], {{}})\n"
        f"time.sleep({LONG})"
    )
    begun = harness.tree / "begun"
    running = asyncio.create_task(harness.run(harness.rules(), "-c", hidden, str(begun)))
    await until(begun.exists)
    (launcher,) = harness.processes._running.values()
    below = [pid for pid, _ in descendants(launcher.process.pid)]
    assert len(below) == 4
    launcher.process.kill()
    await running
    await until(lambda: not any(map(alive, below)))


@needs_signals
async def test_it_cannot_reach_what_will_end_it(harness: ContainmentHarness) -> None:
    others = "[pid for pid in range(2, os.getpid() + 64) if pid != os.getpid()]"
    reached = f"[pid for pid in {others} if libc.kill(pid, 0) == 0]"
    assert await harness.tries(f"print({reached})") == "[] done"


@cases(SOCKETS)
async def test_sockets_of_other_programs_cannot_be_reached(
    harness: ContainmentHarness, statement: str
) -> None:
    assert await harness.tries(statement) == "EACCES"
    assert await harness.tries(statement, contained=False) == "done"


LEAVING = {
    # number of the system call on x86_64, and on the others
    "a keyring": (250, 219, "0, -3, 1"),
    "a key": (248, 217, "b'user', b'x', b'x', 1, -3"),
    "shared memory": (29, 194, "0x1234, 4096, 0o1666"),
    "semaphores": (64, 190, "0x1234, 1, 0o1666"),
    "messages": (68, 186, "0x1234, 0o1666"),
    "a message queue": (240, 180, "b'esphome-offload-test', 0o102, 0o600, 0"),
    "a user namespace": (272, 97, "0x10000000"),
    "a mount namespace": (272, 97, "0x20000"),
}


@pytest.mark.parametrize("what", LEAVING)
async def test_nothing_is_left_in_the_kernel_and_no_namespace_is_entered(
    harness: ContainmentHarness, what: str
) -> None:
    on_x86, elsewhere, arguments = LEAVING[what]
    number = on_x86 if platform.machine() == "x86_64" else elsewhere
    call = f"if libc.syscall({number}, {arguments}) < 0: raise OSError(ctypes.get_errno(), '')"
    assert await harness.tries(call) == "EPERM"


SET_ID = {
    "chmod": "os.chmod(at['ours'], {mode})",
    "fchmod": "os.fchmod(os.open(at['ours'], 0), {mode})",
    "fchmodat": "os.chmod('ours', {mode}, dir_fd=os.open(at['tree'], 0))",
    "open": "os.open(at['tree'] + '/new', os.O_CREAT | os.O_WRONLY, {mode})",
    "unnamed": "os.open(at['tree'], os.O_TMPFILE | os.O_WRONLY, {mode})",
    "mknod": "os.mknod(at['tree'] + '/node', stat.S_IFREG | {mode})",
}


@pytest.mark.parametrize("mode", ["0o4755", "0o2755"])
@cases(SET_ID)
async def test_no_file_gets_a_set_id_bit(
    harness: ContainmentHarness, statement: str, mode: str
) -> None:
    assert await harness.tries(statement.format(mode=mode)) == "EPERM"
    assert await harness.tries(statement.format(mode="0o755")) == "done"


async def test_markers_of_a_contained_build_stop_no_other_build_of_its_tree(
    harness: ContainmentHarness,
) -> None:
    """A build once claimed a tree's lock and a malformed owner, and all others failed."""
    forged = {"ESPHOME_OFFLOAD_TREE": harness.at["lock"], "ESPHOME_OFFLOAD_OWNERS": "x:y"}
    forger = (
        "import os, sys\n"
        "open(sys.argv[1], 'w').close()\n"
        f"os.execve('/bin/sleep', ['sleep', '{LONG}'], {forged!r})"
    )
    begun = harness.tree / "begun"
    running = asyncio.create_task(harness.run(harness.rules(), "-c", forger, str(begun)))
    await until(begun.exists)
    command = harness.command(None, "-c", "print('built')", lock=harness.files["lock"])
    result, output = await harness.processes.capture(command, timeout=60)
    assert (result.exit_code, output) == (0, "built\n")
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


@needs_root
@pytest.mark.parametrize(
    "statement",
    ["os.chown(at['ours'], 1, 1)", "os.mknod(at['tree'] + '/d', stat.S_IFCHR, os.makedev(1, 3))"],
    ids=["give away", "make a device"],
)
async def test_root_is_no_more_than_a_user(harness: ContainmentHarness, statement: str) -> None:
    assert await harness.tries(statement) in {"EPERM", "EACCES"}
    assert await harness.tries(statement, contained=False) == "done"


async def test_nothing_gains_privileges_or_dumps_core(harness: ContainmentHarness) -> None:
    look = (
        "import ctypes, resource;"
        "print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert (await harness.run(harness.rules(), "-c", look))[1] == "1 0 0\n"


async def test_there_is_an_end_to_how_many_processes_there_can_be(
    harness: ContainmentHarness,
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = PROCESSES if hard == resource.RLIM_INFINITY else min(hard, PROCESSES)
    look = "import resource; print(*resource.getrlimit(resource.RLIMIT_NPROC))"
    assert (await harness.run(harness.rules(), "-c", look))[1] == f"{limit} {limit}\n"


GRANTED = {
    "read its yaml": "open(at['yaml']).read()",
    "read the toolchain": "open(at['module']).read(); os.listdir(at['toolchain'])",
    "read what the kernel says of the machine": "open('/proc/cpuinfo').read()",
    "be told that it may write": "assert os.access(at['tmp'], os.R_OK | os.W_OK | os.X_OK)",
    "write the null device": "open('/dev/null', 'w').write('x')",
    "make, change and remove": (
        "folder = at['tree'] + '/a/b'; os.makedirs(folder); open(folder + '/f', 'w').write('x');"
        "open(folder + '/f', 'r+').truncate(0); os.symlink('f', folder + '/l');"
        "os.mkfifo(folder + '/p'); [os.unlink(folder + '/' + name) for name in 'flp'];"
        "os.removedirs(folder)"
    ),
    "make and run a program": (
        "path = at['tools'] + '/true'; open(path, 'w').write('#!/bin/sh\\nexit 0\\n');"
        "os.chmod(path, 0o700); assert os.spawnv(os.P_WAIT, path, [path]) == 0"
    ),
    "signal its own": (
        "child = os.fork() or signal.pause();"
        "os.kill(child, signal.SIGTERM); assert os.waitpid(child, 0)[1] == signal.SIGTERM"
    ),
    "change its own limits": (
        "resource.prlimit(0, resource.RLIMIT_NOFILE, (64, 64)); os.nice(1);"
        "os.sched_setaffinity(0, os.sched_getaffinity(0))"
    ),
    "talk to its own": "one, other = socket.socketpair(); one.send(b'x')",
    "use the network": "socket.socket().bind(('127.0.0.1', 0))",
}


@cases(GRANTED)
async def test_a_build_can_do_its_work(harness: ContainmentHarness, statement: str) -> None:
    assert await harness.tries(statement) == "done"


@pytest.mark.skipif(HERE.abi < 2, reason="this Landlock denies all moves between folders")
@pytest.mark.parametrize("folder", ["home", "tmp", "tools"])
async def test_a_build_can_move_files_between_its_folders(
    harness: ContainmentHarness, folder: str
) -> None:
    assert await harness.tries(f"os.rename(at['ours'], at['{folder}'] + '/moved')") == "done"


@pytest.mark.usefixtures("measured_launcher")
async def test_what_a_contained_command_started_is_contained_too_and_ends_with_it(
    harness: ContainmentHarness,
) -> None:
    daemon = (
        "import os, time\n"
        "said, say = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        try: open({harness.at['storage']!r})\n"
        "        except PermissionError: os.write(say, str(os.getpid()).encode())\n"
        f"        time.sleep({LONG})\n"
        "    os._exit(0)\n"
        "os.close(say)\n"
        "print(os.read(said, 100).decode())\n"
    )
    result, output = await harness.run(harness.rules(), "-c", daemon)
    assert result.exit_code == 0
    assert not alive(int(output))
