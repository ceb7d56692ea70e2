"""Large bodies (bundles, firmware) sealed as streams: any size, constant memory.

A sealed body is MAGIC, the length of the sealed header (4 bytes, big endian), the sealed header
(a BodyHeader, see payloads.py) and the body in chunks of libsodium's secretstream. Every chunk
but the last holds CHUNK bytes, and only the last bears the final tag.
"""

from collections.abc import Generator, Iterator
import hashlib
import hmac
from pathlib import Path
from typing import BinaryIO, Final

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_ABYTES as CHUNK_OVERHEAD,
    crypto_secretstream_xchacha20poly1305_init_pull as init_pull,
    crypto_secretstream_xchacha20poly1305_init_push as init_push,
    crypto_secretstream_xchacha20poly1305_keygen as keygen,
    crypto_secretstream_xchacha20poly1305_pull as pull,
    crypto_secretstream_xchacha20poly1305_push as push,
    crypto_secretstream_xchacha20poly1305_state as stream_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL as TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE as TAG_MESSAGE,
)
from nacl.exceptions import CryptoError

from ..codec import encode, encode_json
from .definitions import (
    HEADER_LIMIT,
    SEALED_OVERHEAD,
    ErrorCode,
    ProtocolError,
)
from .parsing import parse_json
from .payloads import BodyHeader
from .seal import Channel, Purpose

MAGIC: Final = b"EOSEAL01"
CHUNK: Final = 64 * 1024
_BATCH_CHUNKS: Final = 8
_PREAMBLE: Final = len(MAGIC) + 4


