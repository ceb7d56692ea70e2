"""The end of memory: who goes first, and whom the kernel has killed for it."""
# ruff: noqa: PTH123
# Without pathlib, because every command pays for the start of the launcher.

from __future__ import annotations


def oom_kills() -> int:
    """Return the number of processes killed for memory so far, in this control group if known."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line[3:].strip() for line in file if line.startswith("0::")]
    except OSError:
        groups = []
    for path in (*(f"/sys/fs/cgroup{group}/memory.events" for group in groups), "/proc/vmstat"):
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except OSError:
            continue
    return 0


def set_oom_score(score: int, *, lower: bool = False) -> int | None:
    """Offer this process to the kernel when memory ends; return how much it was before.

    Raising needs no privilege.
    """
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            before = int(file.read())
            if before < score or lower:
                file.seek(0)
                file.write(str(score))
    except OSError:
        # Not everywhere may /proc be written; the command is no worse without.
        return None
    return before
