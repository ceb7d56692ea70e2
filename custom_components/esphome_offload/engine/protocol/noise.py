"""The Noise handshakes of the link, and the frames that are encrypted after them."""

from typing import Final, Self

from cryptography.exceptions import InvalidTag
from noise import exceptions
from noise.connection import Keypair, NoiseConnection

from .identity import Identity, PublicKey

MESSAGE_BYTES: Final = 65535
"""The longest message that Noise allows, encrypted."""
TAG_BYTES: Final = 16

_LINK: Final = b"Noise_IK_25519_ChaChaPoly_SHA256"
_PAIRING: Final = b"Noise_XXpsk0_25519_ChaChaPoly_SHA256"

# The library checks little before it computes: a message that is too short ends as IndexError or
# AssertionError in it, a point of small order as ValueError in the arithmetic.
_BROKEN: Final = (
    InvalidTag,
    exceptions.NoiseHandshakeError,
    exceptions.NoiseInvalidMessage,
    exceptions.NoiseMaxNonceError,
    exceptions.NoiseValueError,
    ValueError,
    IndexError,
    AssertionError,
)


class NoiseError(Exception):
    """A message is not what the other end of this handshake or channel would send."""


class Ciphers:
    """Both directions of an established channel; each message can be read once, in order."""

    def __init__(self, noise: NoiseConnection) -> None:
        self._noise = noise

    def encrypt(self, plain: bytes) -> bytes:
        """Return the next message; ``plain`` has at most MESSAGE_BYTES - TAG_BYTES bytes."""
        try:
            return bytes(self._noise.encrypt(plain))
        except _BROKEN as err:
            raise NoiseError("a message that cannot be encrypted") from err

    def decrypt(self, message: bytes) -> bytes:
        """Return the content of the next message; raises NoiseError."""
        try:
            return bytes(self._noise.decrypt(message))
        except _BROKEN as err:
            raise NoiseError("a message that is not the next one of this channel") from err


class Handshake:
    """One end of a handshake. Each step is arithmetic of about a millisecond.

    ``peer`` is the identity key of the other end, known to be its own after the last message.
    """

    def __init__(
        self, noise: NoiseConnection, *, initiator: bool, peer: PublicKey | None = None
    ) -> None:
        self._noise = noise
        self.peer = peer
        if initiator:
            noise.set_as_initiator()
        else:
            noise.set_as_responder()
        noise.start_handshake()

    @classmethod
    def link(cls, own: Identity, peer: PublicKey, prologue: bytes) -> Self:
        """Return the offloader's end of a link; its messages: write, read."""
        noise = _connection(_LINK, own, prologue)
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, peer.raw)
        return cls(noise, initiator=True, peer=peer)

    @classmethod
    def link_answer(cls, own: Identity, prologue: bytes) -> Self:
        """Return the builder's end of a link; its messages: read, write."""
        return cls(_connection(_LINK, own, prologue), initiator=False)

    @classmethod
    def pairing(cls, own: Identity, secret: bytes, prologue: bytes, *, initiator: bool) -> Self:
        """Return one end of a pairing; the offloader is the initiator: write, read, write.

        ``secret`` are the 32 bytes that both ends know if both know the code.
        """
        noise = _connection(_PAIRING, own, prologue)
        noise.set_psks(psk=secret)
        return cls(noise, initiator=initiator)

    def write(self, payload: bytes) -> bytes:
        """Return the next message of this end; raises NoiseError."""
        try:
            return bytes(self._noise.write_message(payload))
        except _BROKEN as err:
            raise NoiseError("the handshake cannot go on") from err

    def read(self, message: bytes) -> bytes:
        """Return the payload of the other end's next message; raises NoiseError."""
        # The library drops this state, and the key in it, with the last message.
        state = self._noise.noise_protocol.handshake_state
        try:
            payload = bytes(self._noise.read_message(message))
            # Not every message brings the key; until then there is a placeholder for it.
            key = getattr(getattr(state, "rs", None), "public_bytes", None)
            if self.peer is None and key is not None:
                self.peer = PublicKey(bytes(key))
        except _BROKEN as err:
            raise NoiseError("not a message of this handshake") from err
        return payload

    def ciphers(self) -> Ciphers:
        """Return the channel that a finished handshake has established."""
        return Ciphers(self._noise)


def _connection(name: bytes, own: Identity, prologue: bytes) -> NoiseConnection:
    noise = NoiseConnection.from_name(name)
    noise.set_keypair_from_private_bytes(Keypair.STATIC, own.private)
    noise.set_prologue(prologue)
    return noise
