"""YamlLoader: builds plain objects and markers from one YAML file, as ESPHome reads it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import yaml

from .yaml_nodes import (
    Include,
    Literal,
    Marker,
    Scoped,
    Secret,
    SourceError,
    join,
    scope_variables,
    truthy,
)

if TYPE_CHECKING:
    from yaml import SafeLoader as _BaseLoader
else:
    try:
        from yaml import CSafeLoader as _BaseLoader
    except ImportError:
        from yaml import SafeLoader as _BaseLoader

SECRETS_FILE: Final = "secrets.yaml"

# By a chain of merges that copy keys a small file can become a huge mapping while it is read.
_MAX_MERGED_KEYS: Final = 100_000
_MAX_FILES_IN_FOLDER: Final = 500


@dataclass(slots=True)
class Document:
    """The content of one file, or why there is none.

    ``touched`` are the paths that the document depends on, missing ones included; ``merged``
    the documents that ``<<`` or ``!include_dir_…`` put into this one.
    """

    path: str
    root: object = None
    error: SourceError | None = None
    missing: bool = False
    includes: list[Include] = field(default_factory=list)
    merged: list[Document] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    has_secrets: bool = False

    @property
    def dynamic(self) -> bool:
        """Whether what it includes depends on values."""
        return any("$" in include.file for include in self.includes)


class Documents(Protocol):
    """Access to the content of other files."""

    def document(self, path: str) -> Document:
        """Return the content of a file; never raises."""


class YamlLoader(_BaseLoader):
    """Builds plain objects and markers from one file."""

    def __init__(self, text: str, document: Document, reader: Documents) -> None:
        """Parse ``text``; what it includes is added to ``document``."""
        super().__init__(text)
        self.document = document
        self._reader = reader
        self._merged_keys = 0

    def mapping(self, node: yaml.Node) -> dict[str, object]:
        """Return a mapping, with the keys that ``<<`` merges."""
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(
                None, None, "expected a mapping", node.start_mark
            )
        result: dict[str, object] = {}
        merges: list[yaml.Node] | None = None
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merges = merges or []
                merges.append(value_node)
                continue
            if key_node.tag == "tag:yaml.org,2002:value":
                key_node.tag = "tag:yaml.org,2002:str"
            key = str(self.construct_object(key_node))
            if key in result:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is there twice", key_node.start_mark
                )
            result[key] = self.construct_object(value_node)
        if merges:
            for merge in merges:
                for source in self._merge_sources(merge):
                    self._merge(result, source, merge)
        return result

    def _merge(self, into: dict[str, object], source: dict[str, object], node: yaml.Node) -> None:
        self._merged_keys += len(source)
        if self._merged_keys > _MAX_MERGED_KEYS:
            raise yaml.constructor.ConstructorError(
                None, None, "too much is merged with '<<'", node.start_mark
            )
        for key, value in source.items():
            into.setdefault(key, value)

    def _merge_sources(self, node: yaml.Node) -> Iterator[dict[str, object]]:
        value = self._loaded(self.construct_object(node), node)
        seen: set[int] = set()
        for item in value if isinstance(value, list) else [value]:
            source = self._loaded(item, node)
            if not isinstance(source, dict):
                raise yaml.constructor.ConstructorError(
                    None, None, "'<<' needs a mapping", node.start_mark
                )
            if id(source) not in seen:
                seen.add(id(source))
                yield source

    def _loaded(self, value: object, node: yaml.Node) -> object:
        """Return the content of an include that a merge needs at once."""
        if not isinstance(value, Include):
            return value
        if "$" in value.file or (isinstance(value.condition, str) and "$" in value.condition):
            raise yaml.constructor.ConstructorError(
                None, None, "'<<: !include' cannot use substitutions", node.start_mark
            )
        if value.condition is not None and not truthy(value.condition):
            return {}
        # The files that it includes are found through ``merged``.
        if value in self.document.includes:
            self.document.includes.remove(value)
        document = self._merge_document(join(value.source, value.file), value.file, node)
        content = self._loaded(document.root, node)
        variables = scope_variables(content, value.variables)
        if not variables:
            return content
        if isinstance(content, list):
            return [_scoped(item, variables) for item in content]
        return _scoped(content, variables)

    def _merge_document(self, path: str, name: str, node: yaml.Node) -> Document:
        document = self._reader.document(path)
        self.document.touched |= document.touched
        if document.missing:
            raise SourceError(
                self.document.path,
                f"line {node.start_mark.line + 1}: it includes {name}, which does not exist",
            )
        if document.error is not None:
            raise document.error
        self.document.merged.append(document)
        return document

    def folder(self, node: yaml.Node) -> Iterator[tuple[str, object]]:
        """Yield the stem and content of each YAML file below a folder, in order of path."""
        top = join(self.document.path, str(node.value))
        found: list[str] = []
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            self.document.touched.add(folder)
            found.extend(
                os.path.join(folder, name)  # noqa: PTH118
                for name in sorted(files)
                if name.endswith(".yaml") and not name.startswith(".") and name != SECRETS_FILE
            )
            if len(found) > _MAX_FILES_IN_FOLDER:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{node.value} holds more than {_MAX_FILES_IN_FOLDER} files",
                    node.start_mark,
                )
        self.document.touched.add(top)
        for path in found:
            yield Path(path).stem, self._merge_document(path, path, node).root


def _scoped(value: object, variables: dict[str, object]) -> object:
    """Return a mapping whose values keep the variables of the include."""
    if isinstance(value, dict):
        return {key: Scoped(item, variables) for key, item in value.items()}
    return Scoped(value, variables)


def _sequence(loader: YamlLoader, node: yaml.Node) -> list[object]:
    return [loader.construct_object(item) for item in node.value]


def _include(loader: YamlLoader, node: yaml.Node) -> Include:
    line = node.start_mark.line + 1
    file: object = node.value
    variables: object = None
    condition: object = None
    if isinstance(node, yaml.MappingNode):
        fields = loader.mapping(node)
        file = fields.get("file")
        variables = fields.get("vars")
        condition = fields.get("condition")
    if not isinstance(file, str) or not file:
        raise yaml.constructor.ConstructorError(
            None, None, "!include needs the name of a file", node.start_mark
        )
    include = Include(
        loader.document.path,
        line,
        file,
        variables if isinstance(variables, dict) else None,
        condition,
    )
    loader.document.includes.append(include)
    return include


def _secret(loader: YamlLoader, node: yaml.Node) -> Secret:
    loader.document.has_secrets = True
    return Secret(loader.document.path, str(node.value))


def _environment(_loader: YamlLoader, node: yaml.Node) -> object:
    # Builds run with an environment of their own: only the default is known here.
    words = str(node.value).split()
    return " ".join(words[1:]) if len(words) > 1 else Marker.OPAQUE


def _literal(loader: YamlLoader, node: yaml.Node) -> object:
    return (
        Literal(loader.construct_scalar(node))
        if isinstance(node, yaml.ScalarNode)
        else (Marker.OPAQUE)
    )


def _dir_list(loader: YamlLoader, node: yaml.Node) -> list[object]:
    return [content for _, content in loader.folder(node)]


def _dir_merge_list(loader: YamlLoader, node: yaml.Node) -> list[object]:
    return [
        item for _, content in loader.folder(node) if isinstance(content, list) for item in content
    ]


def _dir_named(loader: YamlLoader, node: yaml.Node) -> dict[str, object]:
    return dict(loader.folder(node))


def _dir_merge_named(loader: YamlLoader, node: yaml.Node) -> dict[str, object]:
    result: dict[str, object] = {}
    for _, content in loader.folder(node):
        if isinstance(content, dict):
            result.update(content)
    return result


_CONSTRUCTORS: Final[dict[str | None, Callable[[Any, Any], object]]] = {
    "tag:yaml.org,2002:map": lambda loader, node: loader.mapping(node),
    "tag:yaml.org,2002:seq": _sequence,
    "!include": _include,
    "!secret": _secret,
    "!env_var": _environment,
    "!literal": _literal,
    "!remove": lambda _loader, _node: Marker.REMOVE,
    "!include_dir_list": _dir_list,
    "!include_dir_merge_list": _dir_merge_list,
    "!include_dir_named": _dir_named,
    "!include_dir_merge_named": _dir_merge_named,
    # !lambda, !extend, !force, and tags of later versions of ESPHome.
    None: lambda _loader, _node: Marker.OPAQUE,
}
for _tag, _constructor in _CONSTRUCTORS.items():
    YamlLoader.add_constructor(_tag, _constructor)
