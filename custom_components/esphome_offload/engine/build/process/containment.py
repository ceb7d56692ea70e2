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

Where the kernel has no Landlock, that user contains them by itself, if what is private here is
closed to other users: a build then reads, writes and runs what every user of this machine can,
lists its processes, and can end those of its own guest; what it leaves in ``/tmp`` and its like is
removed after it, and never is a folder on the way to its own its to change. All else holds as above.

Not contained: the network, so it can reach whatever this machine can, Home Assistant's own port
included; how much CPU, memory and disk it takes (it is nice, and killed first when memory ends);
that other files exist, how large they are, and, where guests have no users of their own, the mode, owner, times and extended attributes of those that belong to Home Assistant's user, which
Landlock knows no right for. Before Landlock's sixth version (Linux 6.12) it can end processes of
its user, which is Home Assistant's or the guest's; before the second (Linux 5.19) no program in it
can move a file from one folder to another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
import os
from pathlib import Path
import sys
from typing import Protocol, TypedDict, override

from ..cache.layout import CacheLayout
from ..cache.ownership import can_let_pass, give, guest_user, may_read, readable_by_all
from ..cache.shared_folders import sweep
from . import system_files
from .environment import CERTIFICATE_VARIABLES


class ContainmentError(Exception):
    """A build would not be contained by its rules; ``str(error)`` says why."""


class ContainmentSpec(TypedDict):
    """Rules as the launcher takes them."""

    write: list[str]
    run: list[str]
    read: list[str]
    devices: list[str]
    by_landlock: bool
    uid: int | None
    search: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """The files that a contained command may use; a folder stands for all below it.

    ``write``: folders that must exist, to do anything in but make devices. ``run``: to read and
    run. ``read``: to read. ``devices``: to read and write. What is missing of these three is not
    granted. ``by_landlock``: it enforces them; without it the rights of files do, for a ``user``: the
    user and group to run as; None: our own. ``search``: that user may pass folders that are closed
    to it. A command with rules runs contained or not at all.
    """

    write: tuple[Path, ...] = ()
    run: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    by_landlock: bool = True
    user: int | None = None
    search: bool = False

    def spec(self) -> ContainmentSpec:
        """Return them for the launcher."""
        return {
            "write": [str(path) for path in self.write],
            "run": [str(path) for path in self.run],
            "read": [str(path) for path in self.read],
            "devices": [str(path) for path in self.devices],
            "by_landlock": self.by_landlock,
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

    def clean_up(self) -> None:
        """Remove what builds left outside of their folders, while none of them runs. Blocks."""


@dataclass(frozen=True, slots=True)
class GuestContainment(Containment):
    """The rules for builds of one guest, whose ``layout`` holds all that they may write.

    ``private``: folders that no rule may cover as a whole, at least Home Assistant's configuration
    folder. A cache below one of them is fine. Where guests have users of their own, calling it
    also makes this guest's folder, and those that the call may write, belong to its user.
    ``by_landlock`` as in ``Rules``; ``by_users``: whether it gets such a user.
    """

    layout: CacheLayout
    private: tuple[Path, ...]
    by_landlock: bool = True
    by_users: bool = True

    @property
    def user(self) -> int | None:
        """The guest's user, chosen when it is first asked for; blocks. Raises OSError."""
        return guest_user(self.layout.root, self._cache.trash) if self.by_users else None

    @property
    def _cache(self) -> CacheLayout:
        """The cache that this guest's folder is in."""
        return CacheLayout(self.layout.root.parents[1])

    @override
    def clean_up(self) -> None:
        # Landlock lets them write nothing there.
        if not self.by_landlock and (user := self.user) is not None:
            sweep(user)

    @override
    def __call__(self, call: Contained) -> Rules:
        """Return the rules for a call of ESPHome; see ``Containment``."""
        if not self.by_landlock:
            # Also what was made again since the start.
            self._cache.share()
        write = (call.data_dir, self.layout.home, self.layout.tmp, self.layout.tools)
        prefixes = (
            *map(Path, system_files.INSTALLED_IN),
            Path(sys.base_prefix),
            Path(sys.base_exec_prefix),
            # Where that of the toolchain really is, should it be another.
            call.python.resolve().parents[1],
        )
        run = (
            call.toolchain,
            *(prefix / folder for prefix in prefixes for folder in system_files.PROGRAMS),
            *map(Path, system_files.STORES),
            *_absolute(call.env.get("LD_LIBRARY_PATH", "").split(os.pathsep)),
        )
        certificates = (call.env.get(name, "") for name in CERTIFICATE_VARIABLES)
        read = (
            self.layout.source_around(call.config_dir),
            *map(Path, (*system_files.SETTINGS, *system_files.KERNEL)),
            *_absolute(path for value in certificates for path in value.split(os.pathsep)),
        )
        rules = Rules(
            write=write,
            run=tuple(_outside(write, dict.fromkeys(run))),
            read=tuple(_outside(write, dict.fromkeys(read))),
            devices=tuple(map(Path, system_files.DEVICES)),
            by_landlock=self.by_landlock,
        )
        self._check(rules)
        return self._with_user(rules, call)

    def _with_user(self, rules: Rules, call: Contained) -> Rules:
        """Add the guest's user, which gets what it may write."""
        if (user := self.user) is None:
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
        closed = next((folder for folder in needed if not may_read(folder, user)), None)
        # Without Landlock the right to pass them would be one to read everything.
        if closed is not None and not (self.by_landlock and can_let_pass()):
            raise ContainmentError(f"{closed} is closed to the user that the guest's builds run as")
        return replace(rules, user=user, search=closed is not None)

    def _check(self, rules: Rules) -> None:
        private = [folder.resolve() for folder in self.private]
        for path in (*rules.write, *rules.run, *rules.read):
            real = path.resolve()
            for folder in private:
                if folder.is_relative_to(real):
                    raise ContainmentError(
                        f"builds need {path}, which holds {folder}, and that is private"
                    )
        if not self.by_landlock:
            for folder in private:
                if (open_to_all := readable_by_all(folder, self._cache.root)) is not None:
                    raise ContainmentError(f"every user can read {open_to_all}, which is private")


def _absolute(paths: Iterable[str]) -> Iterable[Path]:
    return (path for path in map(Path, paths) if path.is_absolute())


def _outside(write: tuple[Path, ...], paths: Iterable[Path]) -> Iterable[Path]:
    """Leave out what builds can write anyway: they could have put a link in its place."""
    return (path for path in paths if not any(path.is_relative_to(folder) for folder in write))
