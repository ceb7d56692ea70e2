"""Containment: what a guest's build may use of this machine, and how far that is enforced here.

A YAML configuration may hold Python and C++, so building it runs its author's code. Contained,
such a build and all that it starts

- read and write its own tree and its guest's HOME, TMPDIR and tools;
- read its YAML, and read and run its toolchain, that toolchain's Python and the system's programs;
- open no other file or folder, so neither Home Assistant's nor another guest's, and of ``/proc``
  nothing that belongs to a process, not even to itself;
- neither trace processes outside nor change their limits, their priority or where they run, and
  from Landlock's sixth version on neither signal them nor reach their abstract sockets;
- connect to no socket that has a path (container engines, D-Bus), and to none but the internet's;
- leave nothing in the kernel that outlives it (keyrings, System V objects, message queues);
- enter no namespace, gain no privilege, set no set-user-id or set-group-id bit, and dump no core;
- have limits for processes, open files and the size of a file.

Where Home Assistant runs as root, each guest's builds run as a user of their own, which owns
nothing else, and have no capability but, where a folder on the way to what they may read is closed
to all but root, the one to pass and read. Without such users root's builds keep the one to pass
over the owners of files.

Not contained: the network, so it can reach whatever this machine can, Home Assistant's own port
included; how much CPU, memory and disk it takes (it is nice, and killed first when memory ends); that other files exist, how large they are, and, where guests have no users of their own,
the mode, owner, times and extended attributes of those that belong to Home Assistant's user, which
Landlock knows no right for. Before Landlock's sixth version (Linux 6.12) it can end processes of
its user, which is Home Assistant's or the guest's; before the second (Linux 5.19) no program in it
can move a file from one folder to another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
import errno
import os
from pathlib import Path
import platform
import sys
from typing import Protocol, TypedDict

from ..cache.layout import CacheLayout
from ..cache.ownership import give, guest_user, guest_users, may_read
from ..launcher import landlock, seccomp
from .environment import CERTIFICATE_VARIABLES

_INSTALLED_IN = ("/", "/usr", "/usr/local")
# With `lib64` and its like; not `etc`, `src`, `var` or what else may be kept there.
_PROGRAMS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "include", "share")
# Where all programs of such systems are.
_STORES = ("/nix/store", "/gnu/store")

_SETTINGS = (
    # Libraries
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    # Certificates, but not the keys beside them
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    # Names of hosts; each is often a link to a file elsewhere, which the rule is then about
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/run/systemd/resolve",
    # Names of users, languages, time zones and of the system
    "/etc/group",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/terminfo",
    "/etc/timezone",
    # Settings of programs; git fails where it must not read its own
    "/etc/ccache.conf",
    "/etc/gitconfig",
)
_KERNEL = (
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm/overcommit_memory",
    "/proc/version",
    "/sys/devices/system/cpu",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class ContainmentError(Exception):
    """A build would not be contained by its rules; ``str(error)`` says why."""


class ContainmentSpec(TypedDict):
    """Rules as the launcher takes them."""

    write: list[str]
    run: list[str]
    read: list[str]
    devices: list[str]
    uid: int | None
    search: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """The files that a contained command may use; a folder stands for all below it.

    ``write``: folders that must exist, to do anything in but make devices. ``run``: to read and
    run. ``read``: to read. ``devices``: to read and write. What is missing of these three is not
    granted. ``user``: the user and group to run as; None: our own. ``search``: that user may pass
    folders that are closed to it. A command with rules runs contained or not at all.
    """

    write: tuple[Path, ...] = ()
    run: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    user: int | None = None
    search: bool = False

    def spec(self) -> ContainmentSpec:
        """Return them for the launcher."""
        return {
            "write": [str(path) for path in self.write],
            "run": [str(path) for path in self.run],
            "read": [str(path) for path in self.read],
            "devices": [str(path) for path in self.devices],
            "uid": self.user,
            "search": self.search,
        }


@dataclass(frozen=True, slots=True)
class Contained:
    """The paths and variables of one call that is to be contained."""

    python: Path
    toolchain: Path
    config_dir: Path
    data_dir: Path
    env: Mapping[str, str]


class Containment(Protocol):
    """The rules for each call of ESPHome."""

    def __call__(self, call: Contained) -> Rules:
        """Return the rules; blocks for a moment. Raises ContainmentError and OSError."""


@dataclass(frozen=True, slots=True)
class GuestContainment:
    """The rules for builds of one guest, whose ``layout`` holds all that they may write.

    ``private``: folders that no rule may cover as a whole, at least Home Assistant's configuration
    folder. A cache below one of them is fine. Where guests have users of their own, calling it
    also makes this guest's folder, and those that the call may write, belong to its user.
    """

    layout: CacheLayout
    private: tuple[Path, ...]

    def __call__(self, call: Contained) -> Rules:
        """Return the rules for a call of ESPHome; see ``Containment``."""
        write = (call.data_dir, self.layout.home, self.layout.tmp, self.layout.tools)
        prefixes = (
            *map(Path, _INSTALLED_IN),
            Path(sys.base_prefix),
            Path(sys.base_exec_prefix),
            # Where that of the toolchain really is, should it be another.
            call.python.resolve().parents[1],
        )
        run = (
            call.toolchain,
            *(prefix / folder for prefix in prefixes for folder in _PROGRAMS),
            *map(Path, _STORES),
            *_absolute(call.env.get("LD_LIBRARY_PATH", "").split(os.pathsep)),
        )
        certificates = (call.env.get(name, "") for name in CERTIFICATE_VARIABLES)
        read = (
            self.layout.source_around(call.config_dir),
            *map(Path, (*_SETTINGS, *_KERNEL)),
            *_absolute(path for value in certificates for path in value.split(os.pathsep)),
        )
        rules = Rules(
            write=write,
            run=tuple(_outside(write, dict.fromkeys(run))),
            read=tuple(_outside(write, dict.fromkeys(read))),
            devices=tuple(map(Path, _DEVICES)),
        )
        self._check(rules)
        return self._with_user(rules, call)

    def _with_user(self, rules: Rules, call: Contained) -> Rules:
        """Add the guest's user, which gets what it may write."""
        if (user := guest_user(self.layout.root)) is None:
            return rules
        for folder in rules.write:
            if not folder.is_relative_to(self.layout.root):
                raise ContainmentError(f"{folder} is not in the guest's folder")
            give(folder, user)
        needed = (
            call.data_dir,
            call.config_dir,
            call.toolchain,
            call.python.resolve().parent,
        )
        search = not all(may_read(folder, user) for folder in needed)
        return replace(rules, user=user, search=search)

    def _check(self, rules: Rules) -> None:
        private = [folder.resolve() for folder in self.private]
        for path in (*rules.write, *rules.run, *rules.read):
            real = path.resolve()
            for folder in private:
                if folder.is_relative_to(real):
                    raise ContainmentError(
                        f"builds need {path}, which holds {folder}, and that is private"
                    )


