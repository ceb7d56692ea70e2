from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
import json
from typing import Annotated, ClassVar

from hypothesis import given, strategies as st
import pytest

from custom_components.esphome_offload.engine.codec import (
    Blob,
    CodecError,
    Keyed,
    Many,
    Number,
    OrElse,
    Text,
    decode,
    decode_json,
    encode,
    encode_json,
    schema,
)


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True, slots=True)
class Inner:
    name: Annotated[str, Text(5)]


@dataclass(frozen=True, slots=True)
class Everything:
    TYPE: ClassVar[str] = "everything"
    text: Annotated[str, Text(8, r"[a-z]+")]
    free: Annotated[str, Text(8, free=True)]
    count: Annotated[int, Number(0, 10)]
    share: Annotated[float, Number(0, 1)]
    blob: Annotated[bytes, Blob(2, 4)]
    flag: bool
    colour: Colour
    tolerant: Annotated[Colour, OrElse(Colour.GREEN)]
    inner: Inner
    many: Annotated[tuple[Annotated[str, Text(3)], ...], Many(2)]
    at: datetime
    keyed: Annotated[Mapping[Colour, Annotated[float, Number(0, 9)]], Keyed(2)]
    maybe: Annotated[int, Number(0, 10)] | None = None


GOOD = Everything(
    "abc",
    "a\tb\n",
    3,
    0.5,
    b"\0\xff",
    True,
    Colour.RED,
    Colour.RED,
    Inner("x"),
    ("a", "b"),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    {Colour.RED: 1.0},
)


def test_what_is_sent_is_what_is_read() -> None:
    assert decode_json(Everything, encode_json(GOOD)) == GOOD


def test_a_message_says_its_type_and_leaves_out_what_is_none() -> None:
    wire = encode(GOOD)
    assert wire["type"] == "everything"
    assert "maybe" not in wire


def test_unknown_fields_are_ignored() -> None:
    assert decode(Everything, encode(GOOD) | {"id": 5, "newer": [1]}) == GOOD


def test_an_optional_field_may_be_null() -> None:
    assert decode(Everything, encode(GOOD) | {"maybe": None}).maybe is None
    assert decode(Everything, encode(GOOD) | {"maybe": 7}).maybe == 7


def test_an_unknown_word_becomes_the_fallback_where_there_is_one() -> None:
    assert decode(Everything, encode(GOOD) | {"tolerant": "blue"}).tolerant is Colour.GREEN


@pytest.mark.parametrize("name", [name for name in encode(GOOD) if name != "type"])
def test_every_field_without_a_default_is_needed(name: str) -> None:
    wire = encode(GOOD)
    del wire[name]
    with pytest.raises(CodecError, match=f"{name} is missing"):
        decode(Everything, wire)


STRANGE = [None, 17, -1, 1.5, "X" * 9, [1], ["a", "b", "c"], {"a": 1}, True]
FITTING = [("flag", STRANGE[8]), ("tolerant", STRANGE[4])]


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize("name", [name for name in encode(GOOD) if name != "type"])
def test_only_what_a_field_allows_is_accepted(name: str, value: object) -> None:
    message = encode(GOOD) | {name: value}
    if any(name == field_ and value is each for field_, each in FITTING):
        assert decode(Everything, message)
    else:
        with pytest.raises(CodecError, match=name):
            decode(Everything, message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", "ABC"),
        ("text", ""),
        ("text", "abc\n"),
        ("text", "a\u202eb"),
        ("free", "\ud800"),
        ("count", True),
        ("count", 3.0),
        ("count", "3"),
        ("count", 10**400),
        ("share", float("nan")),
        ("share", float("inf")),
        ("share", "0.5"),
        ("blob", "AA=="),
        ("blob", "AAAAAAAA"),
        ("blob", "AAAA AAA"),
        ("blob", "é" * 4),
        ("flag", 1),
        ("colour", "blue"),
        ("colour", ["red"]),
        ("inner", {"name": "too long"}),
        ("many", {"a": "b"}),
        ("many", ["a", 1]),
        ("at", "2026-10-25T01:30:00"),
        ("at", "2026-10-25"),
        ("at", "0001-01-01T00:00:00+14:00"),
        ("at", "2026-10-25T01:30:00+00:00" + "0" * 20),
        ("keyed", {"blue": 1}),
        ("keyed", {"red": 10}),
        ("keyed", {"red": None}),
        ("keyed", [["red", 1]]),
    ],
)
def test_values_at_the_edge_are_refused(name: str, value: object) -> None:
    with pytest.raises(CodecError, match=name):
        decode(Everything, encode(GOOD) | {name: value})


