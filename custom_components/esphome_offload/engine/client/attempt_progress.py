"""The progress and failures of an attempt at a peer, in the terms of jobs."""

import asyncio
from collections.abc import Mapping
from typing import Final

from ..build.model import BuildError, BuildRequest, BuildSink
from ..const import FailureReason, Stage
from ..job_log import OWN
from ..protocol.calls import CommandRefused
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.limits import BATCH_CHARACTERS, LINE_LIMIT
from ..protocol.messages import (
    AttemptEvent,
    AttemptState,
    BuildEvent,
    LinesEvent,
    ProgressEvent,
    QueueEvent,
    SentReason,
)
from ..reason import Reason, ReasonKey
from ..text import printable

_STAGES: Final[Mapping[AttemptState, Stage]] = {
    AttemptState.PREPARING: Stage.PREPARING,
    AttemptState.COMPILING: Stage.COMPILING,
    # An attempt that ended before it was attached to has compiled too.
    AttemptState.COMPLETED: Stage.COMPILING,
}

# The failures that a builder can decide. Any other is a fault of the builder itself.
_TRUSTED: Final = frozenset(
    {
        FailureReason.BUNDLE_INCOMPLETE,
        FailureReason.BUILDER_UNAVAILABLE,
        FailureReason.BUILDER_ENVIRONMENT,
        FailureReason.VERSION_UNAVAILABLE,
        FailureReason.COMPILE_FAILED,
        FailureReason.OUT_OF_MEMORY,
    }
)

_REFUSALS: Final[Mapping[ErrorCode, tuple[FailureReason, ReasonKey]]] = {
    ErrorCode.UNKNOWN_ATTEMPT: (FailureReason.BUILD_LOST, ReasonKey.PEER_LOST_BUILD),
    ErrorCode.ATTEMPT_OVER: (FailureReason.BUILD_LOST, ReasonKey.PEER_LOST_BUILD),
    ErrorCode.FIRMWARE_NOT_READY: (FailureReason.BUILD_LOST, ReasonKey.PEER_LOST_FIRMWARE),
    ErrorCode.TAMPERED: (FailureReason.BUNDLE_INCOMPLETE, ReasonKey.BUNDLE_REFUSED),
    ErrorCode.NO_SPACE: (FailureReason.BUILDER_ENVIRONMENT, ReasonKey.PEER_DISK_LOW),
    ErrorCode.TOO_LARGE: (FailureReason.BUNDLE_INCOMPLETE, ReasonKey.PEER_BUNDLE_TOO_LARGE),
    ErrorCode.NOT_LENDING: (FailureReason.BUILDER_UNAVAILABLE, ReasonKey.PEER_NOT_LENDING),
    ErrorCode.BUSY: (FailureReason.BUILDER_UNAVAILABLE, ReasonKey.PEER_BUSY),
}


class AttemptProgress:
    """The progress of an attempt at a peer; each line is handed on once, however often it is sent.

    The integration's own lines over there are marked as those of ``label``: they speak of "this
    machine", and must not pass for lines of this one.

    ``events`` counts events, ``submitted`` says that the peer may know the attempt, ``ended``
    that it has nothing more to do. ``answer`` is that to the last submit.
    """

    def __init__(self, sink: BuildSink, label: str) -> None:
        self.next_line = 0
        self.events = 0
        self.submitted = False
        self.answer: asyncio.Future[None] | None = None
        self.ended = False
        self._downloading = False
        self._sink = sink
        self._label = label

    def accept(self, event: BuildEvent) -> None:
        """Hand on an event."""
        self.events += 1
        match event:
            case AttemptEvent(state=AttemptState.COMPILING, downloading=float(percent)):
                if not self._downloading:
                    self._downloading = True
                    self._sink.stage(Stage.DOWNLOADING)
                self._sink.progress(percent)
            case AttemptEvent(state=state):
                self._downloading = False
                if (stage := _STAGES.get(state)) is not None:
                    self._sink.stage(stage)
            case QueueEvent(ahead=ahead):
                self._sink.place(ahead)
            case ProgressEvent(percent=percent):
                self._sink.progress(percent)
            case LinesEvent(first_line=first, lines=lines):
                self._accept_lines(first, lines)

    def _accept_lines(self, first: int, lines: tuple[str, ...]) -> None:
        # A builder that keeps to the protocol sends no more, and more would hold the event loop.
        if sum(map(len, lines)) > BATCH_CHARACTERS + LINE_LIMIT:
            raise ProtocolError(ErrorCode.TOO_LARGE, "too many lines at once")
        if first > self.next_line:
            self._sink.lines((f"{OWN}{first - self.next_line} lines were left out",))
        news = lines[max(0, self.next_line - first) :]
        self.next_line = max(self.next_line, first + len(lines))
        if news:
            self._sink.lines([self._from_there(printable(line, LINE_LIMIT)) for line in news])

    def _from_there(self, line: str) -> str:
        own = line.removeprefix(OWN)
        return line if own == line else f"{OWN}{self._label} says: {own}"


def failure_of(request: BuildRequest, label: str, end: AttemptEvent) -> BuildError | None:
    """Return why an attempt that has ended gave no firmware; None when it gave one."""
    if end.state is AttemptState.COMPLETED:
        return None
    reason = (end.reason or SentReason(ReasonKey.PEER_WITHOUT_REASON)).received(
        label=label,
        device=request.device_name,
        configuration=request.configuration,
        version=request.esphome_version,
    )
    if end.state is AttemptState.CANCELLED:
        stopped = Reason(ReasonKey.PEER_STOPPED_BUILD, {"label": label}, causes={label: reason})
        return BuildError(FailureReason.BUILDER_UNAVAILABLE, stopped)
    failure_reason = end.failure_reason
    if failure_reason is FailureReason.CONFIG_INVALID:
        # It was valid here a moment ago.
        refused = Reason(ReasonKey.PEER_CONFIG_REFUSED, {"label": label}, causes={label: reason})
        return BuildError(FailureReason.BUNDLE_INCOMPLETE, refused, end.exit_code)
    if failure_reason is None or failure_reason not in _TRUSTED:
        failure_reason = FailureReason.BUILDER_ENVIRONMENT
    return BuildError(failure_reason, reason, end.exit_code)


def refused(label: str, err: CommandRefused) -> BuildError:
    """Return what a refusal means for a build."""
    other = (FailureReason.BUILDER_UNAVAILABLE, ReasonKey.PEER_REFUSED)
    failure_reason, key = _REFUSALS.get(err.code, other)
    return BuildError(failure_reason, Reason(key, {"label": label}))
