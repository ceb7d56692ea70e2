"""A filter of system calls, for what harms others and Landlock knows no right for.

The numbers are those of the kernel's ``linux/seccomp.h``, ``linux/filter.h``, ``linux/audit.h``
and ``asm/unistd.h``.
"""

import ctypes
import errno
import os
import struct

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}

# By name: the number on x86_64, and the generic one that the two others have. None: not there.
_CHECKED: dict[str, tuple[int, int | None]] = {
    "open": (2, None),
    "creat": (85, None),
    "openat": (257, 56),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "clone": (56, 220),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "prlimit64": (302, 261),
    "truncate": (76, 45),
    "seccomp": (317, 277),
}

_DENIED: dict[str, tuple[int, int | None]] = {
    # Keyrings belong to a user or a session and stay.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # So do objects of System V and message queues; those of others can be used and removed.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # A user namespace gives all capabilities in it, and so most of the kernel to attack.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    # Other processes: their memory, their files, where they run.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Code in the kernel, or a large and often attacked part of it.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    "modify_ldt": (154, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "lookup_dcookie": (212, 18),
    # Files by handle are opened without their folders.
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # The machine.
    "iopl": (172, None),
    "ioperm": (173, None),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "syslog": (103, 116),
    "vhangup": (153, 58),
}

# Landlock lets any folder be watched, which tells the names of files that others use in it.
_WATCHING: dict[str, tuple[int, int | None]] = {
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
}

# Their arguments are in memory, where no filter can read them, or their requests pass by it;
# programs use the older calls where these are missing.
_MISSING: dict[str, tuple[int, int | None]] = {
    "clone3": (435, 435),
    "openat2": (437, 437),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
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

_SET_ID_BITS = 0o6000
# The call, which argument holds the mode, and which flags there are only with a mode.
_MODES = (
    ("openat", 3, 2),
    ("open", 2, 1),
    ("creat", 1, None),
    ("chmod", 1, None),
    ("fchmod", 1, None),
    ("fchmodat", 2, None),
    ("fchmodat2", 2, None),
    ("mknod", 1, None),
    ("mknodat", 2, None),
)
_O_CREAT_OR_TMPFILE = 0o100 | 0o20000000

_CLONE_NEW = 0x7E020000
"""``CLONE_NEWNS``, ``NEWCGROUP``, ``NEWUTS``, ``NEWIPC``, ``NEWUSER``, ``NEWPID``, ``NEWNET``."""

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0
_SOCK_STREAM = 1
_SOCK_TYPES = 0xF
"""Beside them the same argument holds flags."""
_X32 = 0x40000000
"""The third set of system calls of an x86_64 kernel counts from here."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_SET_FILTER = 1
_KEEP_SPECULATION = 1 << 2
"""Kernels before 5.16 else slow all that is filtered down; newer ones leave that to the program."""


def supported() -> bool:
    """Return whether the numbers of this machine's system calls are known."""
    return os.uname().machine in _AUDIT_ARCH


def _numbers(table: dict[str, tuple[int, int | None]], machine: str) -> dict[str, int]:
    index = 0 if machine == "x86_64" else 1
    return {name: number for name, each in table.items() if (number := each[index]) is not None}


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _deny(error: int) -> bytes:
    return _instruction(_RETURN, _ERROR | error)


_PASS = _instruction(_RETURN, _ALLOW)


def _load_argument(index: int) -> bytes:
    # The lower half, which is all that the kernel looks at of an int; these are little-endian.
    return _instruction(_LOAD, _ARGUMENTS_AT + 8 * index)


def _on(number: int, then: bytes) -> bytes:
    """Apply ``then``, which must return, to one system call."""
    return _instruction(_EQUAL, number, 0, len(then) // 8) + then


def _deny_bits(index: int, bits: int) -> bytes:
    """Deny what has any of these bits in an argument, and allow all other."""
    return _load_argument(index) + _instruction(_ANY_BIT, bits, 0, 1) + _deny(errno.EPERM) + _PASS


def _mode(index: int, flags: int | None) -> bytes:
    """Deny a mode with a set-user-id or set-group-id bit."""
    check = _deny_bits(index, _SET_ID_BITS)
    if flags is None:
        return check
    # Without one of these the argument is not given and holds anything.
    return _load_argument(flags) + _instruction(_ANY_BIT, _O_CREAT_OR_TMPFILE, 1, 0) + _PASS + check


def _sockets() -> bytes:
    """Allow the internet, and to ask the kernel for addresses and routes."""
    # Landlock does not know sockets that have a path: a container engine or D-Bus listens there.
    # Others reach the host of a virtual machine, devices nearby, or seldom used kernel code.
    netlink = _load_argument(2) + _instruction(_EQUAL, _NETLINK_ROUTE, 0, 1) + _PASS
    netlink += _deny(errno.EAFNOSUPPORT)
    return b"".join(
        (
            _load_argument(0),
            _instruction(_EQUAL, _AF_INET, 0, 1) + _PASS,
            _instruction(_EQUAL, _AF_INET6, 0, 1) + _PASS,
            _instruction(_EQUAL, _AF_UNIX, 0, 1) + _deny(errno.EACCES),
            _on(_AF_NETLINK, netlink),
            _deny(errno.EAFNOSUPPORT),
        )
    )


def program(machine: str, *, truncate: bool) -> bytes:
    """Return the filter for a machine; ``truncate`` says whether to allow that call."""
    numbers = _numbers(_CHECKED, machine)
    parts = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        # 32-bit programs have other numbers.
        _instruction(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _deny(errno.ENOSYS),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":
        parts += [_instruction(_AT_LEAST, _X32, 0, 1), _deny(errno.ENOSYS)]
    # What builds call often comes first; of calls that are always allowed the kernel knows it.
    parts += [
        _on(numbers[name], _mode(index, flags)) for name, index, flags in _MODES if name in numbers
    ]
    parts.append(_on(numbers["clone"], _deny_bits(0, _CLONE_NEW)))
    for name, only in _ONLY_ITSELF.items():
        checks = b"".join(
            _load_argument(index) + _instruction(_EQUAL, value, 1, 0) + _deny(errno.EPERM)
            for index, value in only
        )
        parts.append(_on(numbers[name], checks + _PASS))
    parts.append(_on(numbers["socket"], _sockets()))
    # A pair is fine unless half of it can be connected to something else.
    pair = _load_argument(1) + _instruction(_AND, _SOCK_TYPES)
    pair += _instruction(_EQUAL, _SOCK_STREAM, 1, 0) + _deny(errno.EACCES) + _PASS
    parts.append(_on(numbers["socketpair"], pair))
    for table, error in (
        (_DENIED, errno.EPERM),
        (_WATCHING, errno.EACCES),
        (_MISSING, errno.ENOSYS),
    ):
        parts += [_on(number, _deny(error)) for number in _numbers(table, machine).values()]
    if not truncate:
        parts.append(_on(numbers["truncate"], _deny(errno.EACCES)))
    return b"".join((*parts, _PASS))


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
    number = _numbers(_CHECKED, machine)["seccomp"]
    flags = ctypes.c_ulong(_KEEP_SPECULATION)
    if libc.syscall(ctypes.c_long(number), ctypes.c_ulong(_SET_FILTER), flags, header) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
