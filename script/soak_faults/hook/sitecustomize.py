"""What every Python of the soak imports at its start, by PYTHONPATH: SIGUSR2 has it obey and report.

It reads ``wanted.json`` beside the report: how many seconds its clock is ahead. There is no way to
do that to one process from outside: time namespaces have no wall clock. So it is done to what this
integration and Home Assistant take the time from; files keep the machine's time.
"""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
import gc
import json
import os
from pathlib import Path
import signal
import sys
import time
from types import FrameType

_FOLDER = os.environ.get("SOAK_HOOK")
_OURS = "esphome_offload"
_real_time, _real_time_ns = time.time, time.time_ns
_ahead = 0.0


def _now(*_: object) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=_ahead)


def _shift(seconds: float) -> None:
    global _ahead  # noqa: PLW0603 - the one clock of the process
    _ahead = seconds
    time.time = lambda: _real_time() + _ahead
    # Of this one UUIDs are made, and with them the ids of jobs and attempts.
    time.time_ns = lambda: _real_time_ns() + int(_ahead * 1e9)
    for name, module in tuple(sys.modules.items()):
        if name.endswith((f"{_OURS}.engine.clock", f"{_OURS}_builder.engine.clock")):
            module.SystemTime.now = _now
        if name == "homeassistant.util.dt":
            module.utcnow = _now  # type: ignore[attr-defined]
            zone = module.DEFAULT_TIME_ZONE
            module.now = lambda zone=zone: _now().astimezone(zone)  # type: ignore[attr-defined]


def _report() -> dict[str, object]:
    tasks: Counter[str] = Counter()
    subscriptions: Counter[str] = Counter()
    gc.collect()
    everything = gc.get_objects()
    # Hundreds of thousands, of some thousand types: sorted without a look at each in Python.
    kinds = Counter(map(type, everything))
    ours = {kind: count for kind, count in kinds.items() if _OURS in str(kind.__module__)}
    looked_at = {kind for kind in kinds if issubclass(kind, asyncio.Task)}
    looked_at |= {kind for kind in ours if kind.__name__ == "Listeners"}
    for each in [each for each in everything if type(each) in looked_at]:
        if isinstance(each, asyncio.Task):
            code = getattr(each.get_coro(), "cr_code", None)
            if not each.done() and code is not None and _OURS in code.co_filename:
                tasks[code.co_qualname] += 1
        else:
            for listener in vars(each)["_listeners"].values():
                subscriptions[getattr(listener, "__qualname__", repr(type(listener)))] += 1
    objects = {kind.__qualname__: count for kind, count in ours.items()}
    return {"tasks": tasks, "objects": objects, "subscriptions": subscriptions}


def _obey(_signal: int, _frame: FrameType | None) -> None:
    folder = Path(_FOLDER or "")
    wanted = json.loads((folder / "wanted.json").read_text())
    _shift(wanted["ahead"])
    report = _report() | {"number": wanted["number"]}
    (folder / "report.part").write_text(json.dumps(report))
    (folder / "report.part").rename(folder / "report.json")


if _FOLDER is not None:
    signal.signal(signal.SIGUSR2, _obey)
