"""Files in whose place somebody else may have put something that is none."""

import os
from pathlib import Path
import stat
from typing import BinaryIO


class NotRegularError(OSError):
    """There is something else than a regular file: a folder, a pipe, a device."""


def open_regular(path: Path | str, folder: int | None = None) -> BinaryIO:
    """Open a regular file, in an open folder if there is one, to read it. Never waits for a pipe.

    Raises NotRegularError, and OSError for a link. A descriptor is open only if a file is returned.
    """

    def opener(name: str, flags: int) -> int:
        handle = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise NotRegularError("not a regular file")
        return handle

    # Unlike ``os.fdopen``, it closes what the opener returns, whatever fails then.
    return open(path, "rb", opener=opener)
