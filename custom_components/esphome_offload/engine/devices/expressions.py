"""ESPHome's dialect of Jinja, for the expressions in substitutions."""

from ast import literal_eval
from collections.abc import Callable, Iterator
from functools import lru_cache
import math
import re
from typing import Any, Final, override

from jinja2 import StrictUndefined, Template, TemplateError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from .yaml_nodes import SourceError

# Longer than any name, text or file name; small enough that values that double each other stop.
_MAX_TEXT: Final = 64 * 1024
_MAX_EXPONENT: Final = 64
# No name of a substitution has a dot.
_LOOKUP: Final = ".lookup"

_EXPRESSION: Final = re.compile(r"<%.+?%>|\$\{[^}]+\}", re.MULTILINE)


class UnresolvedError(Exception):
    """A value cannot be resolved from the files alone; ``str(error)`` is for people."""


def has_expression(text: str) -> bool:
    """Return whether there is anything to evaluate."""
    return _EXPRESSION.search(text) is not None


def render(text: str, lookup: Callable[[str], object]) -> object:
    """Return the value of a text with expressions, of any type.

    ``lookup`` returns the value of a name, or jinja2's ``missing``. Raises UndefinedError for a
    missing name that is needed, UnresolvedError for an expression that cannot be evaluated, and
    what ``lookup`` raises.
    """
    try:
        result: object = _template(text).render({_LOOKUP: lookup})
        if isinstance(result, StrictUndefined):
            str(result)  # raises
    except UndefinedError, UnresolvedError, SourceError, RecursionError:
        raise
    except Exception as error:  # an expression can raise anything
        # The text of the error can quote a value.
        kind = type(error).__name__
        raise UnresolvedError(f"the expression {text} cannot be evaluated ({kind})") from error
    if isinstance(result, str):
        check_length(result)
    return result


def check_length(text: str) -> None:
    """Raise UnresolvedError for a text that is too long."""
    if len(text) > _MAX_TEXT:
        raise UnresolvedError("the substitutions make a text that is too long")


class _Context(Context):
    """Looks names up in the scope that was passed to the template."""

    @override
    def resolve_or_missing(self, key: str) -> Any:
        if key in self.vars:
            return self.vars[key]
        value = self.parent[_LOOKUP](key)
        return super().resolve_or_missing(key) if value is missing else value


def _native_value(nodes: Iterator[Any]) -> object:
    """Join the output of a template: one value keeps its type, a text can be a literal."""
    values = list(nodes)
    if not values:
        return None
    if len(values) == 1 and not isinstance(values[0], str):
        return values[0]
    text = "".join(str(value) for value in values)
    check_length(text)
    try:
        literal: object = literal_eval(text)
    except ValueError, SyntaxError, MemoryError, TypeError, RecursionError:
        return text
    return text if isinstance(literal, str | set) else literal


class _Environment(SandboxedEnvironment):
    """ESPHome's dialect of Jinja, in the sandbox.

    Multiplication and powers are limited: one short line could otherwise take all memory.
    """

    code_generator_class = NativeCodeGenerator
    concat: Callable[[Any], Any] = staticmethod(_native_value)
    context_class = _Context
    intercepted_binops = frozenset({"*", "**"})

    @override
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (
            _is_small(left, _MAX_TEXT) and _is_small(right, _MAX_EXPONENT)
        ):
            raise SecurityError("the number is too large")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple | bytes) and not _is_small(
                    other, _MAX_TEXT // max(len(one), 1)
                ):
                    raise SecurityError("the text is too long")
        return super().call_binop(context, operator, left, right)


def _is_small(value: object, limit: int) -> bool:
    return isinstance(value, int | float) and abs(value) <= limit


def _make_environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        line_statement_prefix="#",
        line_comment_prefix="##",
        variable_start_string="${",
        variable_end_string="}",
        undefined=StrictUndefined,
        autoescape=False,  # the result is a YAML value, never a page
        extensions=["jinja2.ext.do"],
    )
    environment.globals.update({"math": math, "ord": ord, "chr": chr, "len": len})
    return environment


_ENVIRONMENT: Final = _make_environment()


@lru_cache(maxsize=256)
def _template(text: str) -> Template:
    try:
        return _ENVIRONMENT.from_string(text)
    except TemplateError as error:
        raise UnresolvedError(f"the expression {text} is not valid: {error}") from error
