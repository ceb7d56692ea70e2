"""The codec between frozen dataclasses and JSON: strict when it decodes, plain when it encodes.

A field's type says what is allowed in it, for example ``Annotated[str, Text(128)]``. Fields that
the dataclass does not have are ignored, so that a newer version may write more; those whose name
begins with an underscore are not part of the JSON.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
import functools
import json
import re
from types import NoneType, UnionType
import typing
from typing import Annotated, Protocol, cast

type Json = dict[str, object]
type _Reader = Callable[[object], object]

_MOMENT_LIMIT = 40
"""Characters of a time in ISO 8601 form."""


class CodecError(ValueError):
    """A value is not what its field allows; says why without repeating the value."""


class _Rule(Protocol):
    """A limit that an annotation sets."""

    def reader(self, base: object) -> _Reader:
        """Return what turns JSON into a value of type ``base`` or raises CodecError."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most ``limit`` characters.

    It must match ``pattern`` as a whole where one is given. Control characters are refused
    unless ``free``; what cannot be UTF-8 always is.
    """

    limit: int
    pattern: str | None = None
    free: bool = False

    def reader(self, base: object) -> _Reader:
        """Return the check."""
        pattern = re.compile(self.pattern) if self.pattern is not None else None

        def read(value: object) -> str:
            if not isinstance(value, str):
                raise CodecError("not a text")
            if len(value) > self.limit:
                raise CodecError(f"longer than {self.limit} characters")
            if not value.isprintable() and not self.free:
                raise CodecError("has characters that are not allowed")
            if pattern is not None and not pattern.fullmatch(value):
                raise CodecError("not of the right form")
            value.encode()
            return value

        return read


@dataclass(frozen=True, slots=True)
class Number:
    """An int or float within bounds, both included; NaN and truth values are refused."""

    low: float
    high: float

    def reader(self, base: object) -> _Reader:
        """Return the check."""
        allowed = (int, float) if base is float else (int,)

        def read(value: object) -> int | float:
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise CodecError("not a number")
            if not self.low <= value <= self.high:
                raise CodecError(f"not within {self.low} and {self.high}")
            return float(value) if base is float else value

        return read


@dataclass(frozen=True, slots=True)
class Blob:
    """Between ``low`` and ``high`` bytes, sent as base64."""

    low: int
    high: int

    def reader(self, base: object) -> _Reader:
        """Return the check."""

        def read(value: object) -> bytes:
            if not isinstance(value, str) or len(value) > 4 * (self.high // 3 + 1):
                raise CodecError("not base64 of the right length")
            try:
                blob = base64.b64decode(value, validate=True)
            except binascii.Error as err:
                raise CodecError("not base64") from err
            if not self.low <= len(blob) <= self.high:
                raise CodecError("not base64 of the right length")
            return blob

        return read


@dataclass(frozen=True, slots=True)
class Many:
    """A list of at most ``limit``; the field's type is ``tuple[X, ...]``."""

    limit: int

    def reader(self, base: object) -> _Reader:
        """Return the check of the list and each item."""
        item = _reader(typing.get_args(base)[0])

        def read(value: object) -> tuple[object, ...]:
            if not isinstance(value, list):
                raise CodecError("not a list")
            if len(value) > self.limit:
                raise CodecError(f"more than {self.limit}")
            return tuple(item(each) for each in value)

        return read


@dataclass(frozen=True, slots=True)
class Keyed:
    """An object of at most ``limit`` entries; the field's type is ``Mapping[K, V]``."""

    limit: int

    def reader(self, base: object) -> _Reader:
        """Return the check of the object and each of its keys and values."""
        key, value = map(_reader, typing.get_args(base))

        def read(raw: object) -> dict[object, object]:
            record = _object(raw)
            if len(record) > self.limit:
                raise CodecError(f"more than {self.limit}")
            return {key(name): value(each) for name, each in record.items()}

        return read


@dataclass(frozen=True, slots=True)
class OrElse:
    """A StrEnum; a member that only a newer peer knows becomes ``fallback``."""

    fallback: StrEnum

    def reader(self, base: object) -> _Reader:
        """Return the check."""
        kind = type(self.fallback)

        def read(value: object) -> StrEnum:
            if not isinstance(value, str):
                raise CodecError("not a text")
            return kind(value) if value in kind else self.fallback

        return read


