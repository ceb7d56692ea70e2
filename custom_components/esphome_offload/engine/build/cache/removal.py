"""Remove folders that builds wrote: however deep they are, and whatever rights they took away."""

from contextlib import suppress
import os
from pathlib import Path
import uuid


def remove(folder: Path) -> None:
    """Delete a folder with all that is in it, as far as that can be done; blocks.

    No link is followed. ``shutil.rmtree`` has each level open at the same time: a build that
    makes folders in folders without end would take all descriptors of Home Assistant, and stay.
    Here the folders of a folder move up to the first level before it goes.
    """
    with suppress(OSError):
        top = _open(str(folder), None)
        try:
            _remove_content(top)
        finally:
            os.close(top)
        folder.rmdir()


def _remove_content(top: int) -> None:
    # Names that nothing in there can have.
    prefix, number = uuid.uuid4().hex, 0
    names = _remove_files(top)
    while names:
        name = names.pop()
        with suppress(OSError):
            inner = _open(name, top)
            try:
                for each in _remove_files(inner):
                    number += 1
                    if _move(each, inner, f"{prefix}-{number}", top):
                        names.append(f"{prefix}-{number}")
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _remove_files(folder: int) -> list[str]:
    """Delete all but folders, and return the names of those."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in tuple(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
    return folders


def _move(name: str, source: int, new: str, target: int) -> bool:
    with suppress(OSError):
        # For its entry "..", which changes, it must be ours to write.
        os.close(_open(name, source))
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        return True
    return False


def _open(name: str, parent: int | None) -> int:
    """Open a folder, with all rights of its owner; raises OSError, also for a link."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            # By this name, because only so it is the one that was opened.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101 - as it is
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
