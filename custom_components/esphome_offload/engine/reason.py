"""Reasons: a key with parameters, which is translated where it is shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import re
from typing import Annotated, Final, override

from .codec import Keyed, OrElse, Text
from .reason_key import ReasonKey
from .text import one_line
from .tool_line import is_source_file, safe_line

__all__ = ["LINE_LIMIT", "PARAMETER_LIMIT", "Reason", "ReasonKey", "reason_of_peer"]

PARAMETER_LIMIT: Final = 200
LINE_LIMIT: Final = 300

_OWN_LINES: Final = {key.text: key for key in ReasonKey if key.startswith("line_")}

# What a peer may fill in by itself: nothing that could hold a value of a configuration.
_NUMBER: Final = r"\d{1,12}"
_PEER_PARAMETERS: Final[Mapping[str, str]] = {
    "ahead": _NUMBER,
    "bytes": _NUMBER,
    "code": r"-?\d{1,5}",
    "free": _NUMBER,
    "minutes": _NUMBER,
    "needed": _NUMBER,
    "python": r"3\.\d{1,2}(?:\.\d{1,2})?",
    "row": _NUMBER,
    "signal": r"SIG[A-Z0-9+]{2,10}",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A key with parameters, translated where it is shown.

    ``parameters`` fill the text's placeholders; none holds a value of a configuration. ``line`` is
    at most one line of a tool's output (see ``tool_line``). ``causes`` are the reasons of others,
    by label. All of them are cleaned here, wherever they come from.
    """

    key: Annotated[ReasonKey, OrElse(ReasonKey.UNEXPECTED)]
    parameters: Annotated[
        Mapping[Annotated[str, Text(32)], Annotated[str, Text(PARAMETER_LIMIT)]], Keyed(16)
    ] = field(default_factory=dict)
    line: Annotated[str, Text(LINE_LIMIT)] | None = None
    causes: Annotated[Mapping[Annotated[str, Text(PARAMETER_LIMIT)], Reason], Keyed(500)] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        """Clean what may come from outside."""
        parameters = {
            name: one_line(value, PARAMETER_LIMIT) for name, value in self.parameters.items()
        }
        causes = {one_line(label, PARAMETER_LIMIT): why for label, why in self.causes.items()}
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "causes", causes)
        if self.line is not None:
            object.__setattr__(self, "line", one_line(self.line, LINE_LIMIT) or None)

    def render(self, text_of: Callable[[ReasonKey], str]) -> str:
        """Return the reason as text; ``text_of`` translates keys."""
        text = text_of(self.key).format_map(_Parameters(self.parameters))
        causes = (
            # Whom the text names already is not named twice.
            ("" if label == self.parameters.get("label") else f"{label}: ") + why.render(text_of)
            for label, why in self.causes.items()
        )
        said = "; ".join(causes) or self._said(text_of)
        return f"{text}: {said}" if said else text

    def _said(self, text_of: Callable[[ReasonKey], str]) -> str | None:
        """Return the line; one of our own words is translated, those of tools are not."""
        own = _OWN_LINES.get(self.line or "")
        return self.line if own is None else text_of(own)

    @override
    def __str__(self) -> str:
        """Return the reason in English, for logs."""
        return self.render(lambda key: key.text)


def reason_of_peer(
    key: ReasonKey, parameters: Mapping[str, str], line: str | None, own: Mapping[str, str]
) -> Reason:
    """Return a reason that a peer gives, with only what it cannot misuse.

    Parameters that are known here (``own``, among them the ``label``) are not taken from the peer;
    of the others only numbers and names of source files are. A reason that lacks one is not known here.
    """
    values: dict[str, str] = {}
    for name in key.parameters:
        if name in own:
            values[name] = own[name]
        elif _may_be_taken(name, parameters.get(name, "")):
            values[name] = parameters[name]
        else:
            return Reason(ReasonKey.PEER_WITHOUT_REASON, {"label": own["label"]})
    return Reason(key, values, None if line is None else safe_line(line))


def _may_be_taken(name: str, value: str) -> bool:
    if name == "file":
        return is_source_file(value)
    return name in _PEER_PARAMETERS and re.fullmatch(_PEER_PARAMETERS[name], value) is not None


class _Parameters(dict[str, str]):
    """The parameters of a text; a missing one is shown as unknown."""

    def __missing__(self, name: str) -> str:
        return "?"
