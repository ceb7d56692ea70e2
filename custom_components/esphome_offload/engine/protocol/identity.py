"""Identities of instances: X25519 keys and the pins that name them."""

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass, field
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ..codec import Blob
from ..private_file import write_private
from ..reason import Reason, ReasonKey
from ..regular_file import NotRegularError, open_regular

_LOGGER = logging.getLogger(__name__)

KEY_BYTES = 32
_FIELD_PRIME = 2**255 - 19
_FILE_VERSION = 1
_FILE_LIMIT = 4096
# Any scalar would do: a multiple of eight takes every point of small order to zero.
_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES)))


class IdentityError(Exception):
    """The identity cannot be read or written; ``reason`` is for people."""

    def __init__(self, key: ReasonKey, path: Path) -> None:
        self.reason = Reason(key, {"file": f"{path.parent.name}/{path.name}"})
        super().__init__(str(self.reason))


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An X25519 public key of 32 bytes. Raises ValueError when it is none that is safe to use."""

    raw: Annotated[bytes, Blob(KEY_BYTES, KEY_BYTES)]

    def __post_init__(self) -> None:
        """Refuse second spellings of a key (another pin) and points that fix the secret."""
        if len(self.raw) != KEY_BYTES or int.from_bytes(self.raw, "little") >= _FIELD_PRIME:
            raise ValueError("not a public key")
        try:
            _PROBE.exchange(X25519PublicKey.from_public_bytes(self.raw))
        except ValueError as err:
            raise ValueError("not a public key that keeps a secret") from err

    @property
    def pin_sha256(self) -> str:
        """The SHA-256 of the key, in hex: what people and config entries know it by."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """The key pair of this instance."""

    private: bytes = field(repr=False)
    public: PublicKey

    @classmethod
    def from_private(cls, private: bytes) -> Identity:
        """Return the key pair of a private key."""
        public = X25519PrivateKey.from_private_bytes(private).public_key()
        return cls(private, PublicKey(public.public_bytes_raw()))

    @classmethod
    def generate(cls) -> Identity:
        """Return a new key pair."""
        return cls.from_private(X25519PrivateKey.generate().private_bytes_raw())

    @property
    def pin_sha256(self) -> str:
        """The pin of this instance."""
        return self.public.pin_sha256


def load_or_create(path: Path) -> Identity:
    """Return the identity kept in ``path``, made on first use. Blocking.

    Raises IdentityError for a file that is damaged: to replace it silently would break every
    pairing without a word. One caller at a time.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        return renew(path)
    except OSError as err:
        raise IdentityError(ReasonKey.IDENTITY_UNREADABLE, path) from err


def renew(path: Path) -> Identity:
    """Make a new identity and put it in the place of any other. Blocking.

    Every pairing must be made again. Raises IdentityError; then the old one is still there.
    """
    identity = Identity.generate()
    try:
        _write(path, identity)
    except OSError as err:
        raise IdentityError(ReasonKey.IDENTITY_UNWRITABLE, path) from err
    return identity


def _load(path: Path) -> Identity:
    try:
        opened = open_regular(path)
    except NotRegularError as err:
        raise _damaged(path, "it is not a file") from err
    with opened as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            _LOGGER.warning(
                "The identity file %s could be read by other users of this machine; "
                "make a new identity if one of them may have done so",
                path,
            )
            # Some file systems have no modes.
            with suppress(OSError):
                os.fchmod(file.fileno(), 0o600)
        content = file.read(_FILE_LIMIT + 1)
    return _decode(path, content)


def _decode(path: Path, content: bytes) -> Identity:
    try:
        record = json.loads(content)
    except ValueError, RecursionError:
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(record, dict) or record.get("version") != _FILE_VERSION:
        raise _damaged(path, "it is of another version")
    try:
        private = base64.b64decode(record["private_key"], validate=True)
    except KeyError, TypeError, ValueError, binascii.Error:
        raise _damaged(path, "it holds no key") from None
    if len(private) != KEY_BYTES:
        raise _damaged(path, "its key is too short or too long")
    identity = Identity.from_private(private)
    if record.get("pin_sha256") != identity.pin_sha256:
        raise _damaged(path, "key and pin do not belong together")
    return identity


def _damaged(path: Path, why: str) -> IdentityError:
    _LOGGER.error("The identity file %s is damaged: %s", path, why)
    return IdentityError(ReasonKey.IDENTITY_DAMAGED, path)


def _write(path: Path, identity: Identity) -> None:
    record = {
        "version": _FILE_VERSION,
        "private_key": base64.b64encode(identity.private).decode(),
        "pin_sha256": identity.pin_sha256,
    }
    write_private(path, json.dumps(record).encode())
