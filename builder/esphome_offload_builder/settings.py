"""The settings of one run, and the paths in its data folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
import re
from typing import Final, Self

from .engine.const import COMPILER_CACHE_GIB, STANDALONE_PORT

_PIN: Final = re.compile(r"[0-9a-f]{64}")


class RefusedError(Exception):
    """The builder does not run like this; says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """All that one builder keeps is below ``root``."""

    root: Path

    @property
    def identity(self) -> Path:
        """The key pair."""
        return self.root / "identity"

    @property
    def guests(self) -> Path:
        """The paired offloaders."""
        return self.root / "guests.json"

    @property
    def attempts(self) -> Path:
        """The attempts of all guests."""
        return self.root / "guest-builds.json"

    @property
    def app(self) -> Path:
        """What the app of Home Assistant OS remembers."""
        return self.root / "app.json"

    @property
    def cache(self) -> Path:
        """Toolchains, trees, bundles, firmware: what can be made again."""
        return self.root / "cache"

    @property
    def control(self) -> Path:
        """The socket at which the running program answers."""
        return self.root / "control.sock"

    @property
    def lock(self) -> Path:
        """The file that is locked while the program runs."""
        return self.root / "lock"


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Home Assistant OS's Supervisor, as an app reaches it."""

    url: str
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the Supervisor that has started this program; None when none has."""
        token = environment.get("SUPERVISOR_TOKEN")
        if not token:
            return None
        return cls(environment.get("SUPERVISOR_API", "http://supervisor").rstrip("/"), token)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was started with.

    ``host`` None: all addresses. ``guests`` are pins of offloaders that need no pairing code.
    ``disk_gib`` is for all guests together, ``ccache_gib`` for the compiler cache of each, which is
    a part of it. ``uncontained``: builds of guests run also where the system cannot contain them.
    ``supervisor`` is set where this program runs as an app of Home Assistant OS.
    """

    folder: DataFolder
    name: str
    port: int = STANDALONE_PORT
    host: str | None = None
    slots: int = 1
    disk_gib: int = 20
    ccache_gib: int = COMPILER_CACHE_GIB
    guests: tuple[str, ...] = ()
    uncontained: bool = False
    announce: bool = True
    supervisor: Supervisor | None = None


def read_options(path: Path) -> dict[str, object]:
    """Return the options of ``run`` in a JSON file; those without a value are left out.

    Raises RefusedError when it cannot be read.
    """
    try:
        options = json.loads(path.read_bytes())
    except (OSError, ValueError) as err:
        raise RefusedError(f"The options in {path} cannot be read: {err}") from err
    if not isinstance(options, dict):
        raise RefusedError(f"There are no options in {path}")
    return {name: value for name, value in options.items() if value not in (None, "")}


def read_pins(text: str) -> tuple[str, ...]:
    """Return the pins in a text: separated by white space or commas, ``#`` begins a comment.

    Raises RefusedError for a word that is no pin.
    """
    lines = (line.partition("#")[0] for line in text.splitlines())
    words = [word.lower() for line in lines for word in line.replace(",", " ").split()]
    for word in words:
        if not _PIN.fullmatch(word):
            raise RefusedError(f"{word[:80]!r} is not a pin, which has 64 hexadecimal digits")
    return tuple(dict.fromkeys(words))
