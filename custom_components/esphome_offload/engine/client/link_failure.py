"""Why there is no link to a peer, in the words of a reason."""

from typing import Final

from ..protocol.calls import CommandRefused
from ..protocol.errors import ErrorCode, ProtocolError, said_of_other
from ..protocol.hello import Refused
from ..reason import ReasonKey
from .dial import DialError, DialFailure

_FAILURES: Final = {
    DialFailure.CANNOT_CONNECT: ReasonKey.PEER_AWAY,
    DialFailure.CERTIFICATE: ReasonKey.PEER_CERTIFICATE,
    DialFailure.NO_OFFLOAD: ReasonKey.PEER_WITHOUT_OFFLOAD,
    DialFailure.REDIRECTED: ReasonKey.PEER_WANTS_HTTPS,
    DialFailure.MALFORMED: ReasonKey.PEER_UNCLEAR,
}
_CODES: Final = {
    ErrorCode.BUSY: ReasonKey.PEER_OVERLOADED,
    ErrorCode.NOT_LENDING: ReasonKey.PEER_NOT_LENT,
    ErrorCode.TOO_OLD: ReasonKey.PEER_TOO_OLD,
    ErrorCode.TOO_NEW: ReasonKey.PEER_TOO_NEW,
    ErrorCode.UNKNOWN_GUEST: ReasonKey.PEER_FORGOT,
}


class PairAgain(Exception):  # noqa: N818
    """An instance that is not the one that was paired with, or is not paired any more."""

    def __init__(self, key: ReasonKey) -> None:
        """``key`` says which of the two."""
        super().__init__(key)
        self.key = key


def judge(err: Exception) -> tuple[ErrorCode | None, ReasonKey]:
    """Return the code and the reason of a failure; TOO_OLD and TOO_NEW are said of the peer."""
    code: ErrorCode | None = None
    match err:
        case PairAgain(key=key):
            return ErrorCode.UNKNOWN_GUEST, key
        case DialError(failure=failure) if failure in _FAILURES:
            return ErrorCode(failure) if failure in ErrorCode else None, _FAILURES[failure]
        case DialError(failure=failure):
            code = ErrorCode(failure)
        case Refused(code=sent):
            code = said_of_other(sent)
        case ProtocolError(code=own):
            code = own
        case CommandRefused(code=sent):
            code = sent
        case _:
            return None, ReasonKey.PEER_LOST
    return code, _CODES.get(code, ReasonKey.PEER_UNCLEAR)
