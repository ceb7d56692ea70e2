"""The folders of the system that everybody may write to, and what a user left there."""

from collections.abc import Iterable
from contextlib import suppress
import os
from pathlib import Path
import stat
from typing import Final

from .removal import empty, open_folder

SHARED_FOLDERS: Final = tuple(
    map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"))  # noqa: S108
)
_DEEPEST: Final = 4
"""Levels of such folders in each other, like ``/tmp/.X11-unix``."""


def sweep(user: int, shared: Iterable[Path] = SHARED_FOLDERS) -> None:
    """Remove all that belongs to a user in folders that everybody may write to. Blocks.

    No link is followed.
    """
    for folder in shared:
        with suppress(OSError):
            handle = open_folder(str(folder), None)
            try:
                _sweep(handle, user, _DEEPEST)
            finally:
                os.close(handle)


def _sweep(folder: int, user: int, levels: int) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if status.st_uid == user or (levels and status.st_mode & stat.S_IWOTH):
                        _sweep_folder(entry.name, folder, user, levels - 1)
                elif status.st_uid == user:
                    os.unlink(entry.name, dir_fd=folder)


def _sweep_folder(name: str, parent: int, user: int, levels: int) -> None:
    handle = open_folder(name, parent)
    try:
        # Another one may have got its name meanwhile.
        own = os.fstat(handle).st_uid == user
        if own:
            empty(handle)
        else:
            _sweep(handle, user, levels)
    finally:
        os.close(handle)
    if own:
        os.rmdir(name, dir_fd=parent)
