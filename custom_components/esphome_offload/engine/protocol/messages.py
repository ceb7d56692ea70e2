"""The commands and events of an established link, both directions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from ..codec import Keyed, Many, Number, OrElse, Text
from ..const import FailureReason, Image
from ..reason import (
    LINE_LIMIT as REASON_LINE_LIMIT,
    PARAMETER_LIMIT,
    Reason,
    ReasonKey,
    reason_of_peer,
)
from .fields import (
    AttemptId,
    Configuration,
    Count,
    Digest,
    ExitCode,
    Queue,
    Version,
)
from .limits import (
    BATCH_CHARACTERS,
    BUNDLE_LIMIT,
    LINE_LIMIT,
    LINES_PER_BATCH,
    VERSIONS_LIMIT,
    WANTED_LIMIT,
    WARM_LIMIT,
)
from .payloads import BuildParameters


@dataclass(frozen=True, slots=True)
class SentReason:
    """A Reason as one side tells it to the other.

    A key that only a newer peer knows, or parameters that are missing, become
    PEER_WITHOUT_REASON; the causes of others are not sent.
    """

    key: Annotated[ReasonKey, OrElse(ReasonKey.PEER_WITHOUT_REASON)]
    parameters: Annotated[
        Mapping[Annotated[str, Text(32)], Annotated[str, Text(PARAMETER_LIMIT)]], Keyed(8)
    ] = field(default_factory=dict)
    line: Annotated[str, Text(REASON_LINE_LIMIT)] | None = None

    @classmethod
    def of(cls, reason: Reason) -> Self:
        """Return a reason as it is sent."""
        return cls(reason.key, reason.parameters, reason.line)

    def received(self, **own: str) -> Reason:
        """Return the reason as it may be shown; ``own`` are parameters known here (``label``)."""
        return reason_of_peer(self.key, self.parameters, self.line, own)


class AttemptState(StrEnum):
    """The state of a build at the builder; the last three are final."""

    QUEUED = "queued"
    PREPARING = "preparing"
    COMPILING = "compiling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will come."""
        return self in {AttemptState.COMPLETED, AttemptState.FAILED, AttemptState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Submit:
    """Offloader → builder: build what ``parameters`` say from the bundle with this digest.

    Refused with BUNDLE_NEEDED when the builder has no such bundle; a second time it changes
    nothing.
    """

    TYPE: ClassVar[str] = "build/submit"
    parameters: BuildParameters
    bundle_sha256: Digest


@dataclass(frozen=True, slots=True)
class SendBundle:
    """Offloader → builder: here is the bundle of an attempt, as the body of this command."""

    TYPE: ClassVar[str] = "build/bundle"
    attempt_id: AttemptId
    sha256: Digest
    size: Annotated[int, Number(1, BUNDLE_LIMIT)]


@dataclass(frozen=True, slots=True)
class Attach:
    """Offloader → builder: send the events of an attempt, its lines from ``from_line`` on."""

    TYPE: ClassVar[str] = "build/attach"
    attempt_id: AttemptId
    from_line: Count = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Offloader → builder: end an attempt; answered when no process of it is left."""

    TYPE: ClassVar[str] = "build/cancel"
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class Wanted:
    """Offloader → builder, after each connect: all other attempts of this guest are cancelled."""

    TYPE: ClassVar[str] = "build/wanted"
    attempt_ids: Annotated[tuple[AttemptId, ...], Many(WANTED_LIMIT)]


@dataclass(frozen=True, slots=True)
class Known:
    """Builder → offloader, the answer: the wanted attempts that it has; the others are gone."""

    attempts: Annotated[tuple[AttemptEvent, ...], Many(WANTED_LIMIT)]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Offloader → builder: send the image that was built, after a FirmwareHeader."""

    TYPE: ClassVar[str] = "build/fetch"
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class FetchImage:
    """Offloader → builder: send another file of a firmware that is kept, after an ImageHeader."""

    TYPE: ClassVar[str] = "firmware/fetch"
    configuration: Configuration
    firmware_sha256: Digest
    image: Image


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Offloader → builder: the result is kept here, forget it."""

    TYPE: ClassVar[str] = "build/ack"
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class Clean:
    """Offloader → builder: forget the build tree of a configuration.

    With ``tools`` also all tools that were downloaded for this guest.
    """

    TYPE: ClassVar[str] = "build/clean"
    configuration: Configuration
    tools: bool = False


@dataclass(frozen=True, slots=True)
class SubscribeStatus:
    """Offloader → builder: send StatusEvents, now and at each change."""

    TYPE: ClassVar[str] = "status/subscribe"


@dataclass(frozen=True, slots=True)
class Unpair:
    """Offloader → builder: forget this guest."""

    TYPE: ClassVar[str] = "unpair"


@dataclass(frozen=True, slots=True)
class AttemptEvent:
    """Builder → offloader: the state of an attempt. ``lines`` counts what it printed so far.

    ``reason`` is what people are told; it and ``failure_reason`` are set when the state is failed.
    ``downloading`` says how far the tools of the build are downloaded, while they are.
    """

    TYPE: ClassVar[str] = "attempt"
    attempt_id: AttemptId
    state: AttemptState
    lines: Count = 0
    failure_reason: Annotated[FailureReason, OrElse(FailureReason.INTERNAL)] | None = None
    reason: SentReason | None = None
    exit_code: ExitCode | None = None
    downloading: Annotated[float, Number(0, 100)] | None = None


@dataclass(frozen=True, slots=True)
class LinesEvent:
    """Builder → offloader: neighbouring output lines, the first numbered ``first_line`` (from 0).

    ``first_line`` is beyond the last batch's end where the log was too long to be kept.
    """

    TYPE: ClassVar[str] = "lines"
    attempt_id: AttemptId
    first_line: Count
    lines: Annotated[tuple[Annotated[str, Text(LINE_LIMIT, free=True)], ...], Many(LINES_PER_BATCH)]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Builder → offloader: how far the compile is, 0 to 100."""

    TYPE: ClassVar[str] = "progress"
    attempt_id: AttemptId
    percent: Annotated[float, Number(0, 100)]


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """Builder → offloader: how many builds are before this attempt."""

    TYPE: ClassVar[str] = "queue"
    attempt_id: AttemptId
    ahead: Count


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """Builder → offloader: what the builder can do now.

    ``warm`` is about this guest's trees, ``ccache_hits`` of ``ccache_files`` about its compiler
    cache since the builder's start.
    """

    TYPE: ClassVar[str] = "status"
    available: bool
    slots: Queue
    busy: Queue
    queue_length: Queue
    why_not: SentReason | None = None
    versions: Annotated[tuple[Version, ...], Many(VERSIONS_LIMIT)] = ()
    warm: Annotated[tuple[Configuration, ...], Many(WARM_LIMIT)] = ()
    memory_mib: Count | None = None
    disk_mib: Count | None = None
    ccache: bool = False
    ccache_hits: Count = 0
    ccache_files: Count = 0


@dataclass(frozen=True, slots=True)
class UnpairedEvent:
    """Builder → offloader, on the status subscription: this guest was removed."""

    TYPE: ClassVar[str] = "unpaired"


type BuildEvent = AttemptEvent | LinesEvent | ProgressEvent | QueueEvent
type LinkEvent = StatusEvent | UnpairedEvent

COMMANDS: Final = (
    Submit,
    SendBundle,
    Fetch,
    FetchImage,
    Attach,
    Cancel,
    Wanted,
    Acknowledge,
    Clean,
    SubscribeStatus,
    Unpair,
)
BUILD_EVENTS: Final = (AttemptEvent, LinesEvent, ProgressEvent, QueueEvent)
LINK_EVENTS: Final = (StatusEvent, UnpairedEvent)


def line_batches(attempt_id: str, first_line: int, lines: Sequence[str]) -> Iterator[LinesEvent]:
    """Cut neighbouring lines into messages that keep the limits; a long line loses its end."""
    batch: list[str] = []
    characters = 0
    for line in lines:
        sendable = line[:LINE_LIMIT].encode(errors="replace").decode()
        full = len(batch) == LINES_PER_BATCH or characters + len(sendable) > BATCH_CHARACTERS
        if batch and full:
            yield LinesEvent(attempt_id, first_line, tuple(batch))
            first_line += len(batch)
            batch, characters = [], 0
        batch.append(sendable)
        characters += len(sendable)
    if batch:
        yield LinesEvent(attempt_id, first_line, tuple(batch))
