"""How talking to a peer goes wrong, from the offloader's side."""

from ..protocol.definitions import ErrorCode


class LinkLost(Exception):  # noqa: N818 - it may well be back
    """There is no connection, or it ended before the answer; ``str(error)`` is for people.

    ``code`` is set where the peer gave a reason.
    """

    def __init__(self, why: str, code: ErrorCode | None = None) -> None:
        """Keep the code beside the reason."""
        super().__init__(why)
        self.code = code


class PeerRefused(Exception):  # noqa: N818 - a refusal is an answer
    """The peer said no; ``detail`` is its own word for the log."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        """Keep the code beside the detail."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class TokenRefusedError(Exception):
    """Home Assistant at the peer does not take the access token (any more)."""
