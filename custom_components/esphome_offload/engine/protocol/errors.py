"""The errors that the ends of a link send each other."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """All error codes. TOO_OLD and TOO_NEW are said of the end that gets the error."""

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
    NOT_LENDING = "not_lending"

    UNKNOWN_ATTEMPT = "unknown_attempt"
    ATTEMPT_CONFLICT = "attempt_conflict"
    ATTEMPT_OVER = "attempt_over"
    BUNDLE_NEEDED = "bundle_needed"
    FIRMWARE_NOT_READY = "firmware_not_ready"


class ProtocolError(Exception):
    """The other end did, or got, something that the protocol does not allow.

    ``detail`` is for the log; people are shown a sentence of our own that goes with ``code``.
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def said_of_other(code: ErrorCode) -> ErrorCode:
    """Return a code that we were sent as it reads from here: too old there is too new here."""
    return {
        ErrorCode.TOO_OLD: ErrorCode.TOO_NEW,
        ErrorCode.TOO_NEW: ErrorCode.TOO_OLD,
    }.get(code, code)
