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

_PR_SET_SECUREBITS = 28
_NO_SETUID_FIXUP = 1 << 2
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITIES_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2

PROCESSES = 4096
"""All of the same user count. A large compile has some hundred."""
FILE_SIZE = 4 * 1024**3
"""Bytes; the archives of a platform's compilers have some hundred MiB."""
OPEN_FILES = 16384
"""Of each process."""

TRUNCATE_ABI = 3
"""Before this, Landlock lets any file be emptied by its path."""


def contain(
    *,
    write: list[str],
    run: list[str],
    read: list[str],
    devices: list[str],
    by_landlock: bool,
    uid: int | None,
    search: bool,
) -> bool:
    """Contain this process; return whether Landlock contains its signals.

    The lists are paths, of which those in ``write`` must exist and may also be read and run; a
    folder stands for all below it. They hold ``by_landlock`` alone: without it the rights of files
    decide, for a user of its own. ``uid``: the user and group to become; None: stay what we are.
    ``search``: that user may pass folders that it has no right to, and read what the lists allow.

    Raises OSError; then this process must end, it may be half contained.
    """
    if not seccomp.supported():
        raise OSError(f"builds cannot be contained on a machine of type {os.uname().machine}")
    version = _landlock() if by_landlock else 0
    if not version and (uid is None or search):
        raise OSError("without Landlock nothing but a user of its own can contain a build")
    # A crash would write all memory of the process into the tree, secrets of the YAML included.
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NPROC, PROCESSES)
    limit(resource.RLIMIT_FSIZE, FILE_SIZE)
    limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    _control(libc, "no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
    if version:
        landlock.restrict(
            version,
            [
                *((path, _WRITE, True) for path in write),
                *((path, _RUN, False) for path in run),
                *((path, _READ, False) for path in read),
                *((path, _DEVICE, False) for path in devices),
            ],
        )
    if uid is None:
        # Root's files are its own, but folders on the way to them may belong to others.
        keep_capabilities(libc, 1 << _CAP_DAC_OVERRIDE)
    else:
        _become(libc, uid, search=search)
    # Last, because it also denies what the others need.
    seccomp.restrict(truncate=not version or version >= TRUNCATE_ABI)
    return version >= landlock.SIGNALS_ABI


def _landlock() -> int:
    try:
        return landlock.abi()
    except OSError as error:
        raise OSError(f"this system has no Landlock to contain builds with ({error})") from error


def limit(kind: int, value: int) -> None:
    """Lower a limit of this process, for good."""
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(hard, value)
    resource.setrlimit(kind, (value, value))


def _become(libc: ctypes.CDLL, uid: int, *, search: bool) -> None:
    """Become that user and its group, in no other group."""
    if search:
        # Else the change of user drops it, and access(2) does not count it.
        _control(libc, "securebits", _PR_SET_SECUREBITS, _NO_SETUID_FIXUP)
    os.setgroups(())
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    keep_capabilities(libc, 1 << _CAP_DAC_READ_SEARCH if search else 0, inheritable=True)
    if search:
        # What exec keeps for those who are not root.
        _control(libc, "ambient", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH)


def keep_capabilities(libc: ctypes.CDLL, kept: int, *, inheritable: bool = False) -> None:
    """Drop all other capabilities; with ``no_new_privs`` not even root regains them by exec."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    # Effective, permitted, inheritable; then the same for capabilities from 32 on.
    held = (ctypes.c_uint32 * 6)()
    if libc.capget(header, held) != 0:
        raise _failed("capget")
    permitted = held[1] & kept
    wanted = (ctypes.c_uint32 * 6)(permitted, permitted, permitted if inheritable else 0)
    if libc.capset(header, wanted) != 0:
        raise _failed("capset")


def _control(libc: ctypes.CDLL, what: str, option: int, *arguments: int) -> None:
    padding = (0,) * (4 - len(arguments))
    if libc.prctl(option, *arguments, *padding) != 0:
        raise _failed(what)


def _failed(what: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, f"{what}: {os.strerror(error)}")
