"""The first two commands on a connection: both sides prove their keys for this very one."""

from dataclasses import dataclass, field
import hmac
import secrets

from ..codec import Json, encode
from .definitions import (
    LABEL_LIMIT,
    ErrorCode,
    ProtocolError,
    Role,
    clip,
)
from .greetings import (
    Hello,
    HelloAnswer,
    Prove,
    Proven,
)
from .negotiation import Agreement, Offer, negotiate_first
from .parsing import parse
from .seal import Channel, keyed_hash


@dataclass(frozen=True, slots=True)
class Session:
    """A connection on which both sides have proven their keys.

    ``label`` and ``run_id`` are the builder's; another ``run_id`` than last time means that it
    was restarted.
    """

    agreement: Agreement
    label: str
    run_id: str
    _role: Role
    _secret: bytes = field(repr=False)

    @property
    def unpair_proof(self) -> bytes:
        """What this side sends to end the pairing; worth nothing on another connection."""
        return keyed_hash(self._secret, f"unpair {self._role}")

    def is_unpair_proof(self, proof: bytes) -> bool:
        """Whether the other side really wants to end the pairing."""
        expected = keyed_hash(self._secret, f"unpair {self._role.other}")
        return hmac.compare_digest(expected, proof)


@dataclass(frozen=True, slots=True)
class _Proofs:
    """What follows from the two hellos."""

    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, channel: Channel, role: Role, hello: Hello, answer: HelloAnswer) -> _Proofs:
        own, peer = channel.own.raw, channel.peer.raw
        offloader, builder = (own, peer) if role is Role.OFFLOADER else (peer, own)
        return cls(
            keyed_hash(
                channel.mac_key("connection"),
                "connection",
                offloader,
                builder,
                hello.offer.binding(),
                hello.nonce,
                answer.offer.binding(),
                answer.nonce,
                answer.label.encode(),
                answer.run_id.encode(),
            )
        )

    def by(self, role: Role) -> bytes:
        return keyed_hash(self.secret, f"proof {role}")

    def check(self, role: Role, proof: bytes) -> None:
        if not hmac.compare_digest(self.by(role), proof):
            raise ProtocolError(ErrorCode.NOT_PROVEN, f"the {role} has not the key it is known by")


class OffloaderHandshake:
    """The offloader's side, for one connection."""

    def __init__(self, channel: Channel, offer: Offer) -> None:
        """Make this connection's nonce; ``hello`` is the first command."""
        self._channel = channel
        self._offer = offer
        self._hello = Hello(offer, secrets.token_bytes(32))
        self.hello: Json = encode(self._hello)
        self._answer: tuple[HelloAnswer, Agreement, _Proofs] | None = None

    def prove(self, raw: object) -> Json:
        """Take the answer to hello and return the second command.

        Raises ProtocolError TOO_OLD, TOO_NEW (said of the builder) or MALFORMED.
        """
        agreement = negotiate_first(self._offer, raw)
        answer = parse(HelloAnswer, raw)
        proofs = _Proofs.of(self._channel, Role.OFFLOADER, self._hello, answer)
        self._answer = (answer, agreement, proofs)
        return encode(Prove(proofs.by(Role.OFFLOADER)))

    def finish(self, raw: object) -> Session:
        """Take the answer to prove; raises ProtocolError NOT_PROVEN: close, and say so."""
        if self._answer is None:
            raise ProtocolError(ErrorCode.NOT_PROVEN, "a proof before the hello")
        answer, agreement, proofs = self._answer
        proofs.check(Role.BUILDER, parse(Proven, raw).proof)
        return Session(agreement, answer.label, answer.run_id, Role.OFFLOADER, proofs.secret)


class BuilderHandshake:
    """The builder's side, for one connection; ``channel`` is to the guest whose ticket it came by.

    Any ProtocolError ends it for good: close the connection.
    """

    def __init__(self, channel: Channel, offer: Offer, label: str, run_id: str) -> None:
        """Expect a hello."""
        self._channel = channel
        self._offer = offer
        self._label = clip(label, LABEL_LIMIT)
        self._run_id = run_id
        self._greeted: tuple[Agreement, _Proofs] | None = None
        self._over = False
        self._session: Session | None = None

    def hello(self, raw: object) -> Json:
        """Answer the first command."""
        self._step(expected=self._greeted is None)
        agreement = negotiate_first(self._offer, raw)
        hello = parse(Hello, raw)
        answer = HelloAnswer(self._offer, secrets.token_bytes(32), self._label, self._run_id)
        proofs = _Proofs.of(self._channel, Role.BUILDER, hello, answer)
        self._greeted = (agreement, proofs)
        self._over = False
        return encode(answer)

    def prove(self, raw: object) -> Json:
        """Check the second command and answer with our own proof."""
        self._step(expected=self._greeted is not None and self._session is None)
        assert self._greeted is not None  # noqa: S101 - expected above
        agreement, proofs = self._greeted
        proofs.check(Role.OFFLOADER, parse(Prove, raw).proof)
        self._session = Session(agreement, self._label, self._run_id, Role.BUILDER, proofs.secret)
        self._over = False
        return encode(Proven(proofs.by(Role.BUILDER)))

    @property
    def session(self) -> Session:
        """The proven connection; raises ProtocolError NOT_PROVEN until then."""
        if self._session is None or self._over:
            raise ProtocolError(ErrorCode.NOT_PROVEN, "this connection is not proven")
        return self._session

    def _step(self, *, expected: bool) -> None:
        """Begin a step; unless it gets to its end, no other follows."""
        over, self._over = self._over, True
        if over or not expected:
            raise ProtocolError(ErrorCode.NOT_PROVEN, "hello and prove come once, in this order")
