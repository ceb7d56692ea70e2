"""JobRefused: the answer of the queue to a request that it does not accept."""

from enum import StrEnum

from .model import FirmwareJob


class RefusalReason(StrEnum):
    """Why the queue refuses a request."""

    ALREADY_RUNNING = "already_running"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    UNKNOWN_JOB = "unknown_job"
    NOT_RUNNING = "not_running"


class JobRefused(Exception):  # noqa: N818 - a refusal is an answer
    """A refused request; ``job`` is the one in the way, or the one that has ended already."""

    def __init__(self, reason: RefusalReason, job: FirmwareJob | None = None) -> None:
        """Keep both."""
        super().__init__(reason.value)
        self.reason = reason
        self.job = job
