"""Sealing between two pinned keys: nobody else can read, alter, reflect or re-address it."""

from enum import StrEnum
import hashlib

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from .definitions import ErrorCode, ProtocolError
from .identity import Identity, PublicKey

_PERSON = b"esphome-offload\0"


class Purpose(StrEnum):
    """What a sealed message is for; it opens for nothing else."""

    TICKET_REQUEST = "ticket request"
    TICKET_ANSWER = "ticket answer"
    BUNDLE = "bundle"
    FIRMWARE = "firmware"


def keyed_hash(key: bytes, context: str, *parts: bytes) -> bytes:
    """Return 32 bytes that need ``key`` (up to 64 bytes) and stand for exactly these parts.

    BLAKE2b with the context and each part preceded by its length, so that no two lists of parts
    look alike.
    """
    state = hashlib.blake2b(digest_size=32, key=key, person=_PERSON)
    for part in (context.encode(), *parts):
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


class Channel:
    """What this instance and one peer share, both known by their pinned keys.

    Each direction and purpose has a key of its own, made from the Diffie-Hellman secret and both
    public keys.
    """

    def __init__(self, own: Identity, peer: PublicKey) -> None:
        """Work out the shared secret; raises ProtocolError SAME_IDENTITY for our own key."""
        if own.public == peer:
            raise ProtocolError(ErrorCode.SAME_IDENTITY, "the peer has the key of this instance")
        self.own = own.public
        self.peer = peer
        self._secret = own.agree(peer)

    def seal(self, purpose: Purpose, plaintext: bytes) -> bytes:
        """Return ``plaintext`` sealed for the peer; SEALED_OVERHEAD bytes longer."""
        return bytes(Aead(self._key(purpose, self.own, self.peer)).encrypt(plaintext))

    def open(self, purpose: Purpose, sealed: bytes) -> bytes:
        """Return what the peer sealed for us; raises ProtocolError TAMPERED for anything else."""
        try:
            return Aead(self._key(purpose, self.peer, self.own)).decrypt(sealed)
        # ValueError: shorter than a nonce.
        except (CryptoError, ValueError) as err:
            raise ProtocolError(
                ErrorCode.TAMPERED, f"not a {purpose} that the peer sealed for this instance"
            ) from err

    def mac_key(self, context: str) -> bytes:
        """Return a key that both sides can work out, for what is sealed in another way."""
        first, second = sorted((self.own.raw, self.peer.raw))
        return keyed_hash(self._secret, context, first, second)

    def _key(self, purpose: Purpose, sender: PublicKey, receiver: PublicKey) -> bytes:
        return keyed_hash(self._secret, f"seal {purpose}", sender.raw, receiver.raw)
