"""Which C library this Python was built for."""

import platform
import sysconfig


def is_musl() -> bool:
    """Return whether it is musl: packages and compilers for glibc do not run then."""
    return "musl" in (sysconfig.get_config_var("SOABI") or "") or platform.libc_ver()[0] == "musl"
