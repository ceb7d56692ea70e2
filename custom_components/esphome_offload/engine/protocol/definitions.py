"""What both sides must agree on: numbers, limits, error codes and the version rule."""

from enum import StrEnum
from typing import Final

PROTOCOL: Final = 1
OLDEST_PROTOCOL: Final = 1

# Texts, in characters.
LABEL_LIMIT: Final = 128
DETAIL_LIMIT: Final = 256
ERROR_LIMIT: Final = 2000
VERSION_LIMIT: Final = 64
LINE_LIMIT: Final = 4000

# Counts.
CAPABILITIES_LIMIT: Final = 32
LINES_PER_BATCH: Final = 500
WANTED_LIMIT: Final = 500
VERSIONS_LIMIT: Final = 64
WARM_LIMIT: Final = 500

MIB: Final = 1024 * 1024
MESSAGE_LIMIT: Final = 512 * 1024
"""Bytes of one JSON message: as long as it takes to decode it, nothing else runs."""
# Home Assistant's websockets take messages of up to 4 MiB; JSON may need six bytes a character.
BATCH_CHARACTERS: Final = 64 * 1024
PAIRING_BODY_LIMIT: Final = 8 * 1024
TICKET_BODY_LIMIT: Final = 8 * 1024
SMALL_PLAINTEXT_LIMIT: Final = 4 * 1024
# Nonce and tag.
SEALED_OVERHEAD: Final = 24 + 16
HEADER_LIMIT: Final = 64 * 1024
BUNDLE_LIMIT: Final = 128 * MIB
FIRMWARE_LIMIT: Final = 256 * MIB

# Seconds.
PAIRING_WINDOW: Final = 300
PAIRING_EXCHANGE_TIMEOUT: Final = 15
CLOCK_TOLERANCE: Final = 300
TICKET_LIFETIME: Final = 60
HANDSHAKE_TIMEOUT: Final = 10
# A board that swaps may be silent for a while; a dead connection must still end some time.
STALL_TIMEOUT: Final = 60

PAIRING_TRIES: Final = 3
CODE_DIGITS: Final = 8

COMMAND_PREFIX: Final = "esphome_offload/"
URL_INFO: Final = "/api/esphome_offload/info"
URL_PAIR: Final = "/api/esphome_offload/pair"
URL_TICKET: Final = "/api/esphome_offload/ticket"
URL_BUNDLE: Final = "/api/esphome_offload/bundle/{attempt_id}"
URL_FIRMWARE: Final = "/api/esphome_offload/firmware/{attempt_id}/{part}"


class Role(StrEnum):
    """The two ends of a pairing."""

    OFFLOADER = "offloader"
    BUILDER = "builder"

    @property
    def other(self) -> Role:
        """The opposite end."""
        return Role.BUILDER if self is Role.OFFLOADER else Role.OFFLOADER


class Capability(StrEnum):
    """What is used only when both sides have it. None is needed to build."""

    # A submit may bring the sealed header alone when the builder has the bundle already.
    BUNDLE_BY_DIGEST = "bundle_by_digest"
    FIRMWARE_FACTORY = "firmware_factory"
    FIRMWARE_ELF = "firmware_elf"


class ErrorCode(StrEnum):
    """Why a request was refused; the whole list, for HTTP and websocket alike.

    TOO_OLD and TOO_NEW are said of the side that gets the error.
    """

    INTERNAL = "internal"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    BUSY = "busy"
    STALLED = "stalled"
    TAMPERED = "tampered"
    NO_SPACE = "no_space"

    WRONG_CODE = "wrong_code"
    WINDOW_CLOSED = "window_closed"
    WINDOW_EXPIRED = "window_expired"
    TIMED_OUT = "timed_out"
    SAME_IDENTITY = "same_identity"

    UNKNOWN_GUEST = "unknown_guest"
    CLOCK_SKEW = "clock_skew"
    REPLAYED = "replayed"
    NOT_PROVEN = "not_proven"
    NOT_LENDING = "not_lending"

    UNKNOWN_ATTEMPT = "unknown_attempt"
    ATTEMPT_CONFLICT = "attempt_conflict"
    ATTEMPT_OVER = "attempt_over"
    BUNDLE_NEEDED = "bundle_needed"
    FIRMWARE_NOT_READY = "firmware_not_ready"

    @property
    def http_status(self) -> int:
        """The status of an HTTP answer that carries this code."""
        return _HTTP_STATUS.get(self, 409)


_HTTP_STATUS: Final = {
    ErrorCode.MALFORMED: 400,
    ErrorCode.TAMPERED: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.BUSY: 429,
    ErrorCode.STALLED: 408,
    ErrorCode.NO_SPACE: 507,
    ErrorCode.UNKNOWN_GUEST: 403,
    ErrorCode.NOT_PROVEN: 403,
    ErrorCode.NOT_LENDING: 403,
    ErrorCode.UNKNOWN_ATTEMPT: 404,
    ErrorCode.FIRMWARE_NOT_READY: 404,
}


class ProtocolError(Exception):
    """The other side did, or got, something that the protocol does not allow.

    ``detail`` is for the log; people are shown a sentence of our own that goes with ``code``.
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        """Keep the code beside the detail."""
        super().__init__(detail)
        self.code = code
        self.detail = detail


def clip(text: str, limit: int) -> str:
    """Return ``text`` as one line of at most ``limit`` characters that can be sent."""
    sendable = text.encode(errors="replace").decode()
    line = "".join(each if each.isprintable() else " " for each in sendable)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def said_of_other(code: ErrorCode) -> ErrorCode:
    """Return a code that we were sent as it reads from here: too old there is too new here."""
    return {
        ErrorCode.TOO_OLD: ErrorCode.TOO_NEW,
        ErrorCode.TOO_NEW: ErrorCode.TOO_OLD,
    }.get(code, code)


def update_sentence(code: ErrorCode, label: str) -> str:
    """Say which side to update; ``code`` is TOO_OLD or TOO_NEW, said of the peer ``label``."""
    if code is ErrorCode.TOO_OLD:
        return f"{label} runs a version of ESPHome Offload that is too old: update it there."
    return f"{label} runs a version of ESPHome Offload that is too new: update it here."
