"""An ESPHome component that tries, while its configuration is validated, what no build may do.

``targets.json`` beside it says at what, ``report.json`` in the data directory then what came of it.
It imports nothing of ours: it runs in the Python of a toolchain.
"""
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH109, PTH123, PTH208, PTH211
# The system calls that are meant, by their names.

import ctypes
import errno
import json
import os
from pathlib import Path
import platform
import resource
import signal
import socket
import stat

import esphome.codegen as cg
import esphome.config_validation as cv

AT = json.loads(Path(__file__).with_name("targets.json").read_text())
DATA = Path(os.environ["ESPHOME_DATA_DIR"])
HOME = Path(os.environ["HOME"])
SOURCES = Path(__file__).parents[2]
GUEST = DATA.parents[1]
X86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)


def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def system_call(on_x86, elsewhere, *arguments):
    return lambda: call(libc.syscall(on_x86 if X86 else elsewhere, *arguments))


def system_v(get, control, *arguments):
    """Make an object of System V, and remove it: the kernel would keep it for good."""

    def tried():
        made = libc.syscall(get[not X86], AT["ipc"], *arguments)
        call(made)
        libc.syscall(control[not X86], made, 0, 0, 0)

    return tried


def posix_queue():
    """Make a queue, and remove it: a user may have ten."""
    name = AT["abstract"].encode()
    queue = libc.syscall(240 if X86 else 180, name, 0o102, 0o600, None)
    call(queue)
    os.close(queue)
    libc.syscall(241 if X86 else 181, name)


def read(path):
    return lambda: Path(path).read_bytes()


def names(path):
    return lambda: os.listdir(path)


def make(path):
    return lambda: Path(path).write_text("left")


def append(path):
    return lambda: open(path, "a").close()


def in_child(action):
    """Try what would change this process in another one."""

    def tried():
        said, say = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                action()
                number = 0
            except OSError as error:
                number = error.errno
            os.write(say, str(number).encode())
            os._exit(0)
        os.close(say)
        os.waitpid(child, 0)
        if number := int(os.read(said, 20)):
            raise OSError(number, "")

    return tried


def inherited():
    """Fail unless a descriptor was left open beside the standard ones and those of Python."""
    open_ = []
    for number in range(3, 1024):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        # Python itself has its own open, all of which close on exec.
        if not os.get_inheritable(number):
            continue
        open_.append((number, stat.S_IFMT(status.st_mode)))
    if not open_:
        raise OSError(errno.EBADF, "")


def connect(address):
    def tried():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)

    return tried


def replace_trees():
    os.rename(DATA.parent, GUEST / "old")
    os.rename(GUEST / "old", DATA.parent)


def leave_daemon():
    said, say = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(say, str(os.getpid()).encode())
            # Holds no pipe open and, with another program's environment, bears no mark.
            os.closerange(0, 100)
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.close(say)
    return int(os.read(said, 20))


def lay_traps():
    """Make it hard to clean up after this build, and dangerous for who follows links."""
    traps = DATA / "traps"
    deep = traps / "deep"
    deep.mkdir(parents=True)
    for name, target in (("key", AT["key"]), ("data", AT["data"]), ("theirs", AT["their_tree"])):
        (traps / name).symlink_to(target)
    for number in range(500):
        (traps / f"name {number}").touch()
    here = os.getcwd()
    os.chdir(deep)
    for _ in range(60):
        os.mkdir("d" * 100)
        os.chdir("d" * 100)
    os.chmod(".", 0)
    os.chdir(here)
    os.mkfifo(traps / "pipe")
    os.chmod(deep, 0)


