"""A small reader for as long as ESPHome cannot be asked: a plain name, and nothing it is unsure of."""

from collections.abc import Iterator, Mapping
import re
from typing import Final

import yaml

from .answers import Answer
from .inspection.facts import PLATFORMS

_LIMIT: Final = 256 * 1024
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME: Final = re.compile(r"[a-z0-9_-]{1,31}")
_REFERENCE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_ROUNDS: Final = 5
_DEPTH: Final = 100
"""What is deeper takes the parser longer and longer."""
_INCLUDE: Final = re.compile(rb"!include\s+[\"']?([^\s\"'${}]+)")
_SECRET: Final = re.compile(rb"!secret\s")
_ELSEWHERE: Final = frozenset({"packages", "<<"})
_SUFFIX: Final = ("esphome", "name_add_mac_suffix")
_YES: Final = frozenset({"true", "yes", "on", "enable"})

type _Keys = Mapping[tuple[str, ...], str | None]


def read(file: str, text: bytes, former: Answer | None = None) -> Answer:
    """Return what the text of a file says by itself.

    ``former`` is the last answer that had its device, which decides whether that has several
    where this text does not say.
    """
    reads = [file, *(_text(found) for found in _INCLUDE.findall(text))]
    if _SECRET.search(text):
        reads.append("secrets.yaml")
    keys = _keys(text[:_LIMIT])
    substitutions = {
        key[1]: value
        for key, value in keys.items()
        if len(key) == 2 and key[0] == "substitutions" and value is not None
    }
    name = _expand(keys.get(("esphome", "name")), substitutions)
    platform = next((each for each in PLATFORMS if (each,) in keys), None)
    known = name is not None and _NAME.fullmatch(name) is not None
    complete = not any((each,) in keys for each in _ELSEWHERE)
    suffix = _expand(keys.get(_SUFFIX), substitutions)
    if suffix is not None:
        adds_mac_suffix = suffix.lower() in _YES
    else:
        without = complete and _SUFFIX not in keys and ("esphome", "<<") not in keys
        adds_mac_suffix = former is not None and former.adds_mac_suffix and not without
    return Answer(
        file=file,
        block=("esphome",) in keys,
        node_name=name if known else None,
        friendly_name=_shown(_expand(keys.get(("esphome", "friendly_name")), substitutions)),
        platform=platform,
        deep_sleep=("deep_sleep",) in keys,
        adds_mac_suffix=adds_mac_suffix,
        complete=complete,
        reads=tuple(dict.fromkeys(each for each in reads if each.isprintable())),
    )


def _keys(text: bytes) -> _Keys:
    """Return the keys of the two upper levels, with their values where these are plain texts.

    None is kept of a file that is no YAML, or has several documents. Events, not nodes: a file
    may nest or repeat as deeply as it likes.
    """
    found: dict[tuple[str, ...], str | None] = {}
    try:
        documents = 0
        for path, value in _values(text):
            if not path:
                documents += 1
                if documents > 1:
                    return {}
            elif len(path) <= 2:
                found[path] = value
    except yaml.YAMLError, ValueError, RecursionError:
        return {}
    return found


def _values(text: bytes) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yield the path of each value in mappings of mappings; an empty one begins a document."""
    # Of each open collection: None for a list, else the key whose value comes, empty before a key.
    stack: list[str | None] = []
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            stack = []
            yield (), None
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
            _value_ends(stack)
        elif isinstance(event, yaml.NodeEvent):
            scalar = event if isinstance(event, yaml.ScalarEvent) else None
            collection = isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent)
            if stack and stack[-1] == "":
                if collection:
                    raise ValueError("a key that is no text")
                stack[-1] = (scalar.value if scalar is not None else "") or "\0"
                continue
            if stack and all(stack):
                plain = scalar.value if scalar is not None and scalar.tag is None else None
                yield tuple(each or "" for each in stack), plain
            if collection:
                if len(stack) == _DEPTH:
                    raise ValueError("nested too deeply")
                stack.append("" if isinstance(event, yaml.MappingStartEvent) else None)
            else:
                _value_ends(stack)


def _value_ends(stack: list[str | None]) -> None:
    if stack and stack[-1] is not None:
        stack[-1] = ""


def _expand(value: str | None, substitutions: Mapping[str, str]) -> str | None:
    """Return a text with its substitutions; None where one is not of the same file."""
    for _ in range(_ROUNDS):
        if value is None or "$" not in value:
            return value
        names = {one or other for one, other in _REFERENCE.findall(value)}
        if not names or not names <= substitutions.keys():
            return None
        value = _REFERENCE.sub(lambda found: substitutions[found[1] or found[2]], value)[:1000]
    return None


def _shown(value: str | None) -> str | None:
    return value if value and value.isprintable() and len(value) <= 120 else None


def _text(name: bytes) -> str:
    return name.decode(errors="replace")[:1024]
