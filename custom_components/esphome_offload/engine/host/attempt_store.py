"""AttemptStore: the attempts of all guests, and the ids they used; survives a restart."""

from collections.abc import Mapping
from dataclasses import dataclass
import logging
import math
from typing import Annotated, Final

from ..clock import Time
from ..codec import CodecError, Json, Number, decode, encode
from ..job_log import JobLogs
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.fields import Count
from .attempt import AttemptKey, GuestAttempt, Result, Submission
from .ports import StateStore
from .used_ids import UsedAttemptIds

_LOGGER = logging.getLogger(__name__)

FORMER: Final = 5
"""Attempts of each guest whose logs are kept when the guest has the result."""


@dataclass(frozen=True, slots=True)
class _Record:
    """An attempt that has ended, in the store; ``lines`` counts what it printed.

    ``keep_for`` is for how many more seconds it is kept: a wall clock may jump.
    """

    submission: Submission
    lines: Count
    result: Result
    keep_for: Annotated[float, Number(-math.inf, math.inf)] | None = None


class AttemptStore:
    """The attempts of all guests. Use it on the event loop only.

    What is stored is encoded when it changes, not at each save: there may be hundreds of attempts.
    """

    def __init__(self, store: StateStore, logs: JobLogs, time: Time) -> None:
        self._store = store
        self._logs = logs
        self._time = time
        self._attempts: dict[AttemptKey, GuestAttempt] = {}
        self._former: dict[AttemptKey, GuestAttempt] = {}
        self._used: dict[str, UsedAttemptIds] = {}
        self._encoded: dict[AttemptKey, Json] = {}
        self._encoded_used: dict[str, Json] = {}

    async def load(self) -> None:
        """Load the attempts that had ended; what had not is lost, but its id stays used."""
        state = await self._store.load() or {}
        used = state.get("used")
        for pin_sha256, raw in used.items() if isinstance(used, Mapping) else ():
            try:
                self._used[pin_sha256] = decode(UsedAttemptIds, raw)
                self._encoded_used[pin_sha256] = raw
            except CodecError as err:
                _LOGGER.warning("The used attempt ids of a guest are damaged: %s", err)
        records = state.get("attempts")
        for raw in records if isinstance(records, list) else ():
            try:
                record = decode(_Record, raw)
            except CodecError as err:
                _LOGGER.warning("The record of a guest's build is damaged: %s", err)
                continue
            attempt = GuestAttempt(
                record.submission, self._logs, self._time, lines=record.lines, result=record.result
            )
            if record.keep_for is not None:
                attempt.keep(record.keep_for)
            self._attempts[attempt.key] = attempt
            self._encoded[attempt.key] = raw
        await self._logs.prune([key.log_id for key in self._attempts])

    async def close(self) -> None:
        """Store everything; what has not ended is lost."""
        await self._store.save_now(self._state())

    def all(self) -> tuple[GuestAttempt, ...]:
        """Return the attempts of all guests, oldest first."""
        return tuple(self._attempts.values())

    def of(self, pin_sha256: str) -> tuple[GuestAttempt, ...]:
        """Return the attempts of one guest, oldest first."""
        return tuple(each for each in self.all() if each.key.pin_sha256 == pin_sha256)

    def shown(self) -> tuple[GuestAttempt, ...]:
        """Return those that the owner of this machine can look at: also some that are forgotten."""
        return (*self._former.values(), *self._attempts.values())

    def find(self, key: AttemptKey) -> GuestAttempt | None:
        """Return an attempt that is known."""
        return self._attempts.get(key)

    def get(self, key: AttemptKey) -> GuestAttempt:
        """Return an attempt that is known; raises ProtocolError UNKNOWN_ATTEMPT."""
        attempt = self._attempts.get(key)
        if attempt is None:
            raise ProtocolError(ErrorCode.UNKNOWN_ATTEMPT, "this guest has no such attempt")
        return attempt

    def check_new(self, key: AttemptKey) -> None:
        """Raise ProtocolError (ATTEMPT_OVER, MALFORMED) unless the id was never used."""
        self._used_by(key.pin_sha256).check(key.attempt_id, self._time.now())

    async def add(self, submission: Submission) -> GuestAttempt:
        """Add an attempt; returns when its id is on disk, so that nothing starts it twice.

        Raises OSError.
        """
        key = submission.key
        self._used_by(key.pin_sha256).add(key.attempt_id, submission.at)
        self._encode_used(key.pin_sha256)
        self._logs.open(key.log_id)
        attempt = GuestAttempt(submission, self._logs, self._time)
        self._attempts[key] = attempt
        try:
            await self._store.save_durably(self._state())
        except BaseException:
            self.forget(attempt)
            raise
        return attempt

    def note_ended(self, attempt: GuestAttempt) -> None:
        """Store soon how an attempt ended."""
        if attempt.result is not None and self._attempts.get(attempt.key) is attempt:
            record = _Record(attempt.submission, attempt.lines_so_far, attempt.result)
            self._encoded[attempt.key] = encode(record)
            self._store.save_soon(self._state)

    def forget(self, attempt: GuestAttempt) -> None:
        """Drop an attempt, but not its id; its guest finds it no more.

        The last ones of each guest that have ended are shown to the owner of this machine until it
        restarts. One that never started leaves nothing.
        """
        if self._attempts.get(attempt.key) is attempt:
            del self._attempts[attempt.key]
            self._encoded.pop(attempt.key, None)
            self._logs.finish(attempt.key.log_id)
            if attempt.result is None:
                self._logs.forget([attempt.key.log_id])
            else:
                self._former[attempt.key] = attempt
                self._drop_former(attempt.key.pin_sha256, FORMER)
            self._store.save_soon(self._state)

    def _drop_former(self, pin_sha256: str, left: int) -> None:
        former = [key for key in self._former if key.pin_sha256 == pin_sha256]
        for key in former[: -left or None]:
            del self._former[key]
            self._logs.forget([key.log_id])

    def forget_guest(self, pin_sha256: str) -> None:
        """Drop everything of a guest, but the horizon of its ids: it may be paired again."""
        for attempt in self.of(pin_sha256):
            self.forget(attempt)
        self._drop_former(pin_sha256, 0)
        self._used_by(pin_sha256).drop_all()
        self._encode_used(pin_sha256)
        self._store.save_soon(self._state)

    def _used_by(self, pin_sha256: str) -> UsedAttemptIds:
        return self._used.setdefault(pin_sha256, UsedAttemptIds())

    def _encode_used(self, pin_sha256: str) -> None:
        self._encoded_used[pin_sha256] = encode(self._used_by(pin_sha256))

    def _state(self) -> Json:
        return {
            "attempts": [
                {**record, "keep_for": self._attempts[key].keep_for}
                for key, record in self._encoded.items()
            ],
            "used": dict(self._encoded_used),
        }
