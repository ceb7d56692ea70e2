"""GuestBuilds: runs what guests submitted, and ends what nobody waits for."""

import asyncio
from collections.abc import Callable, Iterable
import logging
from pathlib import Path
from typing import Final

from ..build.model import BuildError, BuildRequest, Firmware
from ..build.slots import Slots
from ..clock import Time
from ..const import FailureReason, Stage
from .attempt import AttemptKey, GuestAttempt, Submission
from .attempt_store import AttemptStore
from .workspace import GuestWorkspaces

_LOGGER = logging.getLogger(__name__)

LEASE: Final = 1800.0
"""Seconds that an attempt goes on, or waits, with nobody attached."""
KEEP: Final = 24 * 3600.0
"""Seconds that an ended attempt is kept for its guest."""
ENDED: Final = 500
"""Ended attempts of one guest that are kept; an offloader asks for no more."""
# Everything a build started is to be gone within 5 s; twice that, and something is stuck.
_STOP_TIMEOUT: Final = 10.0


class GuestBuildRunner:
    """Owns a task per attempt that has not ended. Use it on the event loop only."""

    def __init__(
        self,
        book: AttemptStore,
        rooms: GuestWorkspaces,
        slots: Slots,
        time: Time,
        on_ended: Callable[[GuestAttempt], None],
    ) -> None:
        """``on_ended`` is called when an attempt has ended, however."""
        self._book = book
        self._rooms = rooms
        self._slots = slots
        self._time = time
        self._on_ended = on_ended
        self._tasks: dict[AttemptKey, asyncio.Task[Firmware]] = {}
        self._cancelling: dict[AttemptKey, str] = {}
        self._timers: dict[AttemptKey, Callable[[], None]] = {}
        self._stopping = False
        self._cleaning: set[asyncio.Task[None]] = set()

    def take_up(self) -> None:
        """Keep what had ended before a restart for as long as it was to be kept."""
        now = self._time.now()
        for attempt in self._book.all():
            if attempt.result is not None:
                age = (now - attempt.result.at).total_seconds()
                # A clock that was set back keeps nothing for longer.
                self._forget_in(attempt, KEEP - max(0.0, age))

    async def start(self, order: Submission, bundle: Path | None) -> None:
        """Build; returns when it can no longer happen twice. Raises OSError."""
        attempt = await self._book.begin(order)
        if attempt.result is not None or self._stopping:
            # Cancelled meanwhile.
            return
        attempt.on_attended = lambda attended: self._attended(attempt, attended)
        self._lease(attempt)
        task = asyncio.create_task(
            self._build(attempt, bundle), name=f"esphome_offload guest build {order.key.log_id}"
        )
        self._tasks[order.key] = task
        task.add_done_callback(lambda done: self._ended(attempt, done))

    async def cancel(self, attempts: Iterable[GuestAttempt], why: str) -> None:
        """End attempts, and return when no process of theirs is left. ``why`` is for people."""
        tasks = []
        for attempt in attempts:
            task = self._tasks.get(attempt.key)
            if task is not None:
                if attempt.key not in self._cancelling:
                    self._cancelling[attempt.key] = why
                    task.cancel()
                tasks.append(task)
            elif attempt.result is None:
                attempt.cancel(why, self._time.now())
                self._settle(attempt)
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_STOP_TIMEOUT)
            if stuck:
                _LOGGER.error("%d builds for guests could not be stopped in time", len(stuck))

    def forget(self, attempt: GuestAttempt) -> None:
        """Drop an attempt that has ended."""
        self._drop_timer(attempt.key)
        self._book.forget(attempt)

    async def stop(self) -> None:
        """End all processes. Attempts are left as they are: after the restart they are gone."""
        self._stopping = True
        for timer in self._timers.values():
            timer()
        self._timers.clear()
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_TIMEOUT)
        if self._cleaning:
            await asyncio.wait(self._cleaning)
        for attempt in self._book.all():
            attempt.silence()

    async def _build(self, attempt: GuestAttempt, bundle: Path | None) -> Firmware:
        order = attempt.order
        parameters = order.parameters
        room = await self._rooms.open(order.key.pin_sha256)
        async with (
            room.device(parameters.configuration),
            self._slots.slot(order.key.pin_sha256, attempt.queued),
        ):
            attempt.stage(Stage.PREPARING)
            config_dir = await room.prepare(parameters.configuration, order.sha256, bundle)
            return await room.builder.build(
                BuildRequest(
                    job_id=parameters.job_id,
                    attempt_id=parameters.attempt_id,
                    configuration=parameters.configuration,
                    config_dir=config_dir,
                    device_name=parameters.device_name,
                    esphome_version=parameters.esphome_version,
                    time_zone=parameters.time_zone,
                    clean=parameters.clean,
                ),
                attempt,
            )

    def _ended(self, attempt: GuestAttempt, task: asyncio.Task[Firmware]) -> None:
        del self._tasks[attempt.key]
        why = self._cancelling.pop(attempt.key, None)
        error = None if task.cancelled() else task.exception()
        now = self._time.now()
        if why is not None:
            attempt.cancel(why, now)
        elif task.cancelled() and self._stopping:
            return
        elif task.cancelled():
            attempt.fail(
                FailureReason.BUILDER_ENVIRONMENT, "The build was stopped on the builder", now
            )
        elif isinstance(error, BuildError):
            attempt.fail(error.failure_reason, str(error), now, error.exit_code)
        elif isinstance(error, OSError):
            # Mostly the disk is full.
            what = f"The builder cannot use its disk: {error.strerror or error}"
            attempt.fail(FailureReason.BUILDER_ENVIRONMENT, what, now)
        elif error is not None:
            _LOGGER.error("A build for a guest broke", exc_info=error)
            attempt.fail(FailureReason.INTERNAL, f"Unexpected at the builder: {error!r}", now)
        else:
            attempt.complete(task.result().sha256, now)
        self._settle(attempt)

    def _settle(self, attempt: GuestAttempt) -> None:
        self._book.changed()
        self._forget_in(attempt, KEEP)
        self._on_ended(attempt)
        ended = [each for each in self._book.of(attempt.key.pin_sha256) if each.result is not None]
        for oldest in ended[:-ENDED]:
            self.forget(oldest)

    def _attended(self, attempt: GuestAttempt, attended: bool) -> None:
        if attempt.result is None:
            self._drop_timer(attempt.key)
            if not attended:
                self._lease(attempt)

    def _lease(self, attempt: GuestAttempt) -> None:
        if not self._stopping:
            self._set_timer(attempt.key, LEASE, lambda: self._lease_over(attempt))

    def _lease_over(self, attempt: GuestAttempt) -> None:
        minutes = round(LEASE / 60)
        task = asyncio.create_task(
            self.cancel([attempt], f"Nobody was attached for {minutes} minutes")
        )
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    def _forget_in(self, attempt: GuestAttempt, seconds: float) -> None:
        if not self._stopping:
            self._set_timer(attempt.key, max(0.0, seconds), lambda: self.forget(attempt))

    def _set_timer(self, key: AttemptKey, seconds: float, action: Callable[[], None]) -> None:
        self._drop_timer(key)
        self._timers[key] = self._time.call_later(seconds, action)

    def _drop_timer(self, key: AttemptKey) -> None:
        if timer := self._timers.pop(key, None):
            timer()
