"""GuestAttempt: a build for a guest, with its state and its listeners."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, override

from ..build.model import BuildSink
from ..clock import Time
from ..const import FailureReason, Stage
from ..job_log import JobLogs
from ..listeners import Listeners
from ..protocol.fields import EXIT_CODE_LIMIT, AttemptId, Digest, ExitCode
from ..protocol.messages import AttemptEvent, AttemptState, SentReason
from ..protocol.payloads import BuildParameters
from ..reason import Reason

NOTIFY_INTERVAL: Final = 0.5
"""Seconds; output and progress in between is sent together, a change of the state at once."""
NOTIFY_CHARACTERS: Final = 64 * 1024
"""Output that is sent at once: a log keeps no more than 320 KiB of its end."""

_STATES: Final = {
    Stage.PREPARING: AttemptState.PREPARING,
    Stage.DOWNLOADING: AttemptState.COMPILING,
    Stage.COMPILING: AttemptState.COMPILING,
}


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an attempt; ``firmware_sha256`` is set when it is completed."""

    state: AttemptState
    at: datetime
    firmware_sha256: Digest | None = None
    failure_reason: FailureReason | None = None
    reason: Reason | None = None
    exit_code: ExitCode | None = None


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """The key of an attempt: ids are chosen by guests, and two may choose the same."""

    pin_sha256: Digest
    attempt_id: AttemptId

    @property
    def log_id(self) -> str:
        """The name of its log."""
        return f"{self.pin_sha256[:32]}-{self.attempt_id}"


@dataclass(frozen=True, slots=True)
class Submission:
    """A submitted build; ``sha256`` is the bundle's."""

    key: AttemptKey
    sha256: Digest
    parameters: BuildParameters
    at: datetime


