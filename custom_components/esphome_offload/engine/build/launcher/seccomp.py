"""A filter of system calls, for what harms others and Landlock knows no right for.

The numbers are those of the kernel's ``linux/seccomp.h``, ``linux/filter.h``, ``linux/audit.h``
and ``asm/unistd.h``.
"""

import ctypes
import errno
import os
import struct

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}

_NUMBERS = {
    # x86_64, and the generic ones that the two others have
    "truncate": (76, 45),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "inotify_add_watch": (254, 27),
    "fanotify_mark": (301, 263),
    "prlimit64": (302, 261),
    "seccomp": (317, 277),
    "io_uring_setup": (425, 425),
}

# An argument and the only value that is allowed for it: the calling process itself.
_ONLY_ITSELF = {
    # Running out of CPU time ends a process as a signal would.
    "prlimit64": ((0, 0),),
    "setpriority": ((0, 0), (1, 0)),
    "ioprio_set": ((0, 1), (1, 0)),
    "sched_setaffinity": ((0, 0),),
    "sched_setscheduler": ((0, 0),),
    "sched_setparam": ((0, 0),),
    "sched_setattr": ((0, 0),),
}
_AF_UNIX = 1
_SOCK_STREAM = 1
_SOCK_TYPES = 0xF
"""Beside them the same argument holds flags."""
_X32 = 0x40000000
"""The third set of system calls of an x86_64 kernel counts from here."""

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_SET_FILTER = 1
_KEEP_SPECULATION = 1 << 2
"""Kernels before 5.16 else slow all that is filtered down; newer ones leave that to the program."""


def supported() -> bool:
    """Return whether the numbers of this machine's system calls are known."""
    return os.uname().machine in _AUDIT_ARCH


def _number(name: str, machine: str) -> int:
    on_x86_64, elsewhere = _NUMBERS[name]
    return on_x86_64 if machine == "x86_64" else elsewhere


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _deny(error: int) -> bytes:
    return _instruction(_RETURN, _ERROR | error)


def _load_argument(index: int) -> bytes:
    # The lower half, which is all that the kernel looks at of an int; these are little-endian.
    return _instruction(_LOAD, _ARGUMENTS_AT + 8 * index)


def _on(number: int, then: bytes) -> bytes:
    """Do ``then``, which must return, for one system call."""
    return _instruction(_EQUAL, number, 0, len(then) // 8) + then


def program(machine: str, *, truncate: bool) -> bytes:
    """Return the filter for a machine; ``truncate`` says whether to allow that call."""
    numbers = {name: _number(name, machine) for name in _NUMBERS}
    allow = _instruction(_RETURN, _ALLOW)
    parts = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        # 32-bit programs have other numbers.
        _instruction(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _deny(errno.ENOSYS),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":
        parts += [_instruction(_AT_LEAST, _X32, 0, 1), _deny(errno.ENOSYS)]
    for name, only in _ONLY_ITSELF.items():
        checks = b"".join(
            _load_argument(index) + _instruction(_EQUAL, value, 1, 0) + _deny(errno.EPERM)
            for index, value in only
        )
        parts.append(_on(numbers[name], checks + allow))
    # Landlock does not know sockets that have a path: a container engine or D-Bus listens there.
    unix = _load_argument(0) + _instruction(_EQUAL, _AF_UNIX, 0, 1) + _deny(errno.EACCES) + allow
    parts.append(_on(numbers["socket"], unix))
    # A pair is fine unless half of it can be connected to something else.
    pair = _load_argument(1) + _instruction(_AND, _SOCK_TYPES)
    pair += _instruction(_EQUAL, _SOCK_STREAM, 1, 0) + _deny(errno.EACCES) + allow
    parts.append(_on(numbers["socketpair"], pair))
    # Landlock lets any folder be watched, which tells the names of files that others use in it.
    parts += [
        _on(numbers[name], _deny(errno.EACCES)) for name in ("inotify_add_watch", "fanotify_mark")
    ]
    # Its requests pass by this filter; programs that know it do without.
    parts.append(_on(numbers["io_uring_setup"], _deny(errno.ENOSYS)))
    if not truncate:
        parts.append(_on(numbers["truncate"], _deny(errno.EACCES)))
    return b"".join((*parts, allow))


def restrict(*, truncate: bool) -> None:
    """Filter the system calls of this process and all that come from it, for good.

    Raises OSError. ``no_new_privs`` must be set, and ``supported`` be true.
    """
    machine = os.uname().machine
    code = program(machine, truncate=truncate)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number = _number("seccomp", machine)
    flags = ctypes.c_ulong(_KEEP_SPECULATION)
    if libc.syscall(ctypes.c_long(number), ctypes.c_ulong(_SET_FILTER), flags, header) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
