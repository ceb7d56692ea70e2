"""How many steps a task takes, here and with ESPHome Device Builder.

A step is a click, or a field that is filled. They are counted from the page that is open: ours, or
the dashboard of Device Builder. Ours are what the tests in a browser count.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Task(StrEnum):
    """What somebody wants to do, in the words of the README."""

    INSTALL = "Install an update on a device"
    LOG = "See its output live"
    CANCEL = "Cancel it"
    REBUILD = "Install after a change of the YAML file"
    PAIR = "Pair with a builder, which accepts no builds before"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one task: ours, and Device Builder's, fewest and most."""

    ours: int
    fewest: int
    most: int


STEPS: Final = {
    Task.INSTALL: Steps(1, 2, 3),
    Task.LOG: Steps(0, 0, 3),
    Task.CANCEL: Steps(1, 1, 3),
    Task.REBUILD: Steps(1, 2, 2),
    Task.PAIR: Steps(10, 12, 12),
}
