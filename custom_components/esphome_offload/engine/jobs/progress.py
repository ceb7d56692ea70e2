"""How far a whole job is, from how far its current stage is."""

from collections.abc import Mapping
import math

from ..const import Operation, Stage

# Shares of a hundred, as wide as these stages usually take.
_WEIGHTS: Mapping[Operation, Mapping[Stage, int]] = {
    Operation.INSTALL: {
        Stage.PREPARING: 5,
        Stage.COMPILING: 75,
        Stage.FETCHING: 5,
        Stage.UPLOADING: 12,
        Stage.VERIFYING: 3,
    },
    Operation.COMPILE: {Stage.PREPARING: 5, Stage.COMPILING: 90, Stage.FETCHING: 5},
    Operation.UPLOAD: {Stage.PREPARING: 2, Stage.UPLOADING: 90, Stage.VERIFYING: 8},
    Operation.CLEAN: {Stage.PREPARING: 100},
}

_DOWNLOAD = 0.3
"""What downloading tools takes of the share of compiling, if there are any to be downloaded."""

# A hundred is for jobs that are done.
_MOST = 99


def overall(
    operation: Operation, stage: Stage, percent: float, *, downloaded: bool = False
) -> int | None:
    """Return whole percents of the job, None for a stage that says nothing about it.

    ``downloaded``: the tools of the build had to be downloaded first.
    """
    if stage is Stage.DOWNLOADING:
        stage, percent = Stage.COMPILING, percent * _DOWNLOAD
    elif stage is Stage.COMPILING and downloaded:
        percent = 100.0 * _DOWNLOAD + percent * (1.0 - _DOWNLOAD)
    weights = _WEIGHTS[operation]
    if stage not in weights or not math.isfinite(percent):
        return None
    before = 0
    for earlier, weight in weights.items():
        if earlier is stage:
            break
        before += weight
    within = min(max(percent, 0.0), 100.0)
    return min(int(before + weights[stage] * within / 100), _MOST)