def decode[T](kind: type[T], raw: object) -> T:
    """Return ``raw`` (decoded JSON) as a ``kind``; raises CodecError."""
    try:
        return cast("T", _read_dataclass(kind, raw))
    except ValueError as err:
        raise CodecError(f"{kind.__name__}: {err}") from err
    except RecursionError as err:
        raise CodecError(f"{kind.__name__}: nested too deeply") from err


def decode_json[T](kind: type[T], text: bytes | str) -> T:
    """Return a JSON text as a ``kind``; raises CodecError."""
    try:
        raw = json.loads(text, parse_constant=_no_constant)
    except ValueError as err:
        raise CodecError(f"{kind.__name__}: not JSON") from err
    except RecursionError as err:
        raise CodecError(f"{kind.__name__}: nested too deeply") from err
    return decode(kind, raw)


def encode(message: object) -> Json:
    """Return the JSON-ready form, with ``type`` where the message has one.

    None is left out where it is the default.
    """
    return cast("Json", _write(message))


def encode_json(message: object) -> bytes:
    """Return the JSON text."""
    return json.dumps(encode(message), separators=(",", ":"), allow_nan=False).encode()


def type_name(kind: type) -> str | None:
    """Return the ``type`` that messages of a kind carry; None for a kind without one."""
    name = getattr(kind, "TYPE", None)
    return name if isinstance(name, str) else None


def _no_constant(name: str) -> object:
    raise CodecError(f"{name} is not JSON")


def _object(value: object) -> Json:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CodecError("not an object")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise CodecError("not true or false")
    return value


def _moment(value: object) -> datetime:
    """Return a time in UTC; one without a zone is refused."""
    if not isinstance(value, str) or len(value) > _MOMENT_LIMIT:
        raise CodecError("not a time")
    try:
        moment = datetime.fromisoformat(value)
        in_utc = moment.astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise CodecError("not a time") from err
    if moment.tzinfo is None:
        raise CodecError("a time without a zone")
    return in_utc


def _member(kind: type[StrEnum], value: object) -> StrEnum:
    if not isinstance(value, str) or value not in kind:
        raise CodecError("not one of the known words")
    return kind(value)


def _reader(hint: object) -> _Reader:
    """Return the reader of a field; TypeError when its type bounds nothing."""
    if typing.get_origin(hint) is Annotated:
        base, rule = typing.get_args(hint)
        return cast("_Rule", rule).reader(base)
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        (one,) = (each for each in typing.get_args(hint) if each is not NoneType)
        inner = _reader(one)
        return lambda value: None if value is None else inner(value)
    if hint is bool:
        return _boolean
    if hint is datetime:
        return _moment
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return functools.partial(_member, hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return functools.partial(_read_dataclass, hint)
    raise TypeError(f"{hint} has no limits")


@functools.cache
def schema(kind: type) -> dict[str, tuple[_Reader, bool]]:
    """Return the reader of each field and whether it may be missing."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {each.name: (_reader(hints[each.name]), _optional(each)) for each in _public(kind)}


def _public(kind: object) -> tuple[Field[object], ...]:
    return tuple(each for each in fields(cast("type", kind)) if not each.name.startswith("_"))


def _optional(field: Field[object]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _read_dataclass(kind: type, raw: object) -> object:
    record = _object(raw)
    values: Json = {}
    for name, (read, optional) in schema(kind).items():
        if name in record:
            try:
                values[name] = read(record[name])
            except ValueError as err:
                # The value may be a secret or very long: only the name is told.
                raise CodecError(f"{name}: {_reason(err)}") from None
        elif not optional:
            raise CodecError(f"{name} is missing")
    return kind(**values)


def _reason(err: ValueError) -> str:
    return "not UTF-8" if isinstance(err, UnicodeError) else str(err)


def _write(value: object) -> object:
    if is_dataclass(value):
        record: Json = {}
        if (name := type_name(type(value))) is not None:
            record["type"] = name
        for each in _public(value):
            content = getattr(value, each.name)
            # Null where leaving it out would mean another default.
            if content is not None or each.default is not None:
                record[each.name] = _write(content)
        return record
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {_write(key): _write(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_write(each) for each in value]
    return value
