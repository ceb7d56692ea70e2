"""How far this machine can contain builds of guests, and what a person is told of it."""

from dataclasses import dataclass
from enum import StrEnum
import errno
from pathlib import Path
import platform
import sys
from typing import Final

from ...reason import Reason, ReasonKey
from ..cache.ownership import (
    NOBODY,
    can_let_pass,
    closed_folder,
    look_for_guest_users,
    readable_by_all,
)
from ..launcher import landlock, seccomp


class Degree(StrEnum):
    """The degree to which this machine can contain builds."""

    CONTAINED = "contained"
    """By Landlock, and where we are root by a user of its own for each guest as well."""
    BY_USERS = "by_users"
    """By these users alone."""
    SIGNALS_OPEN = "signals_open"
    """Files are protected, but a build can end processes of Home Assistant's user."""
    UNCONTAINED = "uncontained"


class Obstacle(StrEnum):
    """A reason why this machine cannot contain builds by Landlock."""

    KERNEL = "kernel"
    """The kernel has none: it is older than 5.13 or was built without."""
    SWITCHED_OFF = "switched_off"
    """It has, but not among the security modules that it was started with (``lsm=``)."""
    FORBIDDEN = "forbidden"
    """Something around Home Assistant, most likely its container, does not let it ask."""
    MACHINE = "machine"
    """An architecture whose system calls we do not know, so that nothing else helps either."""


_DEGREES: Final = {
    Degree.CONTAINED: ReasonKey.CONTAINED,
    Degree.BY_USERS: ReasonKey.CONTAINED_BY_USERS,
    Degree.SIGNALS_OPEN: ReasonKey.CONTAINED_SIGNALS_OPEN,
}
_OBSTACLES: Final = {
    Obstacle.KERNEL: ReasonKey.LANDLOCK_MISSING,
    Obstacle.SWITCHED_OFF: ReasonKey.LANDLOCK_SWITCHED_OFF,
    Obstacle.FORBIDDEN: ReasonKey.LANDLOCK_FORBIDDEN,
}


@dataclass(frozen=True, slots=True)
class ContainmentHere:
    """The containment of this machine, for a person who lends it.

    ``abi``: Landlock's version, 0 if none. ``guest_users``: whether each guest's builds run as a
    user of their own; ``why_no_users``: why not.
    """

    degree: Degree
    abi: int
    kernel: str
    machine: str
    obstacle: Obstacle | None = None
    guest_users: bool = False
    why_no_users: Reason | None = None

    @property
    def reason(self) -> Reason:
        """Say in one sentence what holds on this machine."""
        kernel = {"kernel": self.kernel}
        if (key := _DEGREES.get(self.degree)) is not None:
            return Reason(key, kernel)
        causes: dict[str, Reason] = {}
        if self.obstacle is Obstacle.MACHINE:
            causes["seccomp"] = Reason(ReasonKey.SECCOMP_UNKNOWN, {"machine": self.machine})
        elif self.obstacle is not None:
            causes["Landlock"] = Reason(_OBSTACLES[self.obstacle], kernel)
        if self.why_no_users is not None:
            causes["UID"] = self.why_no_users
        return Reason(ReasonKey.NOT_CONTAINED, causes=causes)


def containment_here(cache: Path | None = None, private: tuple[Path, ...] = ()) -> ContainmentHere:
    """Find out what the kernel and the rights of files contain; blocks for a moment.

    ``cache``: where guests' folders are; ``private``: folders that their builds must not read.
    """
    kernel, machine = platform.release(), platform.machine()
    obstacle, abi = _look_for_landlock()
    if obstacle is Obstacle.MACHINE:
        return ContainmentHere(Degree.UNCONTAINED, 0, kernel, machine, obstacle)
    why_no_users = _why_no_users(cache, private, by_landlock=obstacle is None)
    has_users = why_no_users is None
    if obstacle is not None:
        degree = Degree.BY_USERS if has_users else Degree.UNCONTAINED
    else:
        # Other users' processes get no signal from a guest's.
        contained = has_users or abi >= landlock.SIGNALS_ABI
        degree = Degree.CONTAINED if contained else Degree.SIGNALS_OPEN
    return ContainmentHere(degree, abi, kernel, machine, obstacle, has_users, why_no_users)


def _look_for_landlock() -> tuple[Obstacle | None, int]:
    """Return what is in its way, or its version."""
    if sys.platform != "linux":
        return Obstacle.KERNEL, 0
    if not seccomp.supported():
        return Obstacle.MACHINE, 0
    try:
        return None, landlock.abi()
    except OSError as error:
        known = {errno.ENOSYS: Obstacle.KERNEL, errno.EOPNOTSUPP: Obstacle.SWITCHED_OFF}
        return known.get(error.errno or 0, Obstacle.FORBIDDEN), 0


def _why_no_users(
    cache: Path | None, private: tuple[Path, ...], *, by_landlock: bool
) -> Reason | None:
    """Return why guests have no users of their own; without Landlock these must be enough."""
    if isinstance(users := look_for_guest_users(), Reason):
        return users
    if cache is None or (by_landlock and can_let_pass()):
        return None
    for needed in (cache, Path(sys.executable).resolve()):
        if (closed := closed_folder(needed, NOBODY)) is not None:
            return Reason(ReasonKey.GUEST_USERS_SHUT_OUT, {"folder": str(closed)})
    if by_landlock:
        return None
    for folder in private:
        if (open_to_all := readable_by_all(folder, cache)) is not None:
            return Reason(ReasonKey.GUEST_USERS_CAN_READ, {"path": str(open_to_all)})
    return None
