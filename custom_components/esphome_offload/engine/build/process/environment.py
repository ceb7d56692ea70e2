"""The environment of subprocesses: an allow-list of ours, never a copy."""

from collections.abc import Mapping
import os
from pathlib import Path

from ...libc import is_musl

CERTIFICATE_VARIABLES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
)
"""Paths of certificates, for a network that inspects TLS."""
_PASSED = frozenset(
    {
        *CERTIFICATE_VARIABLES,
        "PATH",
        "LANG",
        "LANGUAGE",
        # Proxies; programs disagree about the case.
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        # Where the interpreter itself finds its libraries.
        "LD_LIBRARY_PATH",
        # A compiler cache that several machines share; its owner gives it to all builds, those of
        # guests too.
        "CCACHE_REMOTE_STORAGE",
        "CCACHE_REMOTE_ONLY",
        "CCACHE_RESHARE",
    }
)
_PASSED_PREFIXES = ("LC_",)

_UV_PASSED = frozenset(
    {
        "UV_INDEX",
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_INDEX_STRATEGY",
        "UV_FIND_LINKS",
        "UV_KEYRING_PROVIDER",
        "UV_INSECURE_HOST",
        "UV_NATIVE_TLS",
        "UV_SYSTEM_CERTS",
        "UV_HTTP_TIMEOUT",
        "UV_OFFLINE",
        "UV_CONFIG_FILE",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_TRUSTED_HOST",
        "PIP_CERT",
        "PIP_CLIENT_CERT",
        "PIP_CONFIG_FILE",
        "NETRC",
        # Where uv looks for its own configuration.
        "XDG_CONFIG_HOME",
        "XDG_CONFIG_DIRS",
    }
)
# UV_INDEX_<NAME>_USERNAME and _PASSWORD hold the credentials of a private index.
_UV_PASSED_PREFIXES = ("UV_INDEX_",)
# Lists of addresses, separated by white space.
_MORE_INDEXES = ("UV_EXTRA_INDEX_URL", "UV_INDEX")
_MUSL_INDEX = "musllinux"
"""In the address of Home Assistant's own index, which its images set: it has wheels for musl only."""


def process_environment(
    base: Mapping[str, str],
    *,
    time_zone: str,
    home: Path,
    tmpdir: Path,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment of an ESPHome process.

    ``base`` is ours; ``time_zone`` is the requester's IANA zone, which ESPHome's ``time:`` takes
    from the build host when the YAML names none. ``extra`` is added last.
    """
    return {
        **_allowed(base, _PASSED, _PASSED_PREFIXES),
        "TZ": time_zone,
        "HOME": str(home),
        "TMPDIR": str(tmpdir),
        # Output as it happens, in one encoding.
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        **(extra or {}),
    }


def uv_environment(
    base: Mapping[str, str],
    *,
    home: Path,
    tmpdir: Path,
    cache: Path,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment of a ``uv`` process, with the package index that we were given.

    Its settings may hold credentials, so it is never that of a guest's build. ``cache`` is where
    uv keeps what it downloaded.
    """
    allowed = _allowed(base, _PASSED | _UV_PASSED, _PASSED_PREFIXES + _UV_PASSED_PREFIXES)
    if not is_musl():
        allowed = _without_musl_indexes(allowed)
    return {
        # As Home Assistant does: by itself uv takes a package only from the first index that has
        # any version of it.
        "UV_INDEX_STRATEGY": "unsafe-first-match",
        **allowed,
        "HOME": str(home),
        "TMPDIR": str(tmpdir),
        "UV_CACHE_DIR": str(cache),
        **(extra or {}),
    }


def _without_musl_indexes(environment: Mapping[str, str]) -> dict[str, str]:
    kept = dict(environment)
    for name in _MORE_INDEXES:
        addresses = kept.pop(name, "").split()
        if usable := [each for each in addresses if _MUSL_INDEX not in each]:
            kept[name] = " ".join(usable)
    return kept


def _allowed(
    base: Mapping[str, str], names: frozenset[str], prefixes: tuple[str, ...]
) -> dict[str, str]:
    passed = {
        name: value for name, value in base.items() if name in names or name.startswith(prefixes)
    }
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed}
