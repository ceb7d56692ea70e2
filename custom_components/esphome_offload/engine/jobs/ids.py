"""Ids of jobs and attempts: UUIDs of version 7, which begin with the time of their making."""

import secrets
import time

# A clock that is set back by more than this was wrong before.
_SET_BACK_MS = 60_000
_RANDOM_BITS = 74
_VERSION_7 = 7 << 76
_VARIANT = 2 << 62

_last_time = 0
_last_random = 0


def new_id() -> str:
    """Return an id that is unique and sorts by the time at which it was made (32 hex digits).

    Those of ``uuid`` never go back, so that after a clock was ahead once they all are of the
    future until Home Assistant starts again, and builders refuse them.
    """
    global _last_time, _last_random  # noqa: PLW0603
    now = time.time_ns() // 1_000_000
    if 0 <= _last_time - now <= _SET_BACK_MS:
        # The same moment, or the clock was set right by a little.
        _last_random += 1 + secrets.randbits(32)
    else:
        _last_time = now
        # So that there is room for more of the same moment.
        _last_random = secrets.randbits(_RANDOM_BITS - 1)
    high, low = divmod(_last_random, 1 << 62)
    return f"{_last_time << 80 | _VERSION_7 | high << 64 | _VARIANT | low:032x}"
