"""Remedies: the one table of what a job does about failures; no retry lives anywhere else."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..const import FailureReason


class Step(StrEnum):
    """The part of a job that failed."""

    KEPT = "kept"
    """Loading firmware that was built before a restart."""
    BUILD = "build"
    FLASH = "flash"


class Action(StrEnum):
    """What a job does about a failure."""

    FAIL = "fail"
    NEXT_BUILDER = "next_builder"
    BUILD_AGAIN = "build_again"
    RETRY_UPLOAD = "retry_upload"
    WAIT_FOR_DEVICE = "wait_for_device"


@dataclass(frozen=True, slots=True)
class Remedy:
    """An action, how often per job (None: without limit), then the job does what ``then`` says.

    ``delays`` are the seconds to wait before the first, second … time; for the next builder,
    those after which this one may be tried again, 0 for never. ``unknown_is_free``: with
    a device that Home Assistant does not know, a failure was to be expected and does not count.
    """

    action: Action
    times: int | None = None
    delays: tuple[float, ...] = ()
    unknown_is_free: bool = False
    then: Action = Action.FAIL


@dataclass(frozen=True, slots=True)
class Decision:
    """The action to take after ``delay`` seconds; see ``Remedy``."""

    action: Action
    delay: float = 0.0


# Five tries for a device that should have answered. One that Home Assistant does not know is
# tried for as long as the options let firmware wait.
_WAIT_FOR_DEVICE = Remedy(Action.WAIT_FOR_DEVICE, times=5, unknown_is_free=True)
_NEXT_BUILDER = Remedy(Action.NEXT_BUILDER)
_FLASH_LATER = Remedy(Action.RETRY_UPLOAD, times=5, delays=(30.0, 60.0, 300.0, 900.0, 3600.0))
_FAIL = Remedy(Action.FAIL)

# Firmware is built, and this machine cannot run the tool that sends it now: no memory, no disk, or
# no network for a toolchain that was removed.
_PASSES_HERE = (
    FailureReason.BUILDER_ENVIRONMENT,
    FailureReason.VERSION_UNAVAILABLE,
    FailureReason.OUT_OF_MEMORY,
)
_FINAL_FOR_FLASHING = (
    # Said about the device, the firmware or its configuration: again it would be the same.
    FailureReason.WRONG_DEVICE,
    FailureReason.UPLOAD_REFUSED,
    FailureReason.NOT_VERIFIED,
    FailureReason.ROLLED_BACK,
    FailureReason.INTEGRITY,
    # Only where nothing was kept of what was validated for the build.
    FailureReason.CONFIG_INVALID,
    # It was stopped from elsewhere.
    FailureReason.BUILDER_UNAVAILABLE,
    FailureReason.SUPERSEDED,
    FailureReason.CANCELLED,
    FailureReason.INTERNAL,
    # Of builds alone.
    FailureReason.BUNDLE_INCOMPLETE,
    FailureReason.NO_BUILDER,
    FailureReason.BUILD_LOST,
    FailureReason.COMPILE_FAILED,
)

REMEDIES: Mapping[tuple[Step, FailureReason], Remedy] = {
    (Step.KEPT, FailureReason.NO_FIRMWARE): Remedy(Action.BUILD_AGAIN),
    (Step.KEPT, FailureReason.INTEGRITY): Remedy(Action.BUILD_AGAIN),
    (Step.BUILD, FailureReason.BUNDLE_INCOMPLETE): _NEXT_BUILDER,
    # Paused, or out of reach: as long as the job may wait for a builder, that may pass. After the
    # last delay the builder counts as failed.
    (Step.BUILD, FailureReason.BUILDER_UNAVAILABLE): Remedy(
        Action.NEXT_BUILDER, delays=(10.0, 30.0, 60.0, 0.0)
    ),
    (Step.BUILD, FailureReason.BUILDER_ENVIRONMENT): _NEXT_BUILDER,
    (Step.BUILD, FailureReason.VERSION_UNAVAILABLE): _NEXT_BUILDER,
    (Step.BUILD, FailureReason.OUT_OF_MEMORY): Remedy(Action.NEXT_BUILDER, times=1),
    # A builder that is restarted again and again is left for another one.
    (Step.BUILD, FailureReason.BUILD_LOST): Remedy(
        Action.BUILD_AGAIN, times=2, then=Action.NEXT_BUILDER
    ),
    (Step.FLASH, FailureReason.DEVICE_OFFLINE): _WAIT_FOR_DEVICE,
    # Ten seconds are enough for a device that restarted half-way through to be back.
    (Step.FLASH, FailureReason.UPLOAD_FAILED): Remedy(
        Action.RETRY_UPLOAD, times=2, delays=(10.0, 30.0)
    ),
    # Somebody emptied the cache while the device was waited for. A job that only uploads fails.
    (Step.FLASH, FailureReason.NO_FIRMWARE): Remedy(Action.BUILD_AGAIN, times=2),
    **dict.fromkeys(((Step.FLASH, reason) for reason in _PASSES_HERE), _FLASH_LATER),
    **dict.fromkeys(((Step.FLASH, reason) for reason in _FINAL_FOR_FLASHING), _FAIL),
}
"""A build that fails for a reason that is not here fails at once: nothing would change by itself."""


class FailureHistory:
    """The failures of one job so far, which decide what comes next."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Step, FailureReason]] = Counter()

    def decide(self, step: Step, reason: FailureReason, *, device_known: bool = True) -> Decision:
        """Count a failure and return what to do about it."""
        remedy = REMEDIES.get((step, reason))
        if remedy is None:
            return Decision(Action.FAIL)
        count = self._counts[step, reason]
        if remedy.times is not None and count >= remedy.times:
            return Decision(remedy.then)
        if device_known or not remedy.unknown_is_free:
            self._counts[step, reason] += 1
        delay = remedy.delays[min(count, len(remedy.delays) - 1)] if remedy.delays else 0.0
        return Decision(remedy.action, delay)
