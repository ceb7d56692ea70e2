import pytest

from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.negotiation import (
    Offer,
    negotiate,
    negotiate_first,
    own_offer,
)


def offer(newest: int, oldest: int, *capabilities: str) -> Offer:
    return Offer(newest, oldest, capabilities, "1.0")


@pytest.mark.parametrize(
    ("own", "other", "protocol"),
    [((1, 1), (1, 1), 1), ((3, 1), (2, 1), 2), ((2, 1), (3, 2), 2), ((3, 3), (5, 1), 3)],
)
def test_the_newest_protocol_that_both_speak_wins(own, other, protocol: int) -> None:
    assert negotiate(offer(*own), offer(*other)).protocol == protocol
    assert negotiate(offer(*other), offer(*own)).protocol == protocol


def test_sides_without_a_common_protocol_say_each_which_is_old() -> None:
    new, old = offer(5, 4), offer(3, 1)
    with pytest.raises(ProtocolError) as caught:
        negotiate(new, old)
    assert caught.value.code is ErrorCode.TOO_OLD
    with pytest.raises(ProtocolError) as caught:
        negotiate(old, new)
    assert caught.value.code is ErrorCode.TOO_NEW


def test_only_what_both_have_is_used() -> None:
    agreement = negotiate(
        offer(1, 1, "firmware_elf", "future"), offer(1, 1, "firmware_elf", "bundle_by_digest")
    )
    assert agreement.capabilities == {"firmware_elf"}


def test_an_offer_that_holds_nothing_is_malformed() -> None:
    with pytest.raises(ProtocolError) as caught:
        negotiate(offer(5, 1), offer(2, 3))
    assert caught.value.code is ErrorCode.MALFORMED


def test_a_first_message_of_a_later_protocol_is_too_new_not_malformed() -> None:
    raw = {"offer": encode(offer(9, 9)) | {"more": 1}, "entirely": "different"}
    with pytest.raises(ProtocolError) as caught:
        negotiate_first(own_offer("1.0"), raw)
    assert caught.value.code is ErrorCode.TOO_NEW
