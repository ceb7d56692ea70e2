"""What the handshakes and their channels refuse by themselves."""

import pytest

from custom_components.esphome_offload.engine.protocol.noise import (
    MESSAGE_BYTES,
    TAG_BYTES,
    Ciphers,
    Handshake,
    NoiseError,
)

from .ends import BUILDER, OFFLOADER


def established() -> tuple[Ciphers, Ciphers]:
    offloader = Handshake.link(OFFLOADER, BUILDER.public, b"")
    builder = Handshake.link_answer(BUILDER, b"")
    assert builder.read(offloader.write(b"first")) == b"first"
    assert offloader.read(builder.write(b"second")) == b"second"
    assert (offloader.peer, builder.peer) == (BUILDER.public, OFFLOADER.public)
    return offloader.ciphers(), builder.ciphers()


def test_the_longest_message_crosses_and_a_longer_one_does_not() -> None:
    offloader, builder = established()
    longest = bytes(MESSAGE_BYTES - TAG_BYTES)
    assert builder.decrypt(offloader.encrypt(longest)) == longest
    with pytest.raises(NoiseError):
        offloader.encrypt(bytes(MESSAGE_BYTES + 1))
    with pytest.raises(NoiseError):
        builder.decrypt(bytes(MESSAGE_BYTES + 1))


def test_a_handshake_takes_its_messages_in_order() -> None:
    offloader = Handshake.link(OFFLOADER, BUILDER.public, b"")
    with pytest.raises(NoiseError):
        offloader.read(bytes(96))
    builder = Handshake.link_answer(BUILDER, b"")
    with pytest.raises(NoiseError):
        builder.write(b"")


@pytest.mark.parametrize("length", [0, 1, 31, 32, 80, 96, 500])
def test_what_is_no_message_of_a_handshake_is_refused(length: int) -> None:
    with pytest.raises(NoiseError):
        Handshake.link_answer(BUILDER, b"").read(b"\xff" * length)
    with pytest.raises(NoiseError):
        Handshake.pairing(BUILDER, bytes(32), b"", initiator=False).read(b"\xff" * length)


def test_a_handshake_bound_to_something_else_is_refused() -> None:
    message = Handshake.link(OFFLOADER, BUILDER.public, b"one").write(b"")
    with pytest.raises(NoiseError):
        Handshake.link_answer(BUILDER, b"another").read(message)


def test_both_directions_are_encrypted_with_keys_of_their_own() -> None:
    offloader, _ = established()
    with pytest.raises(NoiseError):
        offloader.decrypt(offloader.encrypt(b"reflected"))
