"""The files of the system that a contained build may use."""

from typing import Final

INSTALLED_IN: Final = ("/", "/usr", "/usr/local")
# With `lib64` and its like; not `etc`, `src`, `var` or what else may be kept there.
PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "include", "share")
# Where all programs of such systems are.
STORES: Final = ("/nix/store", "/gnu/store")

SETTINGS: Final = (
    # Libraries
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    # Certificates, but not the keys beside them
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    # Names of hosts; each is often a link to a file elsewhere, which the rule is then about
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/run/systemd/resolve",
    # Names of users, languages, time zones and of the system
    "/etc/group",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/terminfo",
    "/etc/timezone",
    # Settings of programs; git fails where it must not read its own
    "/etc/ccache.conf",
    "/etc/gitconfig",
)
KERNEL: Final = (
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/vm/overcommit_memory",
    "/proc/version",
    "/sys/devices/system/cpu",
)
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
