"""Reasons: why something is as it is, told to people in their own language."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ReasonKey(StrEnum):
    """What a reason says; each has a text in the translations, under the same key."""

    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Reason:
    """A key with parameters, translated where it is shown.

    ``parameters`` fill the text's placeholders; none holds a value of a configuration. ``line`` is
    at most one line of a tool's output, clean and without secrets.
    """

    key: ReasonKey
    parameters: Mapping[str, str] = field(default_factory=dict)
    line: str | None = None
