"""GuestAttempt: one build for a guest, what is known of it, and who listens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, override

from ..build.model import BuildSink
from ..clock import Time
from ..const import FailureReason, Stage
from ..job_log import JobLogs
from ..protocol.limits import ERROR_LIMIT
from ..protocol.messages import AttemptEvent, AttemptState
from ..protocol.payloads import BuildParameters

TELL_EVERY: Final = 0.1
"""Seconds; what is printed or done in between is told at once, changes of the state right away."""
TELL_AT: Final = 64 * 1024
"""Characters that are told right away: a log keeps no more than 320 KiB of its end."""

_STATES: Final = {
    Stage.PREPARING: AttemptState.PREPARING,
    Stage.COMPILING: AttemptState.COMPILING,
}


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended; ``firmware_sha256`` is set when it is completed."""

    state: AttemptState
    at: datetime
    firmware_sha256: str | None = None
    failure_reason: FailureReason | None = None
    error: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """What names an attempt: ids are chosen by guests, and two may choose the same."""

    pin_sha256: str
    attempt_id: str

    @property
    def log_id(self) -> str:
        """The name of its log."""
        return f"{self.pin_sha256[:32]}-{self.attempt_id}"


@dataclass(frozen=True, slots=True)
class Submission:
    """What was submitted; ``sha256`` is the bundle's."""

    key: AttemptKey
    sha256: str
    parameters: BuildParameters
    at: datetime


class GuestAttempt(BuildSink):
    """Takes what the builder reports, until the attempt has ended.

    Listeners are only woken; they look for themselves, at their own pace.
    """

    def __init__(
        self,
        order: Submission,
        logs: JobLogs,
        time: Time,
        *,
        lines: int = 0,
        result: Result | None = None,
    ) -> None:
        """Begin as queued, or as what is known of an ended one."""
        self.order = order
        self.key = order.key
        self.lines_so_far = lines
        self.percent: float | None = None
        self.ahead: int | None = None
        self.result = result
        self.on_attended: Callable[[bool], None] | None = None
        self._state = AttemptState.QUEUED
        self._logs = logs
        self._time = time
        self._listeners: list[Callable[[], None]] = []
        self._told_at: datetime | None = None
        self._untold = 0
        self._timer: Callable[[], None] | None = None
        self._silent = False

    @property
    def state(self) -> AttemptState:
        """Where the attempt stands."""
        return self._state if self.result is None else self.result.state

    @property
    def attended(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def event(self) -> AttemptEvent:
        """Return the attempt as it stands."""
        result = self.result
        return AttemptEvent(
            attempt_id=self.key.attempt_id,
            state=self.state,
            lines=self.lines_so_far,
            failure_reason=result.failure_reason if result else None,
            error=result.error if result else None,
            exit_code=result.exit_code if result else None,
        )

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Have ``listener`` called when there may be something new."""
        self._listeners.append(listener)
        self._attended()
        try:
            yield
        finally:
            self._listeners.remove(listener)
            self._attended()

    def queued(self, ahead: int) -> None:
        """Note how many waiting builds come before this one."""
        self.ahead = ahead
        self._tell()

    @override
    def stage(self, stage: Stage) -> None:
        """Move on; what follows the compile is over in a moment and has no state of its own."""
        state = _STATES.get(stage)
        if self.result is None and state is not None and state is not self._state:
            self._state = state
            self.ahead = None
            self.percent = None
            self._tell()

    @override
    def progress(self, percent: float) -> None:
        """Note how far the compile is."""
        percent = float(round(min(max(percent, 0.0), 100.0)))
        if self.result is None and percent != self.percent:
            self.percent = percent
            self._tell_soon()

    @override
    def lines(self, lines: Sequence[str]) -> None:
        """Add to the log."""
        if self.result is None and lines:
            self._logs.append(self.key.log_id, lines)
            self.lines_so_far += len(lines)
            self._untold += sum(map(len, lines))
            if self._untold >= TELL_AT:
                self._tell()
            else:
                self._tell_soon()

    def complete(self, firmware_sha256: str, at: datetime) -> None:
        """End well."""
        self._end(Result(AttemptState.COMPLETED, at, firmware_sha256=firmware_sha256))

    def fail(
        self, reason: FailureReason, error: str, at: datetime, exit_code: int | None = None
    ) -> None:
        """End without firmware."""
        if exit_code is not None and not -1024 <= exit_code <= 1024:
            exit_code = None
        sendable = error.encode(errors="replace").decode()[:ERROR_LIMIT]
        self._end(
            Result(
                AttemptState.FAILED,
                at,
                failure_reason=reason,
                error=sendable,
                exit_code=exit_code,
            )
        )

    def cancel(self, why: str, at: datetime) -> None:
        """End because nobody wants it, or nobody may have it, any more."""
        self._end(Result(AttemptState.CANCELLED, at, error=why))

    def silence(self) -> None:
        """Tell nobody anything any more: this machine stops."""
        self._silent = True
        self._drop_timer()

    def _end(self, result: Result) -> None:
        if self.result is not None:
            raise ValueError(f"{self.key} has ended before, as {self.result.state}")
        self.result = result
        self.ahead = None
        self._logs.finish(self.key.log_id)
        self._tell()

    def _tell(self) -> None:
        self._drop_timer()
        self._told_at = self._time.now()
        self._untold = 0
        for listener in tuple(self._listeners):
            listener()

    def _tell_soon(self) -> None:
        if self._timer is not None or not self._listeners or self._silent:
            return
        quiet = TELL_EVERY
        if self._told_at is not None:
            quiet = (self._time.now() - self._told_at).total_seconds()
        # A clock that was set back must not make a long silence of it.
        if 0 <= quiet < TELL_EVERY:
            self._timer = self._time.call_later(TELL_EVERY - quiet, self._timer_over)
        else:
            self._tell()

    def _timer_over(self) -> None:
        self._timer = None
        self._tell()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer()
            self._timer = None

    def _attended(self) -> None:
        if self.on_attended is not None:
            self.on_attended(self.attended)
