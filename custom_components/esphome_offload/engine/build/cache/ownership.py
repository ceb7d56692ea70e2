"""A user of its own for each guest, where Home Assistant runs as root.

A guest's folder belongs to root and to the group of that user's number, which keeps whose user it
is; what its builds may write belongs to the user.
"""

from collections.abc import Iterator
import hashlib
import os
from pathlib import Path
import stat
import threading
from typing import Final

from ...reason import Reason, ReasonKey
from .removal import remove

GUEST_USERS: Final = (range(0x70000000, 0x70010000), range(55000, 59000))
"""User ids, and group ids of the same numbers. systemd's list of ids calls the first range unused;
where a container has only 65,536 ids, the second is between people and the system's services. A
guest gets an even one; the next is for what ends its processes."""

_CAPABILITIES: Final = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
}
"""By name as containers call them, which may have taken some."""
_TO_PASS: Final = (1 << 2) | (1 << 8)
"""DAC_READ_SEARCH, and SETPCAP to hand it on."""

NOBODY: Final = -1
"""A user that owns nothing and is in no group."""

_PROCESS = Path("/proc/self")
_choosing = threading.Lock()


def guest_users() -> range | None:
    """Return the user ids for guests; None if we cannot give them any."""
    users = look_for_guest_users()
    return users if isinstance(users, range) else None


def look_for_guest_users() -> range | Reason:
    """Return the user ids for guests, or why we cannot give them any."""
    if os.geteuid() != 0:
        return Reason(ReasonKey.GUEST_USERS_NOT_ROOT)
    held = _held_capabilities()
    if missing := [name for name, number in _CAPABILITIES.items() if not held >> number & 1]:
        return Reason(ReasonKey.GUEST_USERS_WEAK_ROOT, {"capabilities": ", ".join(missing)})
    known = (
        users for users in GUEST_USERS if _mapped("uid_map", users) and _mapped("gid_map", users)
    )
    return next(known, Reason(ReasonKey.GUEST_USERS_TOO_FEW))


def can_let_pass() -> bool:
    """Return whether we can let a guest's user pass folders that are closed to it."""
    return _held_capabilities() & _TO_PASS == _TO_PASS


def _held_capabilities() -> int:
    status = (_PROCESS / "status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(effective.split()[1], 16)


def _mapped(name: str, users: range) -> bool:
    """Return whether a user namespace that we may be in knows all of these ids."""
    for line in (_PROCESS / name).read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        if first <= users.start and users.stop <= first + count:
            return True
    return False


def guest_user(folder: Path, trash: Path) -> int | None:
    """Return the user of the guest whose folder this is, chosen at the first call.

    ``trash`` is where folders of former guests are until they are deleted. Blocks; None if guests
    have no users of their own here. Raises OSError.
    """
    users = guest_users()
    if users is None:
        return None
    with _choosing:
        status = folder.stat()
        user = status.st_gid
        if status.st_uid != 0 or user not in users:
            taken = {gid for each in (folder.parent, trash) for gid in _groups(each)}
            user = next(each for each in _candidates(users, folder.parent) if each not in taken)
            os.chown(folder, 0, user)
        # Not the user's: it could put a link in the place of anything in there.
        folder.chmod(0o710)
    return user


def _groups(folder: Path) -> Iterator[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.stat(follow_symlinks=False).st_gid
    except FileNotFoundError:
        return


def _candidates(users: range, guests: Path) -> Iterator[int]:
    """Return the even ids, from one on that another cache on this machine hardly begins with."""
    even = users[::2]
    digest = hashlib.sha256(os.fsencode(guests)).digest()
    first = int.from_bytes(digest[:8]) % len(even)
    yield from even[first:]
    yield from even[:first]


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
    """Return whether a guest's user may list a folder and reach it from the root. Blocks."""
    return (
        _allows(folder, user, stat.S_IROTH | stat.S_IXOTH) and closed_folder(folder, user) is None
    )


def closed_folder(path: Path, user: int) -> Path | None:
    """Return the first folder above a path that a guest's user may not pass. Blocks.

    What does not exist yet counts as one that it may.
    """
    ways = dict.fromkeys((*reversed(path.parents), *reversed(path.resolve().parents)))
    return next(
        (each for each in ways if each.exists() and not _allows(each, user, stat.S_IXOTH)), None
    )


def readable_by_all(folder: Path, passage: Path) -> Path | None:
    """Return what every user can read or change of a private folder; None: nothing. Blocks.

    ``passage`` may be below it; the way there is open to pass, and its own rights are not asked.
    """
    if not folder.exists() or closed_folder(folder / "any", NOBODY) is not None:
        return None
    if folder.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        return folder
    on_the_way = {passage.resolve(), *passage.resolve().parents}
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            continue
        if path.resolve() in on_the_way:
            if path.resolve() != passage.resolve() and (open_ := readable_by_all(path, passage)):
                return open_
        elif mode & stat.S_IRWXO:
            return path
    return None


def _allows(path: Path, user: int, rights: int) -> bool:
    """Return whether the mode of a path gives a user and its group these rights of others."""
    status = path.stat()
    shift = 6 if status.st_uid == user else 3 if status.st_gid == user else 0
    return status.st_mode >> shift & rights == rights
