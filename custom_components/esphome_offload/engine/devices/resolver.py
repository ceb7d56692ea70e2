"""ConfigurationResolver: merges packages and makes substitutions, as far as needed."""

from collections.abc import Iterator
from dataclasses import dataclass
import os
from typing import Final

from .expressions import UnresolvedError
from .substitutions import (
    Items,
    Part,
    Scope,
    Values,
    View,
    items_of,
    parts_of,
)
from .yaml_loader import SECRETS_FILE, Document
from .yaml_nodes import (
    Include,
    Marker,
    Secret,
    SourceError,
    join,
    scope_variables,
    truthy,
)
from .yaml_reader import MAX_INCLUDE_DEPTH, YamlReader

_PLATFORMS: Final = (
    "esp32",
    "esp8266",
    "rp2",
    "rp2040",
    "bk72xx",
    "rtl87xx",
    "ln882x",
    "nrf52",
    "host",
)
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_MAX_NAME: Final = 31
_MAC_SUFFIX: Final = len("-aabbcc")
# Limits for files that include others twice, over many levels.
_MAX_PACKAGES: Final = 1000
_MAX_VISITS: Final = 5000


@dataclass(frozen=True, slots=True)
class Identity:
    """The keys of a configuration that describe its device."""

    node_name: str
    friendly_name: str | None
    comment: str | None
    platform: str | None
    deep_sleep: bool
    adds_mac_suffix: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result for one file.

    Without ``identity`` it is not a device: it has no ``esphome:`` block, or there is a
    ``reason``. ``faults`` are broken files that it includes, ``touched`` all paths that were read
    or looked for.
    """

    identity: Identity | None
    reason: str | None
    faults: tuple[SourceError, ...]
    touched: frozenset[str]


class ConfigurationResolver:
    """Resolves one configuration; used once."""

    def __init__(self, reader: YamlReader, config_dir: str) -> None:
        self._reader = reader
        self._config_dir = config_dir
        self._values = Values(self)
        self._globals = Scope()
        self._layers: list[Part] = []
        self._touched: set[str] = set()
        self._faults: dict[tuple[str, str], SourceError] = {}
        self._remote: list[str] = []
        self._visits = 0

    def resolve(self, document: Document) -> Resolution:
        """Resolve the configuration whose main file is ``document``, which has no error."""
        self._touched |= document.touched
        identity: Identity | None = None
        reason: str | None = None
        try:
            identity = self._identity(document)
        except UnresolvedError as error:
            reason = str(error)
        except SourceError as error:
            reason = self._describe(error, document.path)
        except RecursionError:
            reason = "its values refer to each other too deeply"
        try:
            self._visit(document, self._globals, set())
        except RecursionError:
            # Changes of files beyond this depth are missed; ESPHome cannot read them either.
            reason = reason or "its files include each other too deeply"
        return Resolution(identity, reason, tuple(self._faults.values()), frozenset(self._touched))

    # Includes and secrets

    def included(self, include: Include, scope: Scope) -> tuple[object, Scope]:
        """Return the content of an include, and its scope."""
        found = self._find(include, scope)
        if found is None:
            return {}, scope
        document, inner = found
        return document.root, inner

    def secret(self, secret: Secret) -> object:
        """Return the value of a secret."""
        document = self._secrets(secret.source)
        if document is None:
            raise SourceError(
                secret.source, f"it uses '!secret {secret.name}', but there is no {SECRETS_FILE}"
            )
        if document.error is not None:
            raise document.error
        root = document.root
        if not isinstance(root, dict) or secret.name not in root:
            raise SourceError(secret.source, f"the secret '{secret.name}' is not in {SECRETS_FILE}")
        return root[secret.name]

    def _find(self, include: Include, scope: Scope) -> tuple[Document, Scope] | None:
        """Return the included document and its scope, None when its condition does not hold."""
        condition = include.condition
        if condition is not None:
            if isinstance(condition, str):
                condition = self._values.expand(condition, scope, strict=True)
            if not truthy(condition):
                return None
        name = str(self._values.expand(include.file, scope, strict=True))
        path = join(include.source, name)
        chain = list(scope.files())
        if path in chain or path == include.source or len(chain) > MAX_INCLUDE_DEPTH:
            raise self._fault(
                SourceError(
                    include.source,
                    f"line {include.line}: it includes {name}, which in turn includes this file",
                )
            )
        document = self._reader.document(path)
        self._touched |= document.touched
        if document.missing:
            raise self._fault(
                SourceError(
                    include.source,
                    f"line {include.line}: it includes {name}, which does not exist",
                )
            )
        if document.error is not None:
            raise self._fault(document.error)
        return document, Scope(scope, scope_variables(document.root, include.variables), path)

    def _secrets(self, source: str) -> Document | None:
        folder = os.path.dirname(source)  # noqa: PTH120 paths are texts here
        for place in dict.fromkeys((folder, self._config_dir)):
            document = self._reader.document(os.path.join(place, SECRETS_FILE))  # noqa: PTH118
            self._touched |= document.touched
            if not document.missing:
                return document
        return None

    # Packages

    def _flatten(self, document: Document) -> View:
        """Return the main file over its packages, in ESPHome's order."""
        self._globals.file = document.path
        for part in parts_of(self._values.evaluate(document.root, self._globals)):
            self._add_layer(part)
        return View(self._values, self._layers)

    def _add_layer(self, part: Part) -> None:
        mapping, scope = part
        if len(self._layers) >= _MAX_PACKAGES:
            raise UnresolvedError(f"it has more than {_MAX_PACKAGES} packages")
        if isinstance(mapping, Exception):
            self._layers.append(part)
            return
        self._add_substitutions(mapping.get("substitutions"), scope)
        self._layers.append(
            ({self._key(key, scope): value for key, value in mapping.items()}, scope)
            if any("$" in key for key in mapping)
            else part
        )
        if (packages := mapping.get("packages")) is not None:
            self._add_packages(packages, scope)

    def _key(self, key: str, scope: Scope) -> str:
        return str(self._values.expand(key, scope))

    def _add_substitutions(self, node: object, scope: Scope) -> None:
        if node is None:
            return
        try:
            parts = parts_of(self._values.evaluate(node, scope))
        except (SourceError, UnresolvedError) as error:
            self._layers.append((error, scope))
            return
        for mapping, inner in parts:
            if not isinstance(mapping, Exception):
                for name, raw in mapping.items():
                    self._globals.add(name, raw, inner)

    def _add_packages(self, node: object, scope: Scope) -> None:
        try:
            packages = self._values.evaluate(node, scope)
        except (SourceError, UnresolvedError) as error:
            self._layers.append((error, scope))
            return
        for package, inner in _packages(packages):
            try:
                content = self._values.evaluate(package, inner)
            except (SourceError, UnresolvedError) as error:
                self._layers.append((error, inner))
                continue
            if isinstance(content, str):
                self._remote.append(content)
                continue
            for part in parts_of(content):
                mapping = part[0]
                if not isinstance(mapping, Exception) and "url" in mapping:
                    self._remote.append(str(mapping["url"]))
                else:
                    self._add_layer(part)

    # Identity

    def _identity(self, document: Document) -> Identity | None:
        root = self._flatten(document)
        if "esphome" not in root:
            for error, _ in self._layers:
                if isinstance(error, Exception):
                    raise error
            if self._remote:
                raise UnresolvedError(
                    "it has no 'esphome:' block of its own, and remote packages are not read; "
                    "give it one with a 'name:'"
                )
            return None
        block = root["esphome"]
        adds_mac_suffix = truthy(self._optional(block, "name_add_mac_suffix"))
        return Identity(
            node_name=self._node_name(block, adds_mac_suffix=adds_mac_suffix),
            friendly_name=self._text(block, "friendly_name"),
            comment=self._text(block, "comment"),
            platform=next((name for name in _PLATFORMS if name in root), None)
            or self._text(block, "platform"),
            deep_sleep="deep_sleep" in root,
            adds_mac_suffix=adds_mac_suffix,
        )

    def _node_name(self, block: object, *, adds_mac_suffix: bool) -> str:
        self._values.unresolved.clear()
        name = block.get("name") if isinstance(block, View) else None
        if name is None:
            raise UnresolvedError("its 'esphome:' block has no 'name:'")
        if isinstance(name, str) and "$" in name:
            causes = dict.fromkeys(self._values.unresolved) or [f"'{name}' cannot be resolved"]
            raise self._missing_layer() or UnresolvedError(
                f"its name is {name}, but {', '.join(causes)}"
            )
        if isinstance(name, Marker):
            raise UnresolvedError("its name is not a text; write out the name itself")
        if not isinstance(name, str):
            raise UnresolvedError(f"its name is {name!r}, which is not a text; put it in quotes")
        limit = _MAX_NAME - (_MAC_SUFFIX if adds_mac_suffix else 0)
        if not name:
            raise UnresolvedError("its name is empty")
        if not _NAME_CHARACTERS.issuperset(name):
            raise UnresolvedError(
                f"its name '{_shorten(name)}' is not valid: "
                "only lower-case letters, digits, '-' and '_' are"
            )
        if len(name) > limit:
            raise UnresolvedError(
                f"its name '{_shorten(name)}' is too long: {limit} characters are allowed"
            )
        return name

    def _missing_layer(self) -> Exception | None:
        """Return the error of a package that could not be read: it may define what is missing."""
        return next((error for error, _ in self._layers if isinstance(error, Exception)), None)

    def _optional(self, block: object, key: str) -> object:
        """Return a value, None when it cannot be resolved."""
        try:
            return block.get(key) if isinstance(block, View) else None
        except UnresolvedError, SourceError:
            return None

    def _text(self, block: object, key: str) -> str | None:
        value = self._optional(block, key)
        return str(value) if isinstance(value, str | int | float) else None

    # Files

    def _visit(self, document: Document, scope: Scope, seen: set[str]) -> None:
        """Add every file that ``document`` includes to ``touched``, also those of no effect."""
        self._visits += 1
        if self._visits > _MAX_VISITS or (document.path in seen and not document.dynamic):
            return
        seen.add(document.path)
        for merged in document.merged:
            self._visit(merged, scope, seen)
        if document.has_secrets:
            secrets = self._secrets(document.path)
            if secrets is not None and secrets.error is not None:
                self._fault(secrets.error)
        for include in document.includes:
            try:
                found = self._find(include, scope)
            except UnresolvedError, SourceError:
                # Faults of files are kept by now. A name that needs other values is not a fault.
                continue
            if found is not None:
                self._visit(*found, seen)

    def _fault(self, error: SourceError) -> SourceError:
        return self._faults.setdefault((error.file, str(error)), error)

    def _describe(self, error: SourceError, main: str) -> str:
        if error.file == main:
            return str(error)
        return f"in {os.path.relpath(error.file, self._config_dir)}: {error}"


def _packages(value: object) -> Iterator[tuple[object, Scope]]:
    """Yield packages with their scopes, the strongest first: that is the last one."""
    if isinstance(value, Items):
        items, scope = items_of(value)
        for item in reversed(items):
            yield item, scope
    for mapping, scope in parts_of(value):
        if not isinstance(mapping, Exception):
            for item in reversed(list(mapping.values())):
                yield item, scope


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
