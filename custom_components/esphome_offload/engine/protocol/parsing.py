"""Decoding what the other end sent: whatever is wrong with it is a ProtocolError."""

from ..codec import CodecError, decode, decode_json, type_name
from .errors import ErrorCode, ProtocolError


def parse[T](kind: type[T], raw: object) -> T:
    """Return ``raw`` (decoded JSON) as a message; raises ProtocolError MALFORMED."""
    try:
        return decode(kind, raw)
    except CodecError as err:
        raise ProtocolError(ErrorCode.MALFORMED, str(err)) from err


def parse_json[T](kind: type[T], text: bytes) -> T:
    """Return a JSON text as a message; raises ProtocolError MALFORMED."""
    try:
        return decode_json(kind, text)
    except CodecError as err:
        raise ProtocolError(ErrorCode.MALFORMED, str(err)) from err


def parse_one_of[T](kinds: tuple[type[T], ...], raw: object) -> T | None:
    """Return ``raw`` as the message that its ``type`` names, None when it is none of these."""
    name = raw.get("type") if isinstance(raw, dict) else None
    for kind in kinds:
        if name == type_name(kind):
            return parse(kind, raw)
    return None
