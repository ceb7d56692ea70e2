"""Run a program on a kernel that says that it has no Landlock, like that of Home Assistant OS."""

import ctypes
import errno
import os
from pathlib import Path
import struct
import sys

sys.path.insert(0, str(Path(__file__).parents[4] / "builder"))

from esphome_offload_builder.engine.build.launcher import seccomp

_LANDLOCK = (444, 445, 446)


def main() -> None:
    """Answer ENOSYS to its system calls, for good, and become the program."""
    load = seccomp._instruction(seccomp._LOAD, seccomp._NUMBER_AT)
    missing = seccomp._deny(errno.ENOSYS)
    code = load + b"".join(seccomp._on(number, missing) for number in _LANDLOCK) + seccomp._PASS
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.prctl(38, 1, 0, 0, 0)
    if libc.prctl(22, 2, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no filter")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
