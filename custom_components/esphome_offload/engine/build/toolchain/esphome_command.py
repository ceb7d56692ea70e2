"""The command of a call of ESPHome: the one place that has its command line and its variables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import os
from pathlib import Path
from typing import Protocol

from ...const import GIB
from ..cache.layout import CacheLayout, lock_of
from ..process.containment import Contained, Containment
from ..process.environment import process_environment
from ..process.processes import Command
from .toolchain import Toolchain

_MEMORY = GIB
"""Bytes of addresses; four times what a large configuration with fonts and images takes."""
_BUNDLE_PROGRAM = Path(__file__).with_name("bundle_program.py")
AROUND = "--around="
"""An option of that program: the folder whose files a bundle may have."""


class Entry(Protocol):
    """A way to enter a toolchain; another one could be a container or a glibc root."""

    def __call__(self, toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
        """Return the arguments that run ``esphome <arguments>`` with this toolchain."""


def enter_directly(toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
    """Run the toolchain's own Python, on this machine as it is."""
    return (*toolchain.python_command, "-m", "esphome", *arguments)


def enter_to_bundle(toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
    """Run the program for bundles."""
    return (*toolchain.python_command, str(_BUNDLE_PROGRAM), *arguments)


def enter_limited(toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
    """Run ESPHome with a limit of memory: for what runs in the background, with files as they are."""
    limited = (
        "import resource, runpy, sys;"
        f" resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY}, {_MEMORY}));"
        " sys.argv[0] = 'esphome';"
        " runpy.run_module('esphome', run_name='__main__', alter_sys=True)"
    )
    return (*toolchain.python_command, "-c", limited, *arguments)


@dataclass(frozen=True, slots=True)
class EsphomeCall:
    """A call of ESPHome. Everything that it writes goes into ``data_dir`` and the cache.

    ``variables`` are added to its environment.
    """

    config_dir: Path
    data_dir: Path
    time_zone: str
    arguments: tuple[str, ...]
    nice: int = 10
    variables: Mapping[str, str] = field(default_factory=dict)


def esphome_command(
    layout: CacheLayout,
    entry: Entry,
    toolchain: Toolchain,
    call: EsphomeCall,
    containment: Containment | None = None,
) -> Command:
    """Return the command of a call, contained if something says by what rules.

    Raises ContainmentError; with ``containment`` it blocks for a moment.
    """
    environment = process_environment(
        os.environ,
        time_zone=call.time_zone,
        home=layout.home,
        tmpdir=layout.tmp,
        extra={
            "ESPHOME_DATA_DIR": str(call.data_dir),
            "ESPHOME_NOGITIGNORE": "1",
            "PLATFORMIO_CORE_DIR": str(layout.tools / "platformio"),
            "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
            "ESPHOME_ESP_IDF_PREFIX": str(layout.tools / "idf"),
            "ESPHOME_SDK_NRF_PREFIX": str(layout.tools / "sdk-nrf"),
            "ESPHOME_ARDUINO8266_PREFIX": str(layout.tools / "arduino8266"),
            "ESPHOME_HOST_PREFIX": str(layout.tools / "host"),
            **call.variables,
        },
    )
    environment["PATH"] = os.pathsep.join((str(toolchain.bin), environment["PATH"]))
    # Some tools ask for a name, which the user of a guest has not.
    environment["USER"] = environment["LOGNAME"] = "esphome"
    rules = None
    if containment is not None:
        rules = containment(
            Contained(
                python=toolchain.python,
                toolchain=toolchain.bin.parent,
                config_dir=call.config_dir,
                data_dir=call.data_dir,
                env=environment,
            )
        )
    # --dashboard: progress of an upload is only drawn then when the output is not a terminal.
    argv, python = entry(toolchain, ("--dashboard", *call.arguments)), toolchain.python_command
    return Command(
        argv=argv,
        cwd=call.config_dir,
        env=environment,
        lock=lock_of(call.data_dir),
        nice=call.nice,
        rules=rules,
        warm=python if containment is None and argv[: len(python)] == python else None,
    )
