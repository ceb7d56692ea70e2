"""Contain this process, and all that come from it, for good."""

import ctypes
import os
import resource

from . import landlock, seccomp

_READ = landlock.READ_FILE | landlock.READ_DIR
_RUN = _READ | landlock.EXECUTE
_DEVICE = landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE | landlock.IOCTL_DEV
# Everything but making devices, and talking to them.
_WRITE = (
    landlock.handled(landlock.SIGNALS_ABI)
    & ~landlock.MAKE_CHAR
    & ~landlock.MAKE_BLOCK
    & ~landlock.IOCTL_DEV
)

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1
"""Kept where we have it: folders on the way to ours may belong to somebody else."""

PROCESSES = 4096
"""All of the user that Home Assistant runs as count. A large compile has some hundred."""

TRUNCATE_ABI = 3
"""Before this, Landlock lets any file be emptied by its path."""


class Rules:
    """What a contained command may use, as paths. A folder stands for all below it."""

    def __init__(
        self, *, write: list[str], run: list[str], read: list[str], devices: list[str]
    ) -> None:
        """Take what the spec said; ``write`` must exist and may also be read and run."""
        self.paths = [
            *((path, _WRITE, True) for path in write),
            *((path, _RUN, False) for path in run),
            *((path, _READ, False) for path in read),
            *((path, _DEVICE, False) for path in devices),
        ]


def contain(rules: Rules) -> bool:
    """Contain this process; return whether its signals are contained too.

    Raises OSError; then it must not go on, it may be half contained.
    """
    if not seccomp.supported():
        raise OSError(f"builds cannot be contained on a machine of type {os.uname().machine}")
    try:
        version = landlock.abi()
    except OSError as error:
        raise OSError(f"this system has no Landlock to contain builds with ({error})") from error
    # A crash would write all memory of the process into the tree, secrets of the YAML included.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_processes()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _failed("no_new_privs")
    landlock.restrict(version, rules.paths)
    _drop_capabilities(libc)
    # Last, because it also denies what the others need.
    seccomp.restrict(truncate=version >= TRUNCATE_ABI)
    return version >= landlock.SIGNALS_ABI


def _limit_processes() -> None:
    """Let it not fill the table of processes; the kernel asks this of everybody but root."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = PROCESSES if hard == resource.RLIM_INFINITY else min(hard, PROCESSES)
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Be no more than a user; with ``no_new_privs`` not even root gets them back by exec."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    # Effective, permitted, inheritable; then the same for capabilities from 32 on.
    held = (ctypes.c_uint32 * 6)()
    if libc.capget(header, held) != 0:
        raise _failed("capget")
    effective, permitted = (held[index] & _CAP_DAC_OVERRIDE for index in (0, 1))
    if libc.capset(header, (ctypes.c_uint32 * 6)(effective, permitted)) != 0:
        raise _failed("capset")


def _failed(what: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, f"{what}: {os.strerror(error)}")
