"""GuestBuildRunner: runs what guests submitted, and cancels what no guest waits for."""

import asyncio
from collections.abc import Callable, Iterable
import logging
from pathlib import Path
from typing import Final

from ..build.model import BuildError, BuildRequest, Firmware, disk_errors
from ..build.slots import Slots
from ..clock import Time
from ..const import FailureReason, Stage
from ..reason import Reason, ReasonKey
from ..tasks import BackgroundTasks
from .attempt import AttemptKey, GuestAttempt, Submission
from .attempt_store import AttemptStore
from .workspace import GuestWorkspaces

_LOGGER = logging.getLogger(__name__)

LEASE: Final = 1800.0
"""Seconds that an attempt runs, or waits, with no guest attached."""
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
        attempts: AttemptStore,
        workspaces: GuestWorkspaces,
        slots: Slots,
        time: Time,
        *,
        on_changed: Callable[[], None],
        on_ended: Callable[[GuestAttempt], None],
    ) -> None:
        """``on_changed`` is called when the state of an attempt changed that goes on.

        ``on_ended`` is called when an attempt has ended, however.
        """
        self._attempts = attempts
        self._workspaces = workspaces
        self._slots = slots
        self._time = time
        self._on_changed = on_changed
        self._on_ended = on_ended
        self._tasks: dict[AttemptKey, asyncio.Task[Firmware]] = {}
        self._cancelling: dict[AttemptKey, Reason] = {}
        self._timers: dict[AttemptKey, Callable[[], None]] = {}
        self._stopping = False
        self._background = BackgroundTasks()

    def resume(self) -> None:
        """Keep what had ended before a restart for the rest of its time."""
        for attempt in self._attempts.all():
            if attempt.result is not None:
                left = attempt.keep_for
                self._forget_in(attempt, KEEP if left is None else min(max(0.0, left), KEEP))

    async def start(self, submission: Submission, bundle: Path | None) -> None:
        """Build; returns when it can no longer happen twice. Raises OSError."""
        attempt = await self._attempts.add(submission)
        _LOGGER.info("Build submitted: %s", attempt)
        if attempt.result is not None or self._stopping:
            return  # cancelled meanwhile
        unsubscribes = (
            attempt.attached_changed.subscribe(lambda: self._attached_changed(attempt)),
            attempt.state_changed.subscribe(self._on_changed),
        )
        self._start_lease(attempt)
        task = asyncio.create_task(
            self._build(attempt, bundle), name=f"esphome_offload guest build {attempt.key.log_id}"
        )
        self._tasks[attempt.key] = task

        def ended(done: asyncio.Task[Firmware]) -> None:
            self._ended(attempt, done)
            # It is kept for a day.
            for unsubscribe in unsubscribes:
                unsubscribe()

        task.add_done_callback(ended)

    async def cancel(self, attempts: Iterable[GuestAttempt], why: Reason) -> None:
        """Cancel attempts; returns when no process of theirs is left."""
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
        self._attempts.forget(attempt)

    async def stop(self) -> None:
        """End all processes. Attempts stay as they are: what had not ended is lost."""
        self._stopping = True
        for timer in self._timers.values():
            timer()
        self._timers.clear()
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_TIMEOUT)
        await self._background.wait()
        for attempt in self._attempts.all():
            attempt.stop()

    async def _build(self, attempt: GuestAttempt, bundle: Path | None) -> Firmware:
        parameters, sha256 = attempt.submission.parameters, attempt.submission.sha256
        with disk_errors():
            workspace = await self._workspaces.open(attempt.key.pin_sha256)
            async with (
                workspace.device(parameters.configuration),
                self._slots.slot(attempt.key.pin_sha256, attempt.place),
            ):
                _LOGGER.info("Build started: %s", attempt)
                attempt.stage(Stage.PREPARING)
                config_dir = await workspace.prepare(parameters.configuration, sha256, bundle)
                return await workspace.builder.build(
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
                FailureReason.BUILDER_ENVIRONMENT,
                Reason(ReasonKey.BUILDER_STOPPED, {"label": ""}),
                now,
            )
        elif isinstance(error, BuildError):
            attempt.fail(error.failure_reason, error.reason, now, error.exit_code)
        elif error is not None:
            _LOGGER.error("A build for a guest broke", exc_info=error)
            attempt.fail(FailureReason.INTERNAL, Reason(ReasonKey.UNEXPECTED), now)
        else:
            attempt.complete(task.result().sha256, now)
        self._settle(attempt)

    def _settle(self, attempt: GuestAttempt) -> None:
        reason = attempt.result.reason if attempt.result else None
        _LOGGER.info("Build %s: %s%s", attempt.state, attempt, f": {reason}" if reason else "")
        self._forget_in(attempt, KEEP)
        self._attempts.note_ended(attempt)
        self._on_ended(attempt)
        ended = [
            each for each in self._attempts.of(attempt.key.pin_sha256) if each.result is not None
        ]
        for oldest in ended[:-ENDED]:
            self.forget(oldest)

    def _attached_changed(self, attempt: GuestAttempt) -> None:
        if attempt.result is None:
            self._drop_timer(attempt.key)
            if not attempt.attached:
                self._start_lease(attempt)

    def _start_lease(self, attempt: GuestAttempt) -> None:
        if not self._stopping:
            self._set_timer(attempt.key, LEASE, lambda: self._lease_over(attempt))

    def _lease_over(self, attempt: GuestAttempt) -> None:
        why = Reason(ReasonKey.NOBODY_ATTACHED)
        self._background.start(self.cancel([attempt], why), "esphome_offload lease")

    def _forget_in(self, attempt: GuestAttempt, seconds: float) -> None:
        attempt.keep(seconds)
        if not self._stopping:
            self._set_timer(attempt.key, seconds, lambda: self.forget(attempt))

    def _set_timer(self, key: AttemptKey, seconds: float, action: Callable[[], None]) -> None:
        self._drop_timer(key)
        self._timers[key] = self._time.call_later(seconds, action)

    def _drop_timer(self, key: AttemptKey) -> None:
        if timer := self._timers.pop(key, None):
            timer()
