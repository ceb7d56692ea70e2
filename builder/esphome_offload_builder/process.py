"""The process of the running builder: what ``run`` becomes when it has read its options.

It runs for months and is mostly idle. So it holds neither what reads options nor TLS, which nothing
in it speaks: aiohttp and asyncio can do without, and together these take 7 MiB.
"""

from dataclasses import asdict
import json
import os
from pathlib import Path
import sys
from typing import NoReturn

from .settings import DataFolder, RefusedError, Settings, Supervisor


def become_builder(settings: Settings, *, verbose: bool) -> NoReturn:
    """Replace this process by that of the builder; the Supervisor is found there again."""
    values = {**asdict(settings), "folder": str(settings.folder.root), "supervisor": None}
    argv = [sys.executable, "-P", "-m", f"{__package__}.process", json.dumps([values, verbose])]
    os.execv(sys.executable, argv)  # noqa: S606 - this very program


def read_arguments(argument: str) -> tuple[Settings, bool]:
    """Return the settings, and whether to log more, as ``become_builder`` has written them."""
    values, verbose = json.loads(argument)
    values |= {
        "folder": DataFolder(Path(values["folder"])),
        "guests": tuple(values["guests"]),
        "supervisor": Supervisor.from_environment(os.environ),
    }
    return Settings(**values), verbose


def main() -> None:
    """Run the builder."""
    settings, verbose = read_arguments(sys.argv[1])
    sys.modules["ssl"] = None  # type: ignore[assignment]
    from .serve import serve  # noqa: PLC0415 - aiohttp would load it

    try:
        serve(settings, verbose=verbose)
    except RefusedError as err:
        sys.exit(f"Error: {err}")


if __name__ == "__main__":
    main()
