import itertools

import pytest

from custom_components.esphome_offload.engine.protocol.definitions import (
    SEALED_OVERHEAD,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose, keyed_hash


def refused(channel: Channel, purpose: Purpose, sealed: bytes) -> bool:
    with pytest.raises(ProtocolError) as caught:
        channel.open(purpose, sealed)
    return caught.value.code is ErrorCode.TAMPERED


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_the_peer_reads_what_was_sealed(to_workshop: Channel, to_pi: Channel, size: int) -> None:
    sealed = to_workshop.seal(Purpose.BUNDLE, bytes(size))
    assert to_pi.open(Purpose.BUNDLE, sealed) == bytes(size)
    assert len(sealed) == size + SEALED_OVERHEAD


def test_it_never_looks_the_same_twice(to_workshop: Channel) -> None:
    sealed = {to_workshop.seal(Purpose.BUNDLE, b"same") for _ in range(10)}
    assert len(sealed) == 10


def test_the_sender_cannot_be_shown_its_own_message(to_workshop: Channel) -> None:
    assert refused(to_workshop, Purpose.BUNDLE, to_workshop.seal(Purpose.BUNDLE, b"x"))


@pytest.mark.parametrize(("sealed_for", "opened_as"), itertools.permutations(Purpose, 2))
def test_it_opens_for_its_purpose_only(
    to_workshop: Channel, to_pi: Channel, sealed_for: Purpose, opened_as: Purpose
) -> None:
    assert refused(to_pi, opened_as, to_workshop.seal(sealed_for, b"x"))


def test_every_altered_bit_is_noticed(to_workshop: Channel, to_pi: Channel) -> None:
    sealed = to_workshop.seal(Purpose.BUNDLE, b"build this")
    for position in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[position // 8] ^= 1 << position % 8
        assert refused(to_pi, Purpose.BUNDLE, bytes(altered))


def test_every_shorter_or_longer_one_is_noticed(to_workshop: Channel, to_pi: Channel) -> None:
    sealed = to_workshop.seal(Purpose.BUNDLE, b"build this")
    for length in range(len(sealed)):
        assert refused(to_pi, Purpose.BUNDLE, sealed[:length])
    assert refused(to_pi, Purpose.BUNDLE, sealed + b"\0")


def test_another_sender_is_noticed(workshop: Identity, mallory: Identity, to_pi: Channel) -> None:
    assert refused(
        to_pi, Purpose.BUNDLE, Channel(mallory, workshop.public).seal(Purpose.BUNDLE, b"x")
    )


def test_it_is_for_one_receiver(pi: Identity, mallory: Identity, to_workshop: Channel) -> None:
    sealed = to_workshop.seal(Purpose.BUNDLE, b"x")
    assert refused(Channel(mallory, pi.public), Purpose.BUNDLE, sealed)


def test_no_channel_to_ourselves(pi: Identity) -> None:
    with pytest.raises(ProtocolError) as caught:
        Channel(pi, pi.public)
    assert caught.value.code is ErrorCode.SAME_IDENTITY


def test_both_sides_have_the_same_mac_key_and_one_for_each_context(
    to_workshop: Channel, to_pi: Channel, mallory: Identity, workshop: Identity
) -> None:
    assert to_workshop.mac_key("a") == to_pi.mac_key("a")
    assert to_workshop.mac_key("a") != to_pi.mac_key("b")
    assert to_workshop.mac_key("a") != Channel(mallory, workshop.public).mac_key("a")


def test_no_two_lists_of_parts_have_the_same_hash() -> None:
    lists = [
        ("c",), ("c", b""), ("c", b"", b""), ("c", b"a"), ("c", b"ab"), ("c", b"a", b"b"),
        ("c", b"b", b"a"), ("ca", b"b"), ("cab",), ("c", b"\0" * 8), ("c", b"\0" * 16),
    ]  # fmt: skip
    hashes = {keyed_hash(b"k" * 32, each[0], *each[1:]) for each in lists}
    assert len(hashes) == len(lists)
    assert keyed_hash(b"k" * 32, "c") != keyed_hash(b"l" * 32, "c")
