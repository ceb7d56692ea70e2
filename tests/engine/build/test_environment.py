from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.process import environment
from custom_components.esphome_offload.engine.build.process.environment import (
    process_environment,
    uv_environment,
)

OURS = {
    "PATH": "/usr/local/bin:/usr/bin",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "de_DE.UTF-8",
    "TZ": "America/New_York",
    "HOME": "/root",
    "https_proxy": "http://proxy:3128",
    "NO_PROXY": "localhost",
    "SSL_CERT_FILE": "/ca.pem",
    "SUPERVISOR_TOKEN": "secret",
    "HASSIO_TOKEN": "secret",
    "VIRTUAL_ENV": "/srv/homeassistant",
    "PYTHONPATH": "/srv",
    "PYTHONDONTWRITEBYTECODE": "1",
    "UV_DEFAULT_INDEX": "https://user:secret@index.invalid/simple",
    "UV_INDEX_PRIVATE_PASSWORD": "secret",
    "PIP_CERT": "/ca.pem",
    "SOMETHING": "else",
}


def esphome_environment(base: dict[str, str], **extra: str) -> dict[str, str]:
    return process_environment(
        base, time_zone="Europe/Berlin", home=Path("/c/home"), tmpdir=Path("/c/tmp"), extra=extra
    )


def uv(base: dict[str, str]) -> dict[str, str]:
    return uv_environment(base, home=Path("/h"), tmpdir=Path("/c/tmp"), cache=Path("/c/uv"))


def test_a_process_gets_what_is_allowed_and_nothing_else() -> None:
    assert esphome_environment(OURS) == {
        "PATH": "/usr/local/bin:/usr/bin",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "de_DE.UTF-8",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": "/ca.pem",
        "TZ": "Europe/Berlin",
        "HOME": "/c/home",
        "TMPDIR": "/c/tmp",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def test_what_is_added_wins() -> None:
    passed = esphome_environment(OURS, ESPHOME_DATA_DIR="/c/data", PATH="/toolchain/bin")
    assert passed["ESPHOME_DATA_DIR"] == "/c/data"
    assert passed["PATH"] == "/toolchain/bin"


def test_an_empty_environment_still_finds_programs_and_prints_utf8() -> None:
    passed = esphome_environment({})
    assert "/bin" in passed["PATH"]
    assert passed["LANG"] == "C.UTF-8"


def test_only_uv_is_told_about_the_package_index() -> None:
    index = {"UV_DEFAULT_INDEX", "UV_INDEX_PRIVATE_PASSWORD", "PIP_CERT"}
    assert index <= uv(OURS).keys()
    assert not index & esphome_environment(OURS).keys()
    assert uv(OURS)["UV_CACHE_DIR"] == "/c/uv"


def test_nobody_gets_our_tokens_or_our_python() -> None:
    for passed in (esphome_environment(OURS), uv(OURS)):
        assert not passed.keys() & {
            "SUPERVISOR_TOKEN",
            "HASSIO_TOKEN",
            "VIRTUAL_ENV",
            "PYTHONPATH",
            "PYTHONDONTWRITEBYTECODE",
            "SOMETHING",
        }


def test_uv_takes_a_version_from_whichever_index_has_it_as_home_assistant_does() -> None:
    assert uv(OURS)["UV_INDEX_STRATEGY"] == "unsafe-first-match"
    assert uv(OURS | {"UV_INDEX_STRATEGY": "first-index"})["UV_INDEX_STRATEGY"] == "first-index"


IMAGE = "https://index.invalid/musllinux-index/"
OWN = "https://own.invalid/simple"


def test_the_index_of_a_musl_image_is_not_for_builds_on_glibc() -> None:
    assert "UV_EXTRA_INDEX_URL" not in uv({"UV_EXTRA_INDEX_URL": IMAGE})
    more = {"UV_EXTRA_INDEX_URL": f"{IMAGE} {OWN}", "UV_INDEX": OWN}
    assert uv(more)["UV_EXTRA_INDEX_URL"] == uv(more)["UV_INDEX"] == OWN


def test_on_musl_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "is_musl", lambda: True)
    assert uv({"UV_EXTRA_INDEX_URL": IMAGE})["UV_EXTRA_INDEX_URL"] == IMAGE


def test_a_compiler_cache_that_machines_share_is_passed_on() -> None:
    shared = {"CCACHE_REMOTE_STORAGE": "redis://cache", "CCACHE_DIR": "/somewhere"}
    passed = esphome_environment(shared)
    assert passed["CCACHE_REMOTE_STORAGE"] == "redis://cache"
    assert "CCACHE_DIR" not in passed
