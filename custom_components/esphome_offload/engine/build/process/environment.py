"""The environment of subprocesses: an allow-list of ours, never a copy."""

from collections.abc import Mapping
import os
from pathlib import Path

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
    return {
        **_allowed(base, _PASSED | _UV_PASSED, _PASSED_PREFIXES + _UV_PASSED_PREFIXES),
        "HOME": str(home),
        "TMPDIR": str(tmpdir),
        "UV_CACHE_DIR": str(cache),
        **(extra or {}),
    }


def _allowed(
    base: Mapping[str, str], names: frozenset[str], prefixes: tuple[str, ...]
) -> dict[str, str]:
    passed = {
        name: value for name, value in base.items() if name in names or name.startswith(prefixes)
    }
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed}
