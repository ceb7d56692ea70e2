"""What the other end sent is decoded, or refused as malformed."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest

from custom_components.esphome_offload.engine.codec import Number, encode, encode_json
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.parsing import (
    parse,
    parse_json,
    parse_one_of,
)


@dataclass(frozen=True, slots=True)
class Ping:
    TYPE: ClassVar[str] = "ping"
    number: Annotated[int, Number(0, 9)]


@dataclass(frozen=True, slots=True)
class Pong:
    TYPE: ClassVar[str] = "pong"


def test_a_good_message_is_read() -> None:
    assert parse(Ping, encode(Ping(1))) == Ping(1)
    assert parse_json(Ping, encode_json(Ping(1))) == Ping(1)


def test_a_bad_message_is_malformed() -> None:
    with pytest.raises(ProtocolError, match="Ping: number: not within 0 and 9") as caught:
        parse(Ping, {"number": 10})
    assert caught.value.code is ErrorCode.MALFORMED
    with pytest.raises(ProtocolError, match="Ping: not JSON") as caught:
        parse_json(Ping, b"{")
    assert caught.value.code is ErrorCode.MALFORMED


def test_the_type_chooses_the_message() -> None:
    assert parse_one_of((Pong, Ping), encode(Ping(1))) == Ping(1)
    assert parse_one_of((Ping,), {"type": "other"}) is None
    assert parse_one_of((Ping,), [1]) is None
