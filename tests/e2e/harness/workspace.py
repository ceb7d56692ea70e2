"""Folders under .cache that one run at a time uses."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
from itertools import count
from pathlib import Path
import subprocess

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
            _unmount_leftovers(folder)
            yield folder
            return


def _unmount_leftovers(folder: Path) -> None:
    """Unmount what a run that was killed had mounted in a folder: it could not be removed."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for escaped in reversed(mounted):
        place = escaped.encode().decode("unicode_escape")
        if Path(place).is_relative_to(folder):
            subprocess.run(("umount", place), check=True)
