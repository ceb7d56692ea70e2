"""What is checked before anything runs. All functions block and raise RefusedError."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import os
from typing import Final

from .engine.build.cache.ownership import guest_users
from .engine.build.resources import DISK_MIB, free_disk, why_not_here
from .engine.build.services import BuildServices
from .engine.const import MIB
from .engine.host.status import why_not_lent
from .engine.reason import Reason, ReasonKey
from .settings import DataFolder, RefusedError

_READ_OR_WRITE: Final = 0o066


def check_machine(folder: DataFolder) -> None:
    """Refuse a system that cannot compile, and a disk that is too small.

    One that may be full of our own cache is not refused: only the running program can clean that,
    and until then it accepts no builds.
    """
    if (why_not := why_not_here()) is not None:
        raise RefusedError(str(why_not))
    try:
        free = free_disk(folder.root) // MIB
    except OSError as err:
        raise RefusedError(f"{folder.root} cannot be used: {err.strerror}") from err
    if free < DISK_MIB and not folder.cache.is_dir():
        figures = {"free": str(free), "needed": str(DISK_MIB)}
        raise RefusedError(f"{folder.root}: {Reason(ReasonKey.DISK_LOW, figures)}")


def check_folder(folder: DataFolder) -> None:
    """Make the data folder, or refuse one that others can read: it holds the private key.

    One that is empty, such as a new volume, is closed to them first.
    """
    root = folder.root
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.stat()
        mode = status.st_mode & 0o777
        if status.st_uid != os.geteuid():
            raise RefusedError(f"{root} belongs to another user (id {status.st_uid}); chown it")
        if mode & _READ_OR_WRITE == 0 or not any(root.iterdir()):
            # Users of guests pass it on the way to their own folders; in most containers root
            # lacks the capability to let them.
            root.chmod(0o700 if guest_users() is None else 0o711)
            return
    except OSError as err:
        raise RefusedError(f"{root} cannot be used: {err.strerror}") from err
    raise RefusedError(
        f"Others can read or change {root} (mode {mode:o}), which holds the private key of"
        f" this builder; run: chmod 700 {root}"
    )


@contextmanager
def only_one(folder: DataFolder) -> Iterator[None]:
    """Refuse a second program with the same data folder for as long as the context lasts."""
    with folder.lock.open("ab") as file:
        # Who may open it can lock it.
        os.fchmod(file.fileno(), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"A builder runs already with {folder.root}") from None
        yield


def check_containment(services: BuildServices, *, uncontained: bool) -> None:
    """Refuse to build for guests what the system cannot contain, unless that is wanted."""
    here = services.containment
    why_not = why_not_lent(services.builder.status(), here, uncontained=uncontained)
    if why_not is None:
        return
    if why_not.key is ReasonKey.NOT_CONTAINED:
        raise RefusedError(f"{why_not}. To run them in spite of that, start with --uncontained")
    raise RefusedError(str(why_not))