@pytest.mark.parametrize("raw", [None, 1, "x", [], [1, 2], True])
def test_only_an_object_is_a_message(raw: object) -> None:
    with pytest.raises(CodecError):
        decode(Everything, raw)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b"9" * 5000],
    ids=lambda text: repr(text[:8]),
)
def test_what_is_not_json_is_malformed_however_it_is_broken(text: bytes) -> None:
    with pytest.raises(CodecError):
        decode_json(Everything, text)


def test_nan_is_not_json() -> None:
    text = json.dumps(encode(GOOD) | {"share": float("nan")}).encode()
    with pytest.raises(CodecError, match="not JSON"):
        decode_json(Everything, text)


def test_an_error_never_repeats_the_value() -> None:
    with pytest.raises(CodecError) as caught:
        decode(Everything, encode(GOOD) | {"text": "SECRET"})
    assert "SECRET" not in str(caught.value)
    with pytest.raises(CodecError) as caught:
        decode(Everything, encode(GOOD) | {"free": "\ud800secret"})
    assert "secret" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(encode(GOOD), JSON)))
def test_whatever_is_decoded_is_accepted_or_refused(changed: dict[str, object]) -> None:
    try:
        message = decode(Everything, encode(GOOD) | changed)
    except CodecError:
        return
    assert decode_json(Everything, encode_json(message)) == message


def test_a_time_is_the_same_moment_in_utc() -> None:
    there = timezone(timedelta(hours=2))
    wire = encode(GOOD) | {"at": datetime(2026, 10, 25, 3, 30, tzinfo=there).isoformat()}
    read = decode(Everything, wire)
    assert read == GOOD
    assert read.at.tzinfo is UTC
    assert encode(GOOD)["at"] == "2026-10-25T01:30:00+00:00"


def test_an_object_with_too_many_entries_is_refused() -> None:
    @dataclass(frozen=True)
    class Table:
        rows: Annotated[Mapping[Annotated[str, Text(1)], bool], Keyed(2)]

    table = Table({"a": True, "b": False})
    assert decode(Table, encode(table)) == table
    with pytest.raises(CodecError, match="rows: more than 2"):
        decode(Table, {"rows": dict.fromkeys("abc", True)})
    with pytest.raises(CodecError, match="rows: longer than 1"):
        decode(Table, {"rows": {"ab": True}})


@dataclass(frozen=True, slots=True)
class Nested:
    inner: Nested | None = None


@pytest.mark.parametrize("depth", [1_000, 10_000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    with pytest.raises(CodecError, match="nested too deeply"):
        decode_json(Nested, b'{"inner":' * depth + b"{}" + b"}" * depth)


@pytest.mark.parametrize("value", [None, 1, 2])
def test_a_none_that_is_not_the_default_survives(value: int | None) -> None:
    @dataclass(frozen=True)
    class Defaults:
        other: Annotated[int, Number(0, 9)] | None = 1
        needed: Annotated[int, Number(0, 9)] | None = field(kw_only=True)

    record = Defaults(value, needed=value)
    assert decode(Defaults, encode(record)) == record


def test_private_fields_are_neither_written_nor_read() -> None:
    @dataclass
    class Mutable:
        name: Annotated[str, Text(5)]
        _since: object = None

    assert encode(Mutable("a", 5)) == {"name": "a"}
    assert decode(Mutable, {"name": "a", "_since": 5}) == Mutable("a")


def test_a_field_without_limits_is_a_defect() -> None:
    @dataclass
    class Unbounded:
        name: str

    with pytest.raises(TypeError, match="no limits"):
        schema(Unbounded)
