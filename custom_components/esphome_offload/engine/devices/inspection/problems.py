"""What is wrong with a configuration, as a key and parameters that hold none of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_VARIABLE = re.compile(r"Undefined variable[^:]*: '([A-Za-z_]\w{0,63})' is undefined")


@dataclass(frozen=True, slots=True)
class Fault:
    """A file and what is wrong with it."""

    file: str
    key: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> dict[str, object]:
        """The reason as the answer has it."""
        return {"key": self.key, "parameters": {"file": self.file, **self.parameters}}

    @property
    def answer(self) -> dict[str, object]:
        """The fault as the answer has it."""
        return {"file": self.file, "reason": self.reason}


_TEXTS = (
    (re.compile("Maximum include|include chain depth"), "configuration_nested_too_deeply"),
    (re.compile("Error evaluating jinja expression"), "configuration_expression"),
    (re.compile(r"contains \d+ documents"), "configuration_documents"),
)
"""What ESPHome says, where its exceptions have no kinds."""


def describe(error: BaseException, file: str, relative: Callable[[str], str]) -> Fault:
    """Return what an exception of ESPHome's loader or passes means; ``file`` is being read."""
    causes = list(_chain(error))
    if any(isinstance(each, RecursionError) for each in causes):
        return Fault(file, "configuration_nested_too_deeply")
    for each in causes:
        if (fault := _by_kind(each, file, relative)) is not None:
            return fault
    text = str(error)
    if (variable := _VARIABLE.search(text)) is not None:
        return Fault(file, "configuration_variable_undefined", {"variable": variable[1]})
    for pattern, key in _TEXTS:
        if pattern.search(text):
            return Fault(file, key)
    where = " → ".join(str(part) for part in getattr(error, "path", ()) if _is_key(part))
    if where:
        return Fault(file, "configuration_refused_at", {"where": where[:120]})
    return Fault(file, "configuration_refused")


def _by_kind(error: BaseException, file: str, relative: Callable[[str], str]) -> Fault | None:
    if isinstance(error, FileNotFoundError):
        missing = relative(str(error.filename)) if error.filename else "?"
        return Fault(file, "configuration_file_missing", {"missing": missing})
    if isinstance(error, UnicodeError):
        return Fault(file, "configuration_not_text")
    if isinstance(error, OSError):
        return Fault(file, "configuration_file_unreadable")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = getattr(mark, "line", None)
    if line is None:
        return None
    where = str(getattr(mark, "name", ""))
    # Else it is the stream itself.
    if where.startswith("/"):
        file = relative(where)
    return Fault(file, "configuration_syntax", {"row": str(int(line) + 1)})


def _is_key(part: object) -> bool:
    """Return whether a part of a path is a key; a value of ``!include`` is there in brackets."""
    return isinstance(part, str) and re.fullmatch(r"[\w.-]{1,40}", part) is not None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what caused it, also the YAML error that ESPHome has as its text."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        for argument in error.args:
            if isinstance(argument, BaseException):
                yield argument
        error = error.__cause__ or error.__context__
