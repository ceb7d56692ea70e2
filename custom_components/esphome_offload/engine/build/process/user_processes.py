"""The end of all processes of a guest's user."""

from pathlib import Path
import sys
from typing import Final

from .processes import Command, Processes

_KILLER: Final = (
    "import sys; sys.path.append(sys.argv[1]); from launcher.descendants import kill_all_of;"
    " kill_all_of(int(sys.argv[2]))"
)
_TIMEOUT: Final = 10.0


async def kill_all_of(user: int, processes: Processes) -> None:
    """Kill all processes of a guest's user, whoever started them; only root can.

    Raises TimeoutError and LaunchError.
    """
    launcher = str(Path(__file__).parents[1])
    argv = (sys.executable, "-I", "-S", "-c", _KILLER, launcher, str(user))
    await processes.capture(Command(argv, cwd=Path("/"), env={}), timeout=_TIMEOUT)
