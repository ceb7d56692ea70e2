"""Remove folders that builds wrote: however deep or large, and whatever rights they took away."""

from contextlib import suppress
import os
from pathlib import Path
import threading
import uuid


def remove(folder: Path, stop: threading.Event | None = None) -> None:
    """Delete a folder with all that is in it, as far as that can be done. Blocks.

    When ``stop`` is set it returns at once, with the rest still there. No link is followed.
    ``shutil.rmtree`` has each level open at the same time and all names of a folder in memory: a
    build that makes folders in folders, or names, without end would take all descriptors and the
    memory of Home Assistant. Here the folders of a folder move up to the first level before it is
    removed, and names are handled one by one.
    """
    with suppress(OSError):
        top = open_folder(str(folder), None)
        try:
            empty(top, stop)
        finally:
            os.close(top)
        folder.rmdir()


def empty(folder: int, stop: threading.Event | None = None) -> None:
    """Delete what is in an open folder; the same otherwise. Blocks."""
    while _remove_some(folder, stop or threading.Event()):
        pass


def _remove_some(top: int, stop: threading.Event) -> bool:
    """Delete what is found in a folder; return whether more may have come up from below."""
    # Names that nothing in there can have.
    prefix, moved = uuid.uuid4().hex, 0
    with os.scandir(top) as entries:
        for entry in entries:
            if stop.is_set():
                return False
            if not entry.is_dir(follow_symlinks=False):
                _unlink(entry.name, top)
                continue
            with suppress(OSError):
                inner = open_folder(entry.name, top)
                try:
                    with os.scandir(inner) as below:
                        for each in below:
                            if stop.is_set():
                                return False
                            if not each.is_dir(follow_symlinks=False):
                                _unlink(each.name, inner)
                            elif _move(each.name, inner, f"{prefix}-{moved}", top):
                                moved += 1
                finally:
                    os.close(inner)
                os.rmdir(entry.name, dir_fd=top)
    return moved > 0


def _unlink(name: str, folder: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _move(name: str, source: int, new: str, target: int) -> bool:
    with suppress(OSError):
        # For its entry "..", which changes, it must be ours to write.
        os.close(open_folder(name, source))
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        return True
    return False


def open_folder(name: str, parent: int | None) -> int:
    """Open a folder, even if its owner took the rights from itself. Raises OSError, also for a link.

    A build could hide or keep what it wrote that way.
    """
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        mode = os.fstat(handle).st_mode
        if mode & 0o700 != 0o700 and os.geteuid() != 0:
            # By this name, because only so it is the one that was opened.
            os.chmod(f"/proc/self/fd/{handle}", mode & 0o777 | 0o700)  # noqa: PTH101 - as it is
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