def _absolute(paths: Iterable[str]) -> Iterable[Path]:
    return (path for path in map(Path, paths) if path.is_absolute())


def _outside(write: tuple[Path, ...], paths: Iterable[Path]) -> Iterable[Path]:
    """Leave out what builds can write anyway: they could have put a link in its place."""
    return (path for path in paths if not any(path.is_relative_to(folder) for folder in write))


class Degree(StrEnum):
    """The degree to which this machine can contain builds."""

    CONTAINED = "contained"
    SIGNALS_OPEN = "signals_open"
    """Files are protected, but a build can end processes of Home Assistant's user."""
    UNCONTAINED = "uncontained"


class Obstacle(StrEnum):
    """A reason why this machine cannot contain builds."""

    KERNEL = "kernel"
    """The kernel has no Landlock: it is older than 5.13 or was built without."""
    SWITCHED_OFF = "switched_off"
    """It has, but not among the security modules that it was started with (``lsm=``)."""
    FORBIDDEN = "forbidden"
    """Something around Home Assistant, most likely its container, does not let it ask."""
    MACHINE = "machine"
    """An architecture whose system calls we do not know."""


@dataclass(frozen=True, slots=True)
class ContainmentHere:
    """The containment of this machine, for a person who lends it.

    ``abi``: Landlock's version, 0 if none. ``guest_users``: whether each guest's builds run as a
    user of their own.
    """

    degree: Degree
    abi: int
    kernel: str
    machine: str
    obstacle: Obstacle | None = None
    guest_users: bool = False

    @property
    def key(self) -> str:
        """Name the translated sentence: the degree, and with an obstacle that too."""
        return self.degree if self.obstacle is None else f"{self.degree}_{self.obstacle}"

    @property
    def placeholders(self) -> dict[str, str]:
        """Return what that sentence may mention."""
        return {"abi": str(self.abi), "kernel": self.kernel, "machine": self.machine}


def containment_here() -> ContainmentHere:
    """Ask the kernel; takes microseconds and is safe on the event loop."""
    kernel, machine = platform.release(), platform.machine()

    def cannot(obstacle: Obstacle) -> ContainmentHere:
        return ContainmentHere(Degree.UNCONTAINED, 0, kernel, machine, obstacle)

    if sys.platform != "linux":
        return cannot(Obstacle.KERNEL)
    if not seccomp.supported():
        return cannot(Obstacle.MACHINE)
    try:
        abi = landlock.abi()
    except OSError as error:
        known = {errno.ENOSYS: Obstacle.KERNEL, errno.EOPNOTSUPP: Obstacle.SWITCHED_OFF}
        return cannot(known.get(error.errno or 0, Obstacle.FORBIDDEN))
    users = guest_users() is not None
    # Other users' processes get no signal from a guest's.
    contained = users or abi >= landlock.SIGNALS_ABI
    degree = Degree.CONTAINED if contained else Degree.SIGNALS_OPEN
    return ContainmentHere(degree, abi, kernel, machine, guest_users=users)
