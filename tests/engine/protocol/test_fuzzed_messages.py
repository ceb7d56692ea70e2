"""Every message, whole and mangled: it is read as it was sent, or refused."""

from contextlib import suppress
import json

from hypothesis import given, strategies as st
import pytest

from custom_components.esphome_offload.engine.codec import encode, encode_json, type_name
from custom_components.esphome_offload.engine.protocol.errors import ProtocolError
from custom_components.esphome_offload.engine.protocol.limits import MESSAGE_LIMIT
from custom_components.esphome_offload.engine.protocol.parsing import (
    parse,
    parse_json,
    parse_one_of,
)

from ..fuzzing import JSON, mangled, messages, share
from .test_messages import MESSAGES

each_message = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)


@each_message
@share(30)
@given(data=st.data())
def test_what_keeps_the_limits_is_read_as_it_was_sent(kind: type, data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    assert len(encode_json(message)) <= MESSAGE_LIMIT
    assert parse_json(kind, encode_json(message)) == message


@each_message
@share(30)
@given(data=st.data())
def test_what_is_mangled_is_read_or_malformed(kind: type, data: st.DataObject) -> None:
    # As it arrives, which is where numbers become those that JSON has.
    raw = json.loads(json.dumps(data.draw(mangled(kind))))
    with suppress(ProtocolError):
        message = parse(kind, raw)
        assert parse(kind, encode(message)) == message


@given(raw=JSON)
def test_what_names_no_message_is_none(raw: object) -> None:
    assert parse_one_of(tuple(each for each in MESSAGES if type_name(each)), raw) is None


@given(text=st.binary(max_size=200) | JSON.map(lambda raw: json.dumps(raw).encode()))
def test_a_text_is_a_message_or_malformed(text: bytes) -> None:
    for kind in MESSAGES:
        with suppress(ProtocolError):
            parse_json(kind, text)
