"""A toolchain whose ESPHome says what a call sees of its process, and calls of it."""

import json
from pathlib import Path
import sysconfig
from typing import Any
import venv

from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    Processes,
    ProcessResult,
)
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons

# An ESPHome of which only matters when it is imported, and what a call can see of its process.
ESPHOME = """
import json, os, sys, time
def main():
    import esphome.config
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    esphome.config.calls += 1
    print(json.dumps({
        "argv": sys.argv, "cwd": os.getcwd(), "variable": os.environ.get("VARIABLE"),
        "names": sorted(os.environ), "zone": time.tzname, "stdin": sys.stdin.read(),
        "calls": esphome.config.calls, "open": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
        "nice": os.nice(0), "name": __name__,
    }))
    if kind == "refuse":
        return 2
    if kind == "say":
        sys.exit("what is wrong")
    if kind == "raise":
        raise ValueError("a defect")
    if kind == "killed":
        os.kill(os.getpid(), 9)
    if kind == "at-exit":
        import atexit, threading
        atexit.register(print, "registered")
        threading.Timer(0.05, print, ["a thread"]).start()
if __name__ == "__main__":
    sys.exit(main())
"""


CONFIG = """
import os
calls = 0
with open(os.path.join(os.path.dirname(__file__), "imports"), "a") as file:
    file.write("x")
"""


class Toolchain:
    """A virtual environment with that ESPHome."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.folder = folder
        self.python = folder / "bin" / "python"
        version = sysconfig.get_python_version()
        self.package = folder / "lib" / f"python{version}" / "site-packages" / "esphome"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        (self.package / "__main__.py").write_text(ESPHOME)
        (self.package / "config.py").write_text(CONFIG)

    @property
    def imports(self) -> int:
        """How many Pythons imported ESPHome's larger half."""
        return len((self.package / "imports").read_text())

    def command(self, *arguments: str, **changes: Any) -> Command:
        settings: dict[str, Any] = {
            "argv": (str(self.python), "-P", "-m", "esphome", *arguments),
            "cwd": self.folder,
            "env": {
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "TZ": "Asia/Tokyo",
                "VARIABLE": "from the call",
            },
            "nice": 0,
            "warm": (str(self.python), "-P"),
        }
        return Command(**settings | changes)

    def program(self, text: str, *arguments: str) -> Command:
        return self.command(argv=(str(self.python), "-P", "-c", text, *arguments))


def pid_of(pythons: WarmPythons) -> int:
    (warm,) = pythons._warm.values()
    return warm.process.pid


async def run(processes: Processes, command: Command) -> tuple[ProcessResult, str]:
    return await processes.capture(command, timeout=60)


async def answer(processes: Processes, command: Command) -> dict[str, Any]:
    result, output = await run(processes, command)
    assert result.exit_code == 0, output
    answer: dict[str, Any] = json.loads(output)
    return answer


def remake(toolchain: Toolchain) -> None:
    settings = toolchain.folder / "pyvenv.cfg"
    again = settings.with_suffix(".new")
    again.write_text(settings.read_text())
    again.rename(settings)
