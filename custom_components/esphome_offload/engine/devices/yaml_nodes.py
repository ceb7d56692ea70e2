"""ESPHome's YAML tags, and what is common to all modules that read YAML."""

from dataclasses import dataclass
from enum import Enum
import os


class Marker(Enum):
    """A value that is not needed, or that is removed."""

    OPAQUE = "opaque"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, eq=False)
class Include:
    """``!include``: resolved when its content is needed, since its name may need values."""

    source: str
    line: int
    file: str
    variables: dict[str, object] | None
    condition: object


@dataclass(frozen=True, slots=True, eq=False)
class Secret:
    """``!secret``."""

    source: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Scoped:
    """A value that was merged from a file included with variables."""

    value: object
    variables: dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """``!literal``: not to be substituted."""

    value: object


class SourceError(Exception):
    """A file cannot be read. ``file`` is its path, ``str(error)`` is for people."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(reason)
        self.file = file


def join(source: str, name: str) -> str:
    """Return the path of ``name``, which is relative to the file ``source``."""
    path = os.path.join(os.path.dirname(source), name)  # noqa: PTH118, PTH120 hot path
    if ".." in name:
        folder, base = os.path.split(path)
        return os.path.join(os.path.realpath(folder), base)  # noqa: PTH118
    return os.path.normpath(path)


def truthy(value: object) -> bool:
    """Return whether ESPHome takes a value for true."""
    if isinstance(value, str):
        return value.lower() in {"true", "yes", "on", "enable"}
    return bool(value)


def scope_variables(
    content: object, variables: dict[str, object] | None
) -> dict[str, object] | None:
    """Return the variables of an include: given ones over the file's own ``defaults:``."""
    defaults = content.get("defaults") if isinstance(content, dict) else None
    if isinstance(defaults, dict):
        return {**defaults, **(variables or {})}
    return variables