class GuestAttempt(BuildSink):
    """A build for a guest, which takes what the builder reports until it has ended.

    Listeners are only woken; they read the attempt at their own pace.
    """

    def __init__(
        self,
        submission: Submission,
        logs: JobLogs,
        time: Time,
        *,
        lines: int = 0,
        result: Result | None = None,
    ) -> None:
        self.submission = submission
        self.key = submission.key
        self.lines_so_far = lines
        self.percent: float | None = None
        self.downloading: float | None = None
        """How far the tools are downloaded, while they are; the percent is that of the compile."""
        self.ahead: int | None = None
        self.result = result
        self.attached_changed = Listeners[[]]()
        self.state_changed = Listeners[[]]()
        self._keep_until: float | None = None
        self._state = AttemptState.QUEUED
        self._logs = logs
        self._time = time
        self._listeners = Listeners[[]]()
        self._watchers = Listeners[[]]()
        self._notified_at: float | None = None
        self._unsent_characters = 0
        self._cancel_timer: Callable[[], None] | None = None
        self._stopped = False

    @override
    def __str__(self) -> str:
        """Return what names it in the log."""
        name = self.submission.parameters.configuration
        return f"{name} of guest {self.key.pin_sha256[:16]}, attempt {self.key.attempt_id}"

    @property
    def state(self) -> AttemptState:
        """Where the attempt stands."""
        return self._state if self.result is None else self.result.state

    @property
    def keep_for(self) -> float | None:
        """For how many more seconds an attempt that has ended is kept."""
        return None if self._keep_until is None else self._keep_until - self._time.monotonic()

    def keep(self, seconds: float) -> None:
        """Set for how long an attempt that has ended is kept."""
        self._keep_until = self._time.monotonic() + seconds

    @property
    def attached(self) -> bool:
        """Whether a guest follows it."""
        return bool(self._listeners)

    def event(self) -> AttemptEvent:
        """Return the attempt as it stands."""
        result = self.result
        return AttemptEvent(
            attempt_id=self.key.attempt_id,
            state=self.state,
            lines=self.lines_so_far,
            failure_reason=result.failure_reason if result else None,
            reason=SentReason.of(result.reason) if result and result.reason else None,
            exit_code=result.exit_code if result else None,
            downloading=None if result else self.downloading,
        )

    @contextmanager
    def attach(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener`` when there may be something new, for as long as the context lasts."""
        unsubscribe = self._listeners.subscribe(listener)
        self.attached_changed.notify()
        try:
            yield
        finally:
            unsubscribe()
            self.attached_changed.notify()

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` likewise, for the owner of this machine; returns unsubscribe."""
        return self._watchers.subscribe(listener)

    @override
    def place(self, ahead: int) -> None:
        """Note how many waiting builds come before this one."""
        self.ahead = ahead
        self._notify()

    @override
    def stage(self, stage: Stage) -> None:
        """Enter a stage; what follows the compile takes a moment and has no state of its own."""
        state = _STATES.get(stage)
        downloading = 0.0 if stage is Stage.DOWNLOADING else None
        if self.result is not None or state is None:
            return
        if state is not self._state or (downloading is None) is not (self.downloading is None):
            changed, self._state = state is not self._state, state
            self.ahead = None
            self.percent = None
            self.downloading = downloading
            self._notify()
            if changed:
                self.state_changed.notify()

    @override
    def progress(self, percent: float) -> None:
        """Note how far the compile, or the download of its tools, is."""
        percent = float(round(min(max(percent, 0.0), 100.0)))
        if self.result is not None:
            return
        if self.downloading is not None:
            changed, self.downloading = percent != self.downloading, percent
        else:
            changed, self.percent = percent != self.percent, percent
        if changed:
            self._notify_soon()

    @override
    def lines(self, lines: Sequence[str]) -> None:
        """Add to the log."""
        if self.result is None and lines:
            self._logs.append(self.key.log_id, lines)
            self.lines_so_far += len(lines)
            self._unsent_characters += sum(map(len, lines))
            if self._unsent_characters >= NOTIFY_CHARACTERS:
                self._notify()
            else:
                self._notify_soon()

    def complete(self, firmware_sha256: str, at: datetime) -> None:
        """End with a firmware."""
        self._end(Result(AttemptState.COMPLETED, at, firmware_sha256=firmware_sha256))

    def fail(
        self,
        failure_reason: FailureReason,
        reason: Reason,
        at: datetime,
        exit_code: int | None = None,
    ) -> None:
        """End without firmware."""
        if exit_code is not None and abs(exit_code) > EXIT_CODE_LIMIT:
            exit_code = None
        self._end(
            Result(
                AttemptState.FAILED,
                at,
                failure_reason=failure_reason,
                reason=reason,
                exit_code=exit_code,
            )
        )

    def cancel(self, why: Reason, at: datetime) -> None:
        """End because it is not wanted, or not allowed, any more."""
        self._end(Result(AttemptState.CANCELLED, at, reason=why))

    def stop(self) -> None:
        """Notify no more: this machine stops."""
        self._stopped = True
        self._drop_timer()

    def _end(self, result: Result) -> None:
        if self.result is not None:
            raise ValueError(f"{self.key} has ended already, as {self.result.state}")
        self.result = result
        self.ahead = None
        self._logs.finish(self.key.log_id)
        self._notify()

    def _notify(self) -> None:
        self._drop_timer()
        self._notified_at = self._time.monotonic()
        self._unsent_characters = 0
        self._listeners.notify()
        self._watchers.notify()

    def _notify_soon(self) -> None:
        heard = self._listeners or self._watchers
        if self._cancel_timer is not None or not heard or self._stopped:
            return
        since = NOTIFY_INTERVAL
        if self._notified_at is not None:
            since = self._time.monotonic() - self._notified_at
        if since < NOTIFY_INTERVAL:
            self._cancel_timer = self._time.call_later(NOTIFY_INTERVAL - since, self._timer_over)
        else:
            self._notify()

    def _timer_over(self) -> None:
        self._cancel_timer = None
        self._notify()

    def _drop_timer(self) -> None:
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None
