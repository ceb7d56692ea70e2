"""Files that this user alone may read, written as a whole or not at all."""

from contextlib import suppress
import os
from pathlib import Path
import tempfile


def write_private(path: Path, content: bytes) -> None:
    """Put a file in the place of any other; returns when it is on disk. Blocking.

    Raises OSError; then the old one is still there.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".new")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    # The name must survive a power cut too; not every file system can be asked for that.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