def sealed_size(size: int) -> int:
    """Return how many bytes the chunks of a body of ``size`` bytes take."""
    return size + max(1, -(-size // CHUNK)) * CHUNK_OVERHEAD


def open_header(channel: Channel, purpose: Purpose, sealed: bytes, limit: int) -> BodyHeader:
    """Return a sealed header that came by itself or before its body.

    Raises ProtocolError TAMPERED, MALFORMED, or TOO_LARGE for a body of more than ``limit`` bytes.
    """
    header = parse_json(BodyHeader, channel.open(purpose, sealed))
    if header.size > limit:
        raise ProtocolError(ErrorCode.TOO_LARGE, f"{header.size} bytes, {limit} are allowed")
    return header


class Sealer:
    """One sealing of one file, to be sent once: another sending needs another key.

    ``header`` is the sealed header alone, ``length`` the bytes that ``batches`` gives in all.
    Blocking: the constructor reads the whole file for its digest unless that is known, each
    step of ``batches`` reads and encrypts half a MiB.
    """

    def __init__(
        self,
        channel: Channel,
        purpose: Purpose,
        path: Path,
        parameters: object,
        *,
        limit: int,
        sha256: str | None = None,
    ) -> None:
        """Take size and digest; raises OSError, or ProtocolError TOO_LARGE above ``limit`` bytes."""
        self._path = path
        size = path.stat().st_size
        if size > limit:
            raise ProtocolError(ErrorCode.TOO_LARGE, f"{size} bytes, {limit} are allowed")
        if sha256 is None:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.sha256 = sha256
        self.size = size
        key = keygen()
        self._state = stream_state()
        start = init_push(self._state, key)
        header = BodyHeader(sha256, size, key, start, encode(parameters))
        self.header = channel.seal(purpose, encode_json(header))
        if len(self.header) > HEADER_LIMIT:
            raise ProtocolError(ErrorCode.TOO_LARGE, "the parameters are too long")
        self.length = _PREAMBLE + len(self.header) + sealed_size(size)
        self._sent = False

    def batches(self) -> Generator[bytes]:
        """Give the sealed body piece by piece, at most about half a MiB each.

        Raises OSError, or ProtocolError TAMPERED when the file is no longer what the header
        says; the receiver then lacks the final tag and keeps nothing.
        """
        if self._sent:
            raise RuntimeError("a second body under one key")
        self._sent = True
        yield MAGIC + len(self.header).to_bytes(4, "big") + self.header
        digest = hashlib.sha256()
        left = self.size
        with self._path.open("rb") as file:
            final = False
            while not final:
                batch = bytearray()
                for _ in range(_BATCH_CHUNKS):
                    plain = _read(file, min(left, CHUNK))
                    digest.update(plain)
                    left -= len(plain)
                    final = left == 0
                    if final and not hmac.compare_digest(digest.hexdigest(), self.sha256):
                        raise _changed(self._path)
                    batch += push(self._state, plain, None, TAG_FINAL if final else TAG_MESSAGE)
                    if final:
                        break
                yield bytes(batch)


class Opener:
    """The receiving end: takes a sealed body in pieces of any size.

    First ``read_header`` until it gives the header, then ``feed`` (blocking: decrypts), then
    ``finish``. Nothing may be used before ``finish`` has returned.
    """

    def __init__(self, channel: Channel, purpose: Purpose, limit: int) -> None:
        """Expect a body of at most ``limit`` bytes."""
        self._channel = channel
        self._purpose = purpose
        self._limit = limit
        self._pending = bytearray()
        self._state = stream_state()
        self._digest = hashlib.sha256()
        self._header: BodyHeader | None = None
        self._left = 0
        self._final = False

    def read_header(self, data: bytes) -> BodyHeader | None:
        """Return the header once enough is there; cheap, and keeps what follows for ``feed``.

        Raises ProtocolError.
        """
        self._pending += data
        magic = self._pending[: len(MAGIC)]
        if magic != MAGIC[: len(magic)]:
            raise ProtocolError(ErrorCode.MALFORMED, "not a sealed body")
        if len(self._pending) < _PREAMBLE:
            return None
        length = int.from_bytes(self._pending[len(MAGIC) : _PREAMBLE], "big")
        if not SEALED_OVERHEAD <= length <= HEADER_LIMIT:
            raise ProtocolError(ErrorCode.MALFORMED, "a header of an impossible length")
        end = _PREAMBLE + length
        if len(self._pending) < end:
            return None
        sealed = bytes(self._pending[_PREAMBLE:end])
        header = open_header(self._channel, self._purpose, sealed, self._limit)
        init_pull(self._state, header.start, header.key)
        self._header = header
        self._left = header.size
        del self._pending[:end]
        return header

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the plain chunks that are whole now; raises ProtocolError TAMPERED."""
        self._pending += data
        while not self._final:
            length = min(self._left, CHUNK) + CHUNK_OVERHEAD
            if len(self._pending) < length:
                return
            sealed = bytes(self._pending[:length])
            del self._pending[:length]
            yield self._open_chunk(sealed)
        if self._pending:
            raise ProtocolError(ErrorCode.TAMPERED, "something follows the end")

    def finish(self) -> BodyHeader:
        """Return the header when all of the body came; raises ProtocolError TAMPERED."""
        if self._header is None or not self._final or self._pending:
            raise ProtocolError(ErrorCode.TAMPERED, "the end is missing")
        if not hmac.compare_digest(self._digest.hexdigest(), self._header.sha256):
            raise ProtocolError(ErrorCode.TAMPERED, "not what the header says")
        return self._header

    def _open_chunk(self, sealed: bytes) -> bytes:
        try:
            plain, tag = pull(self._state, sealed)
        except CryptoError as err:
            raise ProtocolError(ErrorCode.TAMPERED, "a chunk that is not the sender's") from err
        self._left -= len(plain)
        if tag != (TAG_MESSAGE if self._left else TAG_FINAL):
            raise ProtocolError(ErrorCode.TAMPERED, "an end in the wrong place")
        self._final = tag == TAG_FINAL
        self._digest.update(plain)
        return plain


def _read(file: BinaryIO, size: int) -> bytes:
    plain = file.read(size)
    if len(plain) != size:
        raise _changed(Path(file.name))
    return plain


def _changed(path: Path) -> ProtocolError:
    return ProtocolError(ErrorCode.TAMPERED, f"{path.name} was altered while it was sent")