HOST, OTHER = AT["host"], AT["other"]
TRIES = {
    "read the identity key": read(AT["key"]),
    "read the key by a link in its tree": read(DATA / "traps" / "key"),
    "read the key from the root folder": read("/proc/self/root" + AT["key"]),
    "list the data folder": names(AT["data"]),
    "read Home Assistant's storage": read(AT["storage"]),
    "read the secrets of another guest": read(AT["their_secrets"]),
    "list the folder of another guest": names(AT["their_folder"]),
    "list what was compiled for another guest": names(AT["their_cache"]),
    "list the guests": names(GUEST.parent),
    "read what the machine builds for itself": names(GUEST.parents[1] / "trees"),
    "change the tree of another guest": make(AT["their_tree"] + "/planted"),
    "make a second name for the key": lambda: os.link(AT["key"], DATA / "second"),
    "move a file of another guest": lambda: os.rename(AT["their_secrets"], DATA / "moved"),
    "add to the toolchain": make(AT["toolchain"] + "/lib/planted.pth"),
    "change ESPHome": append(cg.__file__),
    "lock the toolchain": append(AT["toolchain"] + "/.lock"),
    "lock all builds": read(GUEST.parents[1] / "running.lock"),
    "add to the system's programs": make("/usr/local/bin/esphome-offload-planted"),
    "change its own YAML": append(SOURCES / "lamp.yaml"),
    "unlock its tree": lambda: os.unlink(str(DATA) + ".lock"),
    "put something in the place of the trees": replace_trees,
    "put a link into its guest's folder": lambda: os.symlink("/", GUEST / "link"),
    "make the folder of its firmware": lambda: os.mkdir(GUEST / "firmware"),
    "environment of the host": read(f"/proc/{HOST}/environ"),
    "memory of the host": lambda: os.close(os.open(f"/proc/{HOST}/mem", os.O_RDWR)),
    "files of the host": names(f"/proc/{HOST}/fd"),
    "environment of another guest's build": read(f"/proc/{OTHER}/environ"),
    "memory of another guest's build": lambda: os.close(os.open(f"/proc/{OTHER}/mem", os.O_RDWR)),
    "files of another guest's build": names(f"/proc/{OTHER}/fd"),
    "control pipe of its launcher": lambda: os.open(f"/proc/{os.getppid()}/fd/0", os.O_WRONLY),
    "signal its launcher": lambda: os.kill(os.getppid(), 0),
    "signal another guest's build": lambda: os.kill(OTHER, 0),
    "trace the host": lambda: call(libc.ptrace(0x4206, HOST, 0, 0)),
    "trace another guest's build": lambda: call(libc.ptrace(0x4206, OTHER, 0, 0)),
    "slow the host down": lambda: os.setpriority(os.PRIO_PROCESS, HOST, 19),
    "limit the host": lambda: resource.prlimit(HOST, resource.RLIMIT_CPU, (10**6, 10**6)),
    "the builder's control socket": connect(AT["control"]),
    "an abstract socket": connect("\0" + AT["abstract"]),
    "a keyring": in_child(system_call(250, 219, 1, None)),
    "shared memory of System V": system_v((29, 194), (31, 195), 4096, 0o1666),
    "semaphores": system_v((64, 190), (66, 191), 1, 0o1666),
    "a queue of System V": system_v((68, 186), (71, 187), 0o1666),
    "a queue of POSIX": posix_queue,
    "a user namespace": in_child(system_call(272, 97, 0x10000000)),
    "a set-user-id bit": lambda: os.chmod(HOME, 0o4700),
    "a device": lambda: os.mknod(DATA / "device", stat.S_IFBLK | 0o600, os.makedev(7, 0)),
    "give a file away": lambda: os.chown(HOME, 0, 0) if os.getuid() else os.chown(HOME, 1, 1),
    "another root folder": in_child(lambda: os.chroot(DATA)),
    "what runs when a program crashes": append("/proc/sys/kernel/core_pattern"),
    "a descriptor of the launcher": inherited,
    # By the mode of the containment.
    "rights of the key": lambda: os.chmod(AT["key"], 0o600),
    "a file that every user can read": read(AT["public"]),
    "programs that run": names("/proc"),
    "a file in /tmp": make(f"/tmp/{AT['abstract']}"),
    "a file in shared memory": make(f"/dev/shm/{AT['abstract']}"),
    # Last: what it would end is needed before.
    "end the host": lambda: os.kill(HOST, signal.SIGKILL),
}


def tried(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def attack(config):
    lay_traps()
    report = {name: tried(action) for name, action in TRIES.items()}
    report["daemon"] = leave_daemon()
    (DATA / "report.json").write_text(json.dumps(report))
    if not AT["compile"]:
        raise cv.Invalid("that was all")
    return config


CONFIG_SCHEMA = cv.All(cv.Schema({}), attack)


async def to_code(config):
    pass
