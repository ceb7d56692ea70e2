"""A user of its own for each guest, where Home Assistant runs as root.

The folder of a guest belongs to that user, which is also where it is kept which user is whose.
"""

import os
from pathlib import Path
import stat
import threading
from typing import Final

from .removal import remove

GUEST_USERS: Final = (range(0x70000000, 0x70010000), range(55000, 59000))
"""User ids, and group ids of the same numbers. systemd's list of ids calls the first range unused;
where a container has only 65,536 ids, the second is between people and the system's services."""

_CAPABILITIES = sum(1 << number for number in (0, 1, 3, 5, 6, 7, 8))
"""CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SETPCAP: a container may have taken some."""

_PROCESS = Path("/proc/self")
_choosing = threading.Lock()


def guest_users() -> range | None:
    """Return the user ids for guests; None if we cannot give them any."""
    if os.geteuid() != 0:
        return None
    status = (_PROCESS / "status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    if _CAPABILITIES & ~int(effective.split()[1], 16):
        return None
    return next(
        (users for users in GUEST_USERS if _mapped("uid_map", users) and _mapped("gid_map", users)),
        None,
    )


def _mapped(name: str, users: range) -> bool:
    """Return whether a user namespace that we may be in knows all of these ids."""
    for line in (_PROCESS / name).read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        if first <= users.start and users.stop <= first + count:
            return True
    return False


def guest_user(folder: Path) -> int | None:
    """Return the user of the guest whose folder this is, chosen at the first call.

    Blocks; None if guests have no users of their own here. Raises OSError.
    """
    users = guest_users()
    if users is None:
        return None
    with _choosing:
        user = folder.stat().st_uid
        if user not in users:
            taken = {each.lstat().st_uid for each in folder.parent.iterdir()}
            user = next(each for each in users if each not in taken)
            os.chown(folder, user, user)
        folder.chmod(0o700)
    return user


def give(folder: Path, user: int) -> None:
    """Make a folder that belongs to a user, in place of one that does not. Blocks."""
    try:
        owner = folder.lstat().st_uid
    except FileNotFoundError:
        owner = None
    if owner != user:
        # Made just now, or before guests had users: all in a cache can be made again.
        remove(folder)
        # Not if anything is still in its place, a link to elsewhere above all.
        folder.mkdir(mode=0o700, parents=True)
        os.chown(folder, user, user, follow_symlinks=False)


def may_read(folder: Path, user: int) -> bool:
    """Return whether a user of no group may list a folder and reach it from the root. Blocks."""

    def allowed(path: Path, rights: int) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == user else 0
        return status.st_mode >> shift & rights == rights

    real = folder.resolve()
    return allowed(real, stat.S_IROTH | stat.S_IXOTH) and all(
        allowed(parent, stat.S_IXOTH) for parent in (*folder.parents, *real.parents)
    )
