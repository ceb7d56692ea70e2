"""ESPHome's substitutions, resolved only where a value is needed.

A YAML value together with the scope that it stands in gives an evaluated value: a scalar, a
View of one or more mappings, an Items list or a Marker.
"""

from collections.abc import Iterator, Mapping, Sequence
import re
from typing import Any, Final, Protocol, override

from jinja2.exceptions import UndefinedError
from jinja2.utils import missing

from .expressions import (
    UnresolvedError,
    check_length,
    has_expression,
    render,
)
from .yaml_nodes import (
    Include,
    Literal,
    Marker,
    Scoped,
    Secret,
)

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]*)\}|([A-Za-z0-9_]+))")


class Resolver(Protocol):
    """Access to other files."""

    def included(self, include: Include, scope: Scope) -> tuple[object, Scope]:
        """Return the content of an include, and its scope."""

    def secret(self, secret: Secret) -> object:
        """Return the value of a secret."""


class Scope:
    """Variables of a part of a configuration, in front of those of the part around it.

    Values are resolved when they are looked up. ``file`` is set where an included file starts.
    """

    __slots__ = ("_entries", "_open", "_order", "_values", "file", "parent")

    def __init__(
        self,
        parent: Scope | None = None,
        variables: Mapping[str, object] | None = None,
        file: str | None = None,
    ) -> None:
        """``variables`` may use each other and the parent's."""
        self.parent = parent
        self.file = file
        self._entries: dict[str, list[tuple[object, Scope]]] = {}
        self._order: dict[str, int] = {}
        self._values: dict[str, object] = {}
        self._open: list[str] = []
        for name, raw in (variables or {}).items():
            self.add(name, raw, self)

    def add(self, name: str, raw: object, scope: Scope) -> None:
        """Add a variable, after all others of that name, to be resolved in ``scope``."""
        name = name.removeprefix("$")
        self._entries.setdefault(name, []).append((raw, scope))
        self._order.setdefault(name, len(self._order))
        self._values.pop(name, None)

    def files(self) -> Iterator[str]:
        """Yield the included files that this scope is inside of, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            if scope.file is not None:
                yield scope.file
            scope = scope.parent

    def has(self, name: str) -> bool:
        """Return whether there is such a variable."""
        return name in self._entries or (self.parent is not None and self.parent.has(name))

    def lookup(self, name: str, values: Values) -> object:
        """Return a variable's value, jinja2's ``missing`` when there is none."""
        if name in self._values:
            return self._values[name]
        if name in self._entries and not self._parent_goes_first(name):
            self._open.append(name)
            try:
                value = values.combine(self._entries[name], strict=True)
            except UnresolvedError as error:
                values.unresolved.append(str(error))
                value = missing
            finally:
                self._open.pop()
            self._values[name] = value
            return value
        return missing if self.parent is None else self.parent.lookup(name, values)

    def _parent_goes_first(self, name: str) -> bool:
        """Return whether a variable means the parent's while one of these is resolved.

        ESPHome resolves them in order: a later one counts only when the parent has none of that
        name; one that uses its own name means the parent's.
        """
        if not self._open:
            return False
        if name in self._open:
            return True
        later = self._order[name] > self._order[self._open[-1]]
        return later and self.parent is not None and self.parent.has(name)


type Part = tuple[Mapping[str, object] | Exception, Scope]


class View(Mapping[str, object]):
    """One or more mappings merged like packages, the first being the strongest.

    An exception among them stands for one that could not be read: keys that no stronger one has
    are unknown then.
    """

    __slots__ = ("_parts", "_values")

    def __init__(self, values: Values, parts: Sequence[Part]) -> None:
        self._values = values
        self._parts = tuple(parts)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @override
    def __repr__(self) -> str:
        return "<mapping>"

    @override
    def __getitem__(self, key: str) -> object:
        candidates: list[tuple[object, Scope]] = []
        for mapping, scope in self._parts:
            if isinstance(mapping, Exception):
                candidates.append((mapping, scope))
            elif key in mapping:
                candidates.append((mapping[key], scope))
        value = self._values.combine(candidates)
        if value is Marker.REMOVE or not candidates:
            raise KeyError(key)
        return value

    @override
    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        for mapping, _ in self._parts:
            if not isinstance(mapping, Exception):
                for key in mapping:
                    if key not in seen:
                        seen.add(key)
                        yield key

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    @override
    def __contains__(self, key: object) -> bool:
        for mapping, _ in self._parts:
            if not isinstance(mapping, Exception) and key in mapping:
                return mapping[key] is not Marker.REMOVE  # type: ignore[index]
        return False


class Items(Sequence[object]):
    """A list whose items are resolved when they are used."""

    __slots__ = ("_items", "_scope", "_values")

    def __init__(self, values: Values, items: list[object], scope: Scope) -> None:
        self._values = values
        self._items = items
        self._scope = scope

    @override
    def __repr__(self) -> str:
        return "<list>"

    @override
    def __len__(self) -> int:
        return len(self._items)

    @override
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Items(self._values, self._items[index], self._scope)
        return self._values.evaluate(self._items[index], self._scope)


def parts_of(value: object) -> tuple[Part, ...]:
    """Return the mappings behind a View, none for any other value."""
    return value._parts if isinstance(value, View) else ()  # noqa: SLF001 hidden from templates


def items_of(value: Items) -> tuple[list[object], Scope]:
    """Return the items of a list as they were read, and their scope."""
    return value._items, value._scope  # noqa: SLF001 hidden from templates


class Values:
    """Resolves the values of one configuration."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.unresolved: list[str] = []

    def evaluate(self, node: object, scope: Scope, *, strict: bool = False) -> object:
        """Return the value of a node; raises UnresolvedError or SourceError."""
        while True:
            if isinstance(node, str):
                return self.expand(node, scope, strict=strict)
            if isinstance(node, dict):
                return View(self, ((node, scope),))
            if isinstance(node, list):
                return Items(self, node, scope)
            if isinstance(node, Scoped):
                scope = Scope(scope, node.variables)
                node = node.value
            elif isinstance(node, Include):
                node, scope = self._resolver.included(node, scope)
            elif isinstance(node, Secret):
                node = self._resolver.secret(node)
            elif isinstance(node, Literal):
                return node.value
            else:
                return node

    def combine(
        self, candidates: Sequence[tuple[object, Scope]], *, strict: bool = False
    ) -> object:
        """Return the value of the first candidate; mappings are merged over those after them."""
        parts: list[Part] = []
        for node, scope in candidates:
            if isinstance(node, Exception):
                if not parts:
                    raise node
                parts.append((node, scope))
                continue
            value = self.evaluate(node, scope, strict=strict)
            if isinstance(value, View):
                parts.extend(parts_of(value))
            elif value is not None and not parts:
                return value
        return View(self, parts) if parts else None

    def expand(self, text: str, scope: Scope, *, strict: bool = False) -> object:
        """Return ``text`` with ``$name``, ``${name}`` and expressions replaced.

        A name that is not defined stays as it is, or raises UnresolvedError when ``strict``. A
        text that is only a variable or an expression becomes its value, of any type.
        """
        if "$" not in text:
            return text
        position = 0
        while (match := _VARIABLE.search(text, position)) is not None:
            name = match[1] if match[1] is not None else match[2]
            value = scope.lookup(name, self)
            if value is missing:
                self._undefined(f"the substitution '{name}' is not defined", strict=strict)
                position = match.end()
                continue
            if value is Marker.OPAQUE:
                raise UnresolvedError(f"the value of '{name}' is not known")
            if match.span() == (0, len(text)):
                if not isinstance(value, str):
                    return value
                text = value
                break
            start = text[: match.start()] + str(value)
            position = len(start)
            text = start + text[match.end() :]
            check_length(text)
        return self._render(text, scope, strict=strict) if has_expression(text) else text

    def _render(self, text: str, scope: Scope, *, strict: bool) -> object:
        try:
            return render(text, lambda name: scope.lookup(name, self))
        except UndefinedError as error:
            self._undefined(str(error), strict=strict)
            return text

    def _undefined(self, reason: str, *, strict: bool) -> None:
        if strict:
            raise UnresolvedError(reason)
        self.unresolved.append(reason)
