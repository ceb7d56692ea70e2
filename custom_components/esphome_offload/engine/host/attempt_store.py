"""AttemptBook: the attempts of all guests, and those that there were; survives a restart."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
import logging
from typing import cast

from ..clock import Time
from ..codec import encode
from ..const import FailureReason
from ..job_log import JobLogs
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.messages import AttemptState
from ..protocol.parsing import parse
from ..protocol.payloads import BuildParameters
from .attempt import (
    AttemptKey,
    GuestAttempt,
    Result,
    Submission,
)
from .ports import StateStore
from .used_ids import UsedAttemptIds

_LOGGER = logging.getLogger(__name__)

_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, ProtocolError)


class AttemptStore:
    """What is known of guests' attempts. Use it on the event loop only."""

    def __init__(self, store: StateStore, logs: JobLogs, time: Time) -> None:
        """Know of nothing before ``load``."""
        self._store = store
        self._logs = logs
        self._time = time
        self._attempts: dict[AttemptKey, GuestAttempt] = {}
        self._seen: dict[str, UsedAttemptIds] = {}

    async def load(self) -> None:
        """Take up the attempts that had ended; those that had not are over, and known to be."""
        state = await self._store.load() or {}
        for pin_sha256, record in _items(state.get("seen")):
            try:
                self._seen[pin_sha256] = _decode_seen(record)
            except _DAMAGED:
                _LOGGER.warning("What guest %s has built is not known any more", pin_sha256)
        attempts = state.get("attempts")
        for record in attempts if isinstance(attempts, list) else ():
            try:
                order, lines, result = _decode(record)
            except _DAMAGED:
                _LOGGER.warning("The record of a guest's build is damaged and left out")
                continue
            if result is not None:
                attempt = GuestAttempt(order, self._logs, self._time, lines=lines, result=result)
                self._attempts[order.key] = attempt
        await self._logs.prune([key.log_id for key in self._attempts])

    async def close(self) -> None:
        """Store all."""
        await self._store.save_now(self._state())

    def all(self) -> tuple[GuestAttempt, ...]:
        """Return the attempts of all guests, oldest first."""
        return tuple(self._attempts.values())

    def of(self, pin_sha256: str) -> tuple[GuestAttempt, ...]:
        """Return the attempts of one guest, oldest first."""
        return tuple(each for each in self.all() if each.key.pin_sha256 == pin_sha256)

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
        self._seen_by(key.pin_sha256).check(key.attempt_id, self._time.now())

    async def begin(self, order: Submission) -> GuestAttempt:
        """Add an attempt; returns when its id is on disk, so that nothing starts it once more.

        Raises OSError.
        """
        self._seen_by(order.key.pin_sha256).add(order.key.attempt_id, order.at)
        self._logs.open(order.key.log_id)
        attempt = GuestAttempt(order, self._logs, self._time)
        self._attempts[order.key] = attempt
        try:
            await self._store.save_durably(self._state())
        except BaseException:
            self.forget(attempt)
            raise
        return attempt

    def changed(self) -> None:
        """Store soon how an attempt ended."""
        self._store.save_soon(self._state)

    def forget(self, attempt: GuestAttempt) -> None:
        """Drop an attempt and its log, but not that there was one."""
        if self._attempts.get(attempt.key) is attempt:
            del self._attempts[attempt.key]
            self._logs.finish(attempt.key.log_id)
            self._logs.forget([attempt.key.log_id])
            self._store.save_soon(self._state)

    def forget_guest(self, pin_sha256: str) -> None:
        """Drop all of a guest, but not what keeps replays out should it be paired again."""
        for attempt in self.of(pin_sha256):
            self.forget(attempt)
        self._seen_by(pin_sha256).forget_all()
        self._store.save_soon(self._state)

    def _seen_by(self, pin_sha256: str) -> UsedAttemptIds:
        return self._seen.setdefault(pin_sha256, UsedAttemptIds())

    def _state(self) -> dict[str, object]:
        return {
            "attempts": [_encode(attempt) for attempt in self._attempts.values()],
            "seen": {pin_sha256: _encode_seen(seen) for pin_sha256, seen in self._seen.items()},
        }


def _items(raw: object) -> Iterable[tuple[str, object]]:
    return cast("dict[str, object]", raw).items() if isinstance(raw, dict) else ()


def _encode(attempt: GuestAttempt) -> dict[str, object]:
    order, result = attempt.order, attempt.result
    return {
        "pin_sha256": order.key.pin_sha256,
        "sha256": order.sha256,
        "parameters": encode(order.parameters),
        "at": order.at.isoformat(),
        "lines": attempt.lines_so_far,
        "result": None
        if result is None
        else {
            "state": result.state.value,
            "at": result.at.isoformat(),
            "firmware_sha256": result.firmware_sha256,
            "failure_reason": result.failure_reason,
            "error": result.error,
            "exit_code": result.exit_code,
        },
    }


def _decode(record: dict[str, object]) -> tuple[Submission, int, Result | None]:
    parameters = parse(BuildParameters, record["parameters"])
    key = AttemptKey(str(record["pin_sha256"]), parameters.attempt_id)
    order = Submission(key, str(record["sha256"]), parameters, _moment(record["at"]))
    raw = record["result"]
    return order, int(str(record["lines"])), None if raw is None else _decode_result(raw)


def _decode_result(raw: object) -> Result:
    record = cast("dict[str, object]", raw)
    result = Result(AttemptState(str(record["state"])), _moment(record["at"]))
    if (reason := record["failure_reason"]) is not None:
        result = replace(result, failure_reason=FailureReason(str(reason)))
    if (exit_code := record["exit_code"]) is not None:
        result = replace(result, exit_code=int(str(exit_code)))
    return replace(
        result,
        firmware_sha256=_text(record["firmware_sha256"]),
        error=_text(record["error"]),
    )


def _encode_seen(seen: UsedAttemptIds) -> dict[str, object]:
    times = {attempt_id: at.isoformat() for attempt_id, at in seen.times.items()}
    return {"horizon": seen.horizon, "times": times}


def _decode_seen(raw: object) -> UsedAttemptIds:
    record = cast("dict[str, object]", raw)
    times = {attempt_id: _moment(at) for attempt_id, at in _items(record["times"])}
    return UsedAttemptIds(times, str(record["horizon"]))


def _moment(raw: object) -> datetime:
    return datetime.fromisoformat(str(raw))


def _text(raw: object) -> str | None:
    return None if raw is None else str(raw)
