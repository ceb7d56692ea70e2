"""Ways to start a program with fewer rights, or on a kernel that has less."""

from pathlib import Path
import sys

SOMEBODY = 54321
"""A user that owns nothing."""

DOCKER = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
)
"""The capabilities that docker gives by default."""
LEAST = ("chown", "dac_override", "fowner", "kill", "setgid", "setuid")
"""Those without which guests get no users of their own."""

WITHOUT_LANDLOCK = (
    sys.executable,
    str(Path(__file__).with_name("attack") / "without_landlock.py"),
)


def root_with(*capabilities: str) -> tuple[str, ...]:
    return ("setpriv", "--bounding-set", ",".join(["-all", *(f"+{each}" for each in capabilities)]))


def as_somebody() -> tuple[str, ...]:
    return ("setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups")
