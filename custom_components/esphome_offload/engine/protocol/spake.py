"""The password-authenticated half of pairing: one guess per exchange, for anybody."""

from enum import StrEnum
import hashlib
from typing import Final

from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from .errors import ErrorCode, ProtocolError

SHARE_BYTES: Final = 32


class Role(StrEnum):
    """The two ends of a pairing."""

    OFFLOADER = "offloader"
    BUILDER = "builder"

    @property
    def other(self) -> Role:
        """The opposite end."""
        return Role.BUILDER if self is Role.OFFLOADER else Role.OFFLOADER


_SIDE: Final = {Role.OFFLOADER: b"A", Role.BUILDER: b"B"}
_NAME: Final = {
    Role.OFFLOADER: b"esphome_offload offloader",
    Role.BUILDER: b"esphome_offload builder",
}


class CodeExchange:
    """A run of SPAKE2 (Ed25519). Blocking: some milliseconds each.

    The ``spake2`` package agrees on a secret without saying whether both ends have the same. The
    Noise handshake that this secret keys says so, and who takes part.
    """

    def __init__(self, role: Role, code: str) -> None:
        """``share`` is what to send."""
        self._role = role
        side = SPAKE2_A if role is Role.OFFLOADER else SPAKE2_B
        self._spake = side(code.encode(), idA=_NAME[Role.OFFLOADER], idB=_NAME[Role.BUILDER])
        # The package puts a letter for the side in front, which the roles here make needless.
        self.share: bytes = self._spake.start()[1:]

    def secret(self, share: bytes) -> bytes:
        """Return the 32 bytes that both ends share if both used the same code.

        ``share`` is the other end's. Raises ProtocolError MALFORMED.
        """
        if len(share) != SHARE_BYTES:
            raise ProtocolError(ErrorCode.MALFORMED, "a share of the wrong length")
        try:
            key = self._spake.finish(_SIDE[self._role.other] + share)
        # NotOnCurve and ValueError: no point of the group; SPAKEError: our own share.
        except (SPAKEError, NotOnCurve, ValueError) as err:
            raise ProtocolError(ErrorCode.MALFORMED, "a share that is none") from err
        return hashlib.sha256(b"esphome_offload pairing" + key).digest()


def check_share(share: bytes) -> None:
    """Raise ProtocolError MALFORMED unless ``share`` can be an offloader's. Blocking."""
    CodeExchange(Role.BUILDER, "").secret(share)
