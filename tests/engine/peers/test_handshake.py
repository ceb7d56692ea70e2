import base64

import pytest

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.handshake import (
    BuilderHandshake,
    OffloaderHandshake,
    Session,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.seal import Channel

RUN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def offloader(to_workshop: Channel, offer: Offer) -> OffloaderHandshake:
    return OffloaderHandshake(to_workshop, offer)


@pytest.fixture
def builder(to_pi: Channel, offer: Offer) -> BuilderHandshake:
    return BuilderHandshake(to_pi, offer, "workshop", RUN)


def shake(offloader: OffloaderHandshake, builder: BuilderHandshake) -> tuple[Session, Session]:
    prove = offloader.prove(builder.hello(offloader.hello))
    session = offloader.finish(builder.prove(prove))
    return session, builder.session


def code_of(caught: pytest.ExceptionInfo[ProtocolError]) -> ErrorCode:
    return caught.value.code


def flipped(raw: Json, name: str) -> Json:
    blob = bytearray(base64.b64decode(str(raw[name])))
    blob[0] ^= 1
    return raw | {name: base64.b64encode(blob).decode()}


def test_two_that_have_their_keys_come_to_a_session(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    here, there = shake(offloader, builder)
    assert (here.label, here.run_id) == ("workshop", RUN)
    assert here.agreement == there.agreement


def test_until_the_proof_there_is_no_session(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    with pytest.raises(ProtocolError) as caught:
        _ = builder.session
    assert code_of(caught) is ErrorCode.NOT_PROVEN
    prove = offloader.prove(builder.hello(offloader.hello))
    with pytest.raises(ProtocolError):
        _ = builder.session
    builder.prove(prove)
    assert builder.session.run_id == RUN


def test_a_ticket_without_the_key_is_worth_nothing(
    mallory: Identity, workshop: Identity, offer: Offer, builder: BuilderHandshake
) -> None:
    thief = OffloaderHandshake(Channel(mallory, workshop.public), offer)
    prove = thief.prove(builder.hello(thief.hello))
    with pytest.raises(ProtocolError) as caught:
        builder.prove(prove)
    assert code_of(caught) is ErrorCode.NOT_PROVEN
    with pytest.raises(ProtocolError):
        _ = builder.session


def test_one_wrong_proof_and_the_connection_is_over(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    prove = offloader.prove(builder.hello(offloader.hello))
    with pytest.raises(ProtocolError):
        builder.prove(flipped(prove, "proof"))
    with pytest.raises(ProtocolError, match="once"):
        builder.prove(prove)
    with pytest.raises(ProtocolError):
        _ = builder.session


def test_a_builder_without_the_key_is_noticed(
    pi: Identity, mallory: Identity, offer: Offer, offloader: OffloaderHandshake
) -> None:
    false = BuilderHandshake(Channel(mallory, pi.public), offer, "workshop", RUN)
    prove = offloader.prove(false.hello(offloader.hello))
    with pytest.raises(ProtocolError):
        false.prove(prove)
    with pytest.raises(ProtocolError) as caught:
        offloader.finish(prove)
    assert code_of(caught) is ErrorCode.NOT_PROVEN


def test_a_proof_from_another_connection_is_worth_nothing(
    to_workshop: Channel, to_pi: Channel, offer: Offer
) -> None:
    first = OffloaderHandshake(to_workshop, offer)
    there = BuilderHandshake(to_pi, offer, "workshop", RUN)
    recorded_answer = there.hello(first.hello)
    recorded = first.prove(recorded_answer)
    recorded_proven = there.prove(recorded)

    other = BuilderHandshake(to_pi, offer, "workshop", RUN)
    other.hello(first.hello)
    with pytest.raises(ProtocolError) as caught:
        other.prove(recorded)
    assert code_of(caught) is ErrorCode.NOT_PROVEN

    again = OffloaderHandshake(to_workshop, offer)
    again.prove(recorded_answer)
    with pytest.raises(ProtocolError) as caught:
        again.finish(recorded_proven)
    assert code_of(caught) is ErrorCode.NOT_PROVEN


def test_the_offloaders_own_proof_proves_nothing_to_it(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    prove = offloader.prove(builder.hello(offloader.hello))
    with pytest.raises(ProtocolError) as caught:
        offloader.finish(prove)
    assert code_of(caught) is ErrorCode.NOT_PROVEN


def test_swapped_roles_do_not_fit(to_workshop: Channel, to_pi: Channel, offer: Offer) -> None:
    """The guest of one connection cannot be the builder of another with the same two keys."""
    one = OffloaderHandshake(to_workshop, offer)
    other = OffloaderHandshake(to_pi, offer)
    as_answer = {"label": "workshop", "run_id": RUN}
    proof_of_one = one.prove(other.hello | as_answer)
    proof_of_other = other.prove(one.hello | as_answer)
    for side, proof in ((one, proof_of_other), (other, proof_of_one)):
        with pytest.raises(ProtocolError) as caught:
            side.finish(proof)
        assert code_of(caught) is ErrorCode.NOT_PROVEN


@pytest.mark.parametrize(
    "change",
    [
        {"label": "bank"},
        {"run_id": RUN[::-1]},
        {"offer": {"protocol": 1, "oldest_protocol": 1, "capabilities": [], "version": "0.1.0"}},
    ],
    ids=["label", "run", "capabilities"],
)
def test_whatever_is_altered_in_the_answer_is_noticed(
    offloader: OffloaderHandshake, builder: BuilderHandshake, change: Json
) -> None:
    prove = offloader.prove(builder.hello(offloader.hello) | change)
    with pytest.raises(ProtocolError) as caught:
        builder.prove(prove)
    assert code_of(caught) is ErrorCode.NOT_PROVEN


def test_an_altered_nonce_is_noticed(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    prove = offloader.prove(builder.hello(flipped(offloader.hello, "nonce")))
    with pytest.raises(ProtocolError):
        builder.prove(prove)


def test_capabilities_taken_out_of_the_hello_are_noticed(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    weaker = {"protocol": 1, "oldest_protocol": 1, "capabilities": [], "version": "0.1.0"}
    prove = offloader.prove(builder.hello(offloader.hello | {"offer": weaker}))
    with pytest.raises(ProtocolError):
        builder.prove(prove)


@pytest.mark.parametrize("steps", [["prove"], ["hello", "hello"], ["hello", "prove", "prove"],
                                   ["hello", "prove", "hello"]])  # fmt: skip
def test_hello_and_prove_come_once_and_in_order(
    offloader: OffloaderHandshake, builder: BuilderHandshake, steps: list[str]
) -> None:
    prove: Json = {"proof": base64.b64encode(bytes(32)).decode()}
    *good, last = steps
    for step in good:
        if step == "hello":
            prove = offloader.prove(builder.hello(offloader.hello))
        else:
            builder.prove(prove)
    with pytest.raises(ProtocolError) as caught:
        builder.hello(offloader.hello) if last == "hello" else builder.prove(prove)
    assert code_of(caught) is ErrorCode.NOT_PROVEN
    with pytest.raises(ProtocolError):
        _ = builder.session


def test_a_malformed_hello_ends_it(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    with pytest.raises(ProtocolError) as caught:
        builder.hello({"type": "esphome_offload/hello"})
    assert code_of(caught) is ErrorCode.MALFORMED
    with pytest.raises(ProtocolError):
        builder.hello(offloader.hello)


def test_the_offloader_needs_the_hello_first(offloader: OffloaderHandshake) -> None:
    with pytest.raises(ProtocolError) as caught:
        offloader.finish({"proof": base64.b64encode(bytes(32)).decode()})
    assert code_of(caught) is ErrorCode.NOT_PROVEN


def test_sides_too_far_apart_say_which_is_old(to_workshop: Channel, to_pi: Channel) -> None:
    old, new = Offer(1, 1, (), "a"), Offer(5, 4, (), "b")
    with pytest.raises(ProtocolError) as caught:
        BuilderHandshake(to_pi, new, "w", RUN).hello(OffloaderHandshake(to_workshop, old).hello)
    assert code_of(caught) is ErrorCode.TOO_OLD
    with pytest.raises(ProtocolError) as caught:
        BuilderHandshake(to_pi, old, "w", RUN).hello(OffloaderHandshake(to_workshop, new).hello)
    assert code_of(caught) is ErrorCode.TOO_NEW


def test_each_side_can_end_the_pairing_and_only_the_other_believes_it(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    here, there = shake(offloader, builder)
    assert there.is_unpair_proof(here.unpair_proof)
    assert here.is_unpair_proof(there.unpair_proof)
    assert not here.is_unpair_proof(here.unpair_proof)
    assert not there.is_unpair_proof(bytes(32))


def test_the_end_of_a_pairing_cannot_be_recorded_for_another_connection(
    to_workshop: Channel, to_pi: Channel, offer: Offer
) -> None:
    sessions = [
        shake(OffloaderHandshake(to_workshop, offer), BuilderHandshake(to_pi, offer, "w", RUN))
        for _ in range(2)
    ]
    assert not sessions[1][1].is_unpair_proof(sessions[0][0].unpair_proof)


def test_secrets_are_not_in_the_repr(
    offloader: OffloaderHandshake, builder: BuilderHandshake
) -> None:
    here, _ = shake(offloader, builder)
    assert repr(here._secret) not in repr(here)
