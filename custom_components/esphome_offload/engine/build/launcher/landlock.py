"""Landlock: what this process and all that come from it may do with files and signals.

The numbers are those of the kernel's ``linux/landlock.h``.
"""

from collections.abc import Iterable
import ctypes
import os
import stat
import struct

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What a rule about a single file may hold."""

_HANDLED = ((1, REFER - 1), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
"""Rights by the ABI version that brought them; one that is not handled is not denied."""

SIGNALS_ABI = 6
"""Signals to, and abstract sockets of, processes outside can be denied from here on."""
_SCOPES = (1 << 0) | (1 << 1)
_LOGGING_ABI = 7
_LOG_NEW_PROGRAMS = 1 << 1
"""Denials reach the kernel's audit log also when a program that was started later meets them."""
_LOG_NO_SUBDOMAINS = 1 << 2
"""But not those of a sandbox that a build makes for itself, which could flood it."""

# The same numbers on every architecture.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def abi() -> int:
    """Return the kernel's version of Landlock, 1 or more.

    Raises OSError: ENOSYS when this kernel has none, EOPNOTSUPP when it was switched off at boot,
    EPERM or another when something around us, like a container, forbids to ask.
    """
    return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))


def handled(version: int) -> int:
    """Return all rights on files that a version can deny."""
    rights = 0
    for since, added in _HANDLED:
        if version >= since:
            rights |= added
    return rights


def restrict(version: int, rules: Iterable[tuple[str, int, bool]]) -> None:
    """Deny everything that no rule allows, for good; each is a path, rights and "must exist".

    A rule for a folder is one for all below it. A path that does not exist is passed over unless
    it must. Raises OSError, after which nothing more is denied than before. ``no_new_privs`` must
    be set.
    """
    can_deny = handled(version)
    attributes = struct.pack("=Q", can_deny)
    if version >= SIGNALS_ABI:
        # Between them: rights on TCP ports, none of which is handled.
        attributes += struct.pack("=QQ", 0, _SCOPES)
    ruleset = _syscall(
        _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    try:
        for path, rights, needed in rules:
            _allow(ruleset, path, rights & can_deny, needed=needed)
        logging = _LOG_NEW_PROGRAMS | _LOG_NO_SUBDOMAINS if version >= _LOGGING_ABI else 0
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(logging))
    finally:
        os.close(ruleset)


def limit_signals() -> None:
    """Enter a domain within the present one, without other rules: no signal leaves it.

    Signals from outside reach it. Needs ``SIGNALS_ABI``; raises OSError.
    """
    # A domain without this right forbids to move files from one folder to another.
    attributes = struct.pack("=QQQ", REFER, 0, _SCOPES)
    ruleset = _syscall(
        _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    try:
        _allow(ruleset, "/", REFER, needed=True)
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int, *, needed: bool) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if needed:
            raise
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _ON_FILES
        rule = struct.pack("=Qi", rights, handle)
        _syscall(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            rule,
            ctypes.c_uint32(0),
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(handle)
