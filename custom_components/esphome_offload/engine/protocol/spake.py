"""The password-authenticated half of pairing: one guess per exchange, for anybody."""

from dataclasses import dataclass
import hmac

from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from .definitions import ErrorCode, ProtocolError, Role
from .identity import Identity, PublicKey
from .negotiation import Offer
from .seal import Channel, keyed_hash

_SHARE_BYTES = 32
_SIDE = {Role.OFFLOADER: b"A", Role.BUILDER: b"B"}
_NAME = {Role.OFFLOADER: b"esphome-offload offloader", Role.BUILDER: b"esphome-offload builder"}


@dataclass(frozen=True, slots=True)
class Party:
    """What one side says of itself; all of it is confirmed."""

    offer: Offer
    public: PublicKey
    label: str


class Exchange:
    """One run of SPAKE2 (Ed25519) with explicit confirmation. Blocking: some milliseconds each.

    The ``spake2`` package agrees on a key without saying whether both have the same, and does
    not know who takes part. The confirmations do both: each is a keyed hash of everything that
    both sides said, under a key made from SPAKE2's and the Diffie-Hellman secret of both
    identities, so that neither side can bring a public key that it does not own.
    """

    def __init__(self, role: Role, code: str, own: Identity, party: Party) -> None:
        """Begin; ``share`` is what to send."""
        self._role = role
        self._own = own
        self._party = party
        side = SPAKE2_A if role is Role.OFFLOADER else SPAKE2_B
        names = (_NAME[Role.OFFLOADER], _NAME[Role.BUILDER])
        self._spake = side(code.encode(), idA=names[0], idB=names[1])
        # The package puts a letter for the side in front, which the roles here make needless.
        self.share: bytes = self._spake.start()[1:]
        self._confirmations: dict[Role, bytes] = {}

    def finish(self, other: Party, share: bytes) -> None:
        """Take the other side's half; raises ProtocolError MALFORMED or SAME_IDENTITY."""
        if len(share) != _SHARE_BYTES:
            raise ProtocolError(ErrorCode.MALFORMED, "a share of the wrong length")
        channel = Channel(self._own, other.public)
        try:
            key = self._spake.finish(_SIDE[self._role.other] + share)
        # NotOnCurve and ValueError: no point of the group; SPAKEError: our own share.
        except (SPAKEError, NotOnCurve, ValueError) as err:
            raise ProtocolError(ErrorCode.MALFORMED, "a share that is none") from err
        secret = keyed_hash(key, "pairing secret", channel.mac_key("pairing"))
        mine, theirs = (self._party, self.share), (other, share)
        offloader, builder = (mine, theirs) if self._role is Role.OFFLOADER else (theirs, mine)
        said = tuple(
            part
            for party, its_share in (offloader, builder)
            for part in (
                party.offer.binding(),
                party.public.raw,
                party.label.encode(),
                its_share,
            )
        )
        self._confirmations = {
            role: keyed_hash(secret, f"pairing confirmation {role}", *said) for role in Role
        }

    @property
    def confirmation(self) -> bytes:
        """What proves to the other side that this one knows the code; after ``finish``."""
        return self._confirmations[self._role]

    def confirmed_by(self, confirmation: bytes) -> bool:
        """Whether this proves that the other side knows the code; after ``finish``."""
        return hmac.compare_digest(self._confirmations[self._role.other], confirmation)
