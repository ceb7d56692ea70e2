from collections.abc import Iterable, Iterator
import hashlib
import itertools
from pathlib import Path
import random

import pytest

from custom_components.esphome_offload.engine.protocol import body
from custom_components.esphome_offload.engine.protocol.body import (
    CHUNK,
    CHUNK_OVERHEAD,
    MAGIC,
    Opener,
    Sealer,
    open_header,
    sealed_size,
)
from custom_components.esphome_offload.engine.protocol.definitions import (
    BUNDLE_LIMIT,
    HEADER_LIMIT,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import BuildParameters
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose

ATTEMPT = "0123456789abcdef0123456789abcdef"
PARAMETERS = BuildParameters(
    ATTEMPT, ATTEMPT, "kitchen.yaml", "kitchen", "2026.10.0", "Europe/Berlin"
)
SEALED_CHUNK = CHUNK + CHUNK_OVERHEAD
SIZES = [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK, 8 * CHUNK + 1, 20 * CHUNK]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tmp_path / "plain"


def sealer(channel: Channel, path: Path, content: bytes, **options: object) -> Sealer:
    path.write_bytes(content)
    return Sealer(channel, Purpose.BUNDLE, path, PARAMETERS, limit=BUNDLE_LIMIT, **options)


def seal(channel: Channel, path: Path, content: bytes) -> bytes:
    return b"".join(sealer(channel, path, content).batches())


def take(
    channel: Channel, pieces: Iterable[bytes], *, purpose: Purpose = Purpose.BUNDLE,
    limit: int = BUNDLE_LIMIT,
) -> bytes:  # fmt: skip
    opener = Opener(channel, purpose, limit)
    header = None
    received = bytearray()
    for piece in pieces:
        if header is None:
            header = opener.read_header(piece)
            piece = b""  # noqa: PLW2901
        if header is not None:
            received.extend(b"".join(opener.feed(piece)))
    opener.finish()
    return bytes(received)


def refused(channel: Channel, body: bytes) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        take(channel, [body])
    return caught.value.code


def cut(body: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    position = 0
    while position < len(body):
        size = next(sizes)
        yield body[position : position + size]
        position += size


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sent_arrives(
    to_workshop: Channel, to_pi: Channel, plain: Path, size: int
) -> None:
    content = random.Random(size).randbytes(size)
    made = sealer(to_workshop, plain, content)
    body = b"".join(made.batches())
    assert take(to_pi, [body]) == content
    assert len(body) == made.length
    assert len(body) - len(MAGIC) - 4 - len(made.header) == sealed_size(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("seed", range(4))
def test_where_the_network_cuts_makes_no_difference(
    to_workshop: Channel, to_pi: Channel, plain: Path, size: int, seed: int
) -> None:
    dice = random.Random(seed)
    content = dice.randbytes(size)
    body = seal(to_workshop, plain, content)
    longest = (1, 50, 5000, 100_000)[seed] if size < CHUNK else (300, 5000, 50_000, 200_000)[seed]
    pieces = cut(body, (dice.randint(0, longest) for _ in itertools.count()))
    assert take(to_pi, pieces) == content


def test_the_parameters_arrive_with_it(to_workshop: Channel, to_pi: Channel, plain: Path) -> None:
    opener = Opener(to_pi, Purpose.BUNDLE, BUNDLE_LIMIT)
    header = opener.read_header(seal(to_workshop, plain, b"bundle"))
    assert header is not None
    assert parse(BuildParameters, header.parameters) == PARAMETERS
    assert header.size == 6
    assert header.sha256 == hashlib.sha256(b"bundle").hexdigest()


def test_the_header_can_come_by_itself(to_workshop: Channel, to_pi: Channel, plain: Path) -> None:
    made = sealer(to_workshop, plain, b"bundle")
    header = open_header(to_pi, Purpose.BUNDLE, made.header, BUNDLE_LIMIT)
    assert parse(BuildParameters, header.parameters) == PARAMETERS


def test_neither_content_nor_parameters_can_be_read_on_the_way(
    to_workshop: Channel, plain: Path
) -> None:
    body = seal(to_workshop, plain, b"wifi password " * 100)
    assert b"password" not in body
    assert b"kitchen" not in body


def test_an_altered_byte_anywhere_is_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    body = seal(to_workshop, plain, b"small bundle")
    dice = random.Random(1)
    for position in range(len(body)):
        altered = bytearray(body)
        altered[position] ^= dice.randint(1, 255)
        assert refused(to_pi, bytes(altered)) in {ErrorCode.TAMPERED, ErrorCode.MALFORMED}


def test_nothing_is_given_out_of_an_altered_chunk(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    body = bytearray(seal(to_workshop, plain, bytes(3 * CHUNK)))
    body[-2 * SEALED_CHUNK + 7] ^= 1
    opener = Opener(to_pi, Purpose.BUNDLE, BUNDLE_LIMIT)
    opener.read_header(bytes(body))
    given: list[bytes] = []
    with pytest.raises(ProtocolError):
        given.extend(opener.feed(b""))
    assert given == [bytes(CHUNK)]


def test_every_truncation_of_a_small_body_is_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    body = seal(to_workshop, plain, b"small bundle")
    assert all(refused(to_pi, body[:end]) is ErrorCode.TAMPERED for end in range(len(body)))


@pytest.mark.parametrize("chunks_left", range(4))
def test_a_truncation_at_a_chunk_border_is_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path, chunks_left: int
) -> None:
    body = seal(to_workshop, plain, bytes(4 * CHUNK))
    first = len(body) - 4 * SEALED_CHUNK
    assert refused(to_pi, body[: first + chunks_left * SEALED_CHUNK]) is ErrorCode.TAMPERED


def test_chunks_in_another_order_are_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    body = seal(to_workshop, plain, bytes(4 * CHUNK))
    first = len(body) - 4 * SEALED_CHUNK
    chunks = [body[first + n * SEALED_CHUNK :][:SEALED_CHUNK] for n in range(4)]
    for order in itertools.permutations(range(4)):
        shuffled = body[:first] + b"".join(chunks[n] for n in order)
        if order == (0, 1, 2, 3):
            assert take(to_pi, [shuffled]) == bytes(4 * CHUNK)
        else:
            assert refused(to_pi, shuffled) is ErrorCode.TAMPERED


@pytest.mark.parametrize("missing", range(3))
def test_a_chunk_left_out_or_sent_twice_is_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path, missing: int
) -> None:
    body = seal(to_workshop, plain, bytes(3 * CHUNK))
    begin = len(body) - 3 * SEALED_CHUNK + missing * SEALED_CHUNK
    end = begin + SEALED_CHUNK
    assert refused(to_pi, body[:begin] + body[end:]) is ErrorCode.TAMPERED
    assert refused(to_pi, body[:end] + body[begin:]) is ErrorCode.TAMPERED


@pytest.mark.parametrize("size", [0, 5, CHUNK, 2 * CHUNK])
def test_what_follows_the_end_is_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path, size: int
) -> None:
    body = seal(to_workshop, plain, bytes(size))
    assert refused(to_pi, body + b"\0") is ErrorCode.TAMPERED
    assert refused(to_pi, body + body) is ErrorCode.TAMPERED
    with pytest.raises(ProtocolError):
        take(to_pi, [body, b"\0"])


def test_the_chunks_of_one_body_do_not_fit_the_header_of_another(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    one, other = (sealer(to_workshop, plain, bytes(100)) for _ in range(2))
    head, chunks = next(one.batches()), b"".join(other.batches())[-100 - CHUNK_OVERHEAD :]
    assert refused(to_pi, head + chunks) is ErrorCode.TAMPERED


def test_a_sender_that_lies_about_the_digest_is_noticed(
    to_workshop: Channel, to_pi: Channel, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sealer(to_workshop, plain, b"content", sha256="0" * 64)
    with monkeypatch.context() as patch:
        patch.setattr("hmac.compare_digest", lambda a, b: True)
        body = b"".join(made.batches())
    assert refused(to_pi, body) is ErrorCode.TAMPERED


@pytest.mark.parametrize("change", [b"", b"other!!", b"short", None])
def test_a_file_that_changes_while_it_is_sent_is_not_sent_to_its_end(
    to_workshop: Channel, to_pi: Channel, plain: Path, change: bytes | None
) -> None:
    made = sealer(to_workshop, plain, b"content")
    sent = []
    if change is None:
        plain.unlink()
    else:
        plain.write_bytes(change)
    with pytest.raises((ProtocolError, FileNotFoundError)):
        sent.extend(made.batches())
    assert refused(to_pi, b"".join(sent)) is ErrorCode.TAMPERED


def test_one_sealing_is_sent_once(to_workshop: Channel, plain: Path) -> None:
    made = sealer(to_workshop, plain, b"content")
    list(made.batches())
    with pytest.raises(RuntimeError):
        list(made.batches())


def test_a_known_digest_is_not_worked_out_again(to_workshop: Channel, plain: Path) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    assert sealer(to_workshop, plain, b"content", sha256=digest).sha256 == digest


def test_a_file_above_the_limit_is_not_sent(to_workshop: Channel, plain: Path) -> None:
    plain.write_bytes(bytes(101))
    with pytest.raises(ProtocolError) as caught:
        Sealer(to_workshop, Purpose.BUNDLE, plain, PARAMETERS, limit=100)
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_body_above_the_limit_is_refused_at_its_header(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    made = sealer(to_workshop, plain, bytes(101))
    opener = Opener(to_pi, Purpose.BUNDLE, limit=100)
    with pytest.raises(ProtocolError) as caught:
        opener.read_header(next(made.batches()))
    assert caught.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("length", [0, 39, HEADER_LIMIT + 1, 2**32 - 1])
def test_a_header_of_an_impossible_length_is_refused_before_it_is_read(
    to_pi: Channel, length: int
) -> None:
    opener = Opener(to_pi, Purpose.BUNDLE, BUNDLE_LIMIT)
    with pytest.raises(ProtocolError, match="impossible length"):
        opener.read_header(MAGIC + length.to_bytes(4, "big"))


def test_what_is_no_sealed_body_is_refused_at_its_first_bytes(to_pi: Channel) -> None:
    with pytest.raises(ProtocolError, match="not a sealed body"):
        Opener(to_pi, Purpose.BUNDLE, BUNDLE_LIMIT).read_header(b"PK")


def test_a_body_by_another_sender_is_refused(
    workshop: Identity, mallory: Identity, to_pi: Channel, plain: Path
) -> None:
    forged = seal(Channel(mallory, workshop.public), plain, b"content")
    assert refused(to_pi, forged) is ErrorCode.TAMPERED


def test_a_body_for_another_receiver_direction_or_purpose_is_refused(
    pi: Identity, mallory: Identity, to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    body = seal(to_workshop, plain, b"content")
    assert refused(Channel(mallory, pi.public), body) is ErrorCode.TAMPERED
    assert refused(to_workshop, body) is ErrorCode.TAMPERED
    with pytest.raises(ProtocolError):
        take(to_pi, [body], purpose=Purpose.FIRMWARE)


def test_what_follows_the_end_is_refused_at_once_not_collected(
    to_workshop: Channel, to_pi: Channel, plain: Path
) -> None:
    opener = Opener(to_pi, Purpose.BUNDLE, BUNDLE_LIMIT)
    opener.read_header(seal(to_workshop, plain, b"content"))
    assert list(opener.feed(b"")) == [b"content"]
    with pytest.raises(ProtocolError, match="follows the end"):
        list(opener.feed(b"x"))


@pytest.mark.parametrize("tag", ["TAG_FINAL", "TAG_MESSAGE"])
def test_a_sender_that_marks_the_end_in_the_wrong_place_is_noticed_there(
    to_workshop: Channel, to_pi: Channel, plain: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    made = sealer(to_workshop, plain, bytes(2 * CHUNK))
    with monkeypatch.context() as patch:
        other = {"TAG_FINAL": body.TAG_MESSAGE, "TAG_MESSAGE": body.TAG_FINAL}[tag]
        patch.setattr(body, tag, other)
        sealed = b"".join(made.batches())
    with pytest.raises(ProtocolError, match="an end in the wrong place"):
        take(to_pi, [sealed])
