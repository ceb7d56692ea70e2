"""The events of an attempt for a guest that is attached to it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from ..job_log import JobLogs
from ..protocol.messages import (
    AttemptState,
    BuildEvent,
    ProgressEvent,
    QueueEvent,
    line_batches,
)
from .attempt import GuestAttempt

_ALL_LINES: Final = 1_000_000
"""More than a log can hold."""


async def follow(
    attempt: GuestAttempt, logs: JobLogs, from_line: int
) -> AsyncGenerator[BuildEvent]:
    """Give the attempt as it stands, its lines from a number on, then what comes.

    The final state comes last, after all lines. Nothing is kept for a listener that is slow: it
    gets the newest state, and the lines that are still there, when it asks for more. Close it
    when it is left.
    """
    woken = asyncio.Event()
    sent = _Sent()
    pages = logs.follow(
        attempt.key.log_id,
        from_line,
        woken=woken,
        ended=lambda: attempt.result is not None,
        limit=_ALL_LINES,
    )
    with attempt.attach(woken.set):
        async with aclosing(pages):
            async for page in pages:
                for event in sent.changes(attempt):
                    yield event
                for batch in line_batches(attempt.key.attempt_id, page.first_line, page.lines):
                    yield batch
        yield attempt.event()


class _Sent:
    """The state that was sent to the guest last."""

    def __init__(self) -> None:
        self._state: AttemptState | None = None
        self._ahead: int | None = None
        self._percent: float | None = None
        self._downloading: float | None = None

    def changes(self, attempt: GuestAttempt) -> list[BuildEvent]:
        """Return what changed, but for the end; all of it is of one moment."""
        if attempt.result is not None:
            return []
        attempt_id = attempt.key.attempt_id
        changes: list[BuildEvent] = []
        if attempt.state is not self._state or attempt.downloading != self._downloading:
            changes.append(attempt.event())
            self._percent = None
        if attempt.ahead is not None and attempt.ahead != self._ahead:
            changes.append(QueueEvent(attempt_id, attempt.ahead))
        if attempt.percent is not None and attempt.percent != self._percent:
            changes.append(ProgressEvent(attempt_id, attempt.percent))
        self._state, self._ahead, self._percent = attempt.state, attempt.ahead, attempt.percent
        self._downloading = attempt.downloading
        return changes
