"""An ESPHome component that plays a part: it hangs, prints, or has its compile take minutes.

It is in the configuration from the start, so that a part compiles nothing again but the
component's own source.
"""

from enum import StrEnum
from pathlib import Path


class Part(StrEnum):
    """What the component does."""

    NOTHING = "nothing"
    HANG_WHEN_READ = "hang when read"
    """ESPHome hangs as soon as it reads the configuration."""
    HANG = "hang"
    """ESPHome hangs when it compiles, not before."""
    TALK = "talk"
    """ESPHome prints lines when it compiles, until ``go_on``, and goes on then."""
    COMPILE_LONG = "compile long"
    """The compiler takes minutes, and a process in a session of its own is left (an escapee)."""
    HANG_ON_BOOT = "hang on boot"
    """The firmware starts and never answers."""


YAML = """\
external_components:
  - source: components
scripted:
  part: {part}
  sign: "{sign}"
"""
# An escapee is deaf to SIGTERM and in a session of its own: it ends only when the build's launcher
# sees to it.
_CODE = """\
import os
from pathlib import Path
import subprocess
import sys
import time

import esphome.config_validation as cv

# Asked for the hash of the configuration, in the background, ESPHome comes by here as well.
_IS_ASKED = "config-hash" in sys.argv
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


def leave_escapee():
    subprocess.Popen([sys.executable, "-c", _DEAF, "escapee"], start_new_session=True)


def hang():
    leave_escapee()
    time.sleep(3600)


def read(config):
    if config["part"] == "hang when read" and not _IS_ASKED:
        hang()
    return config


CONFIG_SCHEMA = cv.All(
    cv.Schema({cv.Required("part"): cv.string, cv.Required("sign"): cv.string}), read
)


async def to_code(config):
    if _IS_ASKED:
        return
    number = 0
    match config["part"]:
        case "hang":
            hang()
        case "compile long":
            leave_escapee()
        case "talk":
            # In its tree: a change in the folder of configurations would have it built once more.
            while not Path(os.environ["ESPHOME_DATA_DIR"], config["sign"]).exists():
                print(f"still talking, {number}", flush=True)
                number += 1
                time.sleep(0.1)
"""
_SOURCES = {
    Part.HANG_ON_BOOT: """\
#include <unistd.h>
namespace { struct Hang { Hang() { for (;;) sleep(1000); } } hang; }
""",
    # Each of them takes the compiler a second.
    Part.COMPILE_LONG: """\
template<int Number> constexpr long spin() {
  long x = Number;
  for (int i = 0; i < 10; i++)
    for (int j = 0; j < 10000; j++) x = (x * 31 + j) % 1000003;
  return x;
}
"""
    + "".join(f"static_assert(spin<{number}>() >= 0);\n" for number in range(500)),
}


def write_component(config_dir: Path, part: Part) -> None:
    """Write the component into a folder of configurations; all of them use it."""
    folder = folder_in(config_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("__init__.py", _CODE),
        ("scripted.cpp", _SOURCES.get(part, "// Nothing.\n")),
    ):
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def folder_in(config_dir: Path) -> Path:
    """Return the component's folder in a folder of configurations."""
    return config_dir / "components" / "scripted"


def go_on(cache: Path, sign: str) -> None:
    """Have builds that talk, with this sign, go on; ``cache`` is that of the instance they are at."""
    for tree in (*cache.glob("trees/*/"), *cache.glob("guests/*/trees/*/")):
        (tree / sign).touch()
