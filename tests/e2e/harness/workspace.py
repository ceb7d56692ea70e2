"""Folders under .cache that one run at a time uses."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
from itertools import count
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
# Resolved: ccache finds nothing again where a path has a link in it.
CACHE = (REPOSITORY / ".cache").resolve()


@contextmanager
def claim(name: str) -> Iterator[Path]:
    """Yield the folder ``.cache/name``, or name-2 and so on while others use the first ones."""
    for number in count(1):
        folder = CACHE / (name if number == 1 else f"{name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield folder
            return
