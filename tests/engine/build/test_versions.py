"""Which versions there are: real uv, asking an index of our own."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
import shutil
import sys
from typing import NoReturn

from aiohttp import web
from aiohttp.test_utils import TestServer
import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.build.toolchain.uv import Uv, problem
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    VersionError,
    Versions,
    normal_version,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..jobs.fakes import VirtualTime
from .conftest import uv_of
from .package_index import (
    BETA,
    FOR_OLD_PYTHON,
    NEWEST,
    OLDER,
    write_index,
    write_other_index,
)
from .processes import no_descriptors

UNREACHABLE = "http://127.0.0.1:9/simple"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    go_offline(monkeypatch)


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # Offline, uv would still read an index of files.
    monkeypatch.setenv("UV_DEFAULT_INDEX", UNREACHABLE)
    monkeypatch.setenv("UV_OFFLINE", "1")


async def refused(versions: Versions, version: str) -> VersionError:
    with pytest.raises(VersionError) as caught:
        await versions.check(version)
    return caught.value


async def test_the_newest_stable_version_is_no_beta(versions: Versions) -> None:
    assert (await versions.newest(prerelease=False)).version == NEWEST


async def test_the_newest_of_all_counts_betas(versions: Versions) -> None:
    assert (await versions.newest(prerelease=True)).version == BETA


async def test_the_newest_is_that_of_all_indexes(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of Home Assistant's image is asked first, and may have an old one."""
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", write_other_index(tmp_path / "other"))
    assert (await versions.newest(prerelease=False)).version == NEWEST


async def test_the_newest_version_of_the_series_before_is_found(versions: Versions) -> None:
    assert (await versions.newest_before(BETA)).version == NEWEST
    assert (await versions.newest_before(NEWEST)).version == OLDER


async def test_an_index_of_plain_pages_does_not_say_when_a_version_was_uploaded(
    versions: Versions,
) -> None:
    assert (await versions.newest(prerelease=False)).uploaded_at is None


@pytest.mark.usefixtures("socket_enabled")
async def test_when_a_version_was_uploaded_is_what_the_index_says(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_index(tmp_path / "files")
    wheel = f"esphome-{NEWEST}-py3-none-any.whl"

    async def page(_request: web.Request) -> web.Response:
        file = {"filename": wheel, "url": f"/{wheel}", "hashes": {}}
        file["upload-time"] = "2031-02-18T11:43:36.123456Z"
        return web.json_response(
            {"meta": {"api-version": "1.1"}, "name": "esphome", "files": [file]},
            content_type="application/vnd.pypi.simple.v1+json",
        )

    app = web.Application()
    app.router.add_get("/simple/esphome/", page)
    app.router.add_static("/", tmp_path / "files" / "files")
    async with TestServer(app) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", str(server.make_url("/simple")))
        release = await versions.newest(prerelease=False)
    assert release.version == NEWEST
    assert release.uploaded_at is not None
    assert release.uploaded_at.replace(microsecond=0) == datetime(
        2031, 2, 18, 11, 43, 36, tzinfo=UTC
    )


@pytest.mark.parametrize("version", [NEWEST, OLDER, BETA])
async def test_a_version_that_exists_is_accepted(versions: Versions, version: str) -> None:
    await versions.check(version)


async def test_a_version_that_does_not_exist_is_unknown(versions: Versions) -> None:
    error = await refused(versions, "2099.1.0")
    assert error.reason.key is ReasonKey.VERSION_UNKNOWN
    assert "There is no ESPHome 2099.1.0" in str(error)


@pytest.mark.parametrize(
    "version",
    ["", "latest", "2031.2.0; rm -rf /", "--help", "2031.2.0+local", "1!2031.2.0", "../x"],
)
async def test_what_is_no_version_never_reaches_a_command_line(
    layout: CacheLayout, processes: Processes, version: str
) -> None:
    no_uv = Uv(layout, ("/does/not/exist",), layout.root)
    error = await refused(Versions(processes, no_uv, tuple), version)
    assert error.reason.key is ReasonKey.VERSION_INVALID


def test_spellings_of_one_version_are_one() -> None:
    assert normal_version(" v2026.10.0-b1 ") == normal_version("2026.10.0b1") == "2026.10.0b1"


async def test_a_version_for_another_python_is_refused_with_that_reason(
    versions: Versions,
) -> None:
    error = await refused(versions, FOR_OLD_PYTHON)
    assert error.reason.key is ReasonKey.VERSION_OTHER_PYTHON
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in str(error)


async def test_without_an_answer_from_the_index_the_network_is_blamed(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", UNREACHABLE)
    error = await refused(versions, NEWEST)
    assert error.reason.key is ReasonKey.VERSION_UNCHECKED
    assert "check the internet connection" in str(error)


async def test_offline_the_newest_version_is_not_guessed(versions: Versions, offline: None) -> None:
    with pytest.raises(VersionError) as caught:
        await versions.newest(prerelease=False)
    assert caught.value.reason.key is ReasonKey.NEWEST_UNCHECKED


async def test_without_uv_nothing_is_claimed_about_the_version(
    layout: CacheLayout, processes: Processes
) -> None:
    no_uv = Uv(layout, ("/does/not/exist",), layout.root)
    error = await refused(Versions(processes, no_uv, tuple), NEWEST)
    assert error.reason.key is ReasonKey.VERSION_UNCHECKED


async def test_without_room_for_uv_nothing_is_claimed_about_the_version(versions: Versions) -> None:
    with no_descriptors():
        error = await refused(versions, NEWEST)
    assert error.reason.key is ReasonKey.VERSION_UNCHECKED


async def test_the_newest_version_is_not_known_while_the_disk_cannot_be_used(
    versions: Versions, layout: CacheLayout
) -> None:
    shutil.rmtree(layout.tmp)
    layout.tmp.write_text("in the way")
    with pytest.raises(VersionError) as caught:
        await versions.newest(prerelease=False)
    assert caught.value.reason == Reason(ReasonKey.NEWEST_UNCHECKED, line="File exists")


async def test_an_installed_version_needs_no_network(
    layout: CacheLayout, processes: Processes
) -> None:
    no_uv = Uv(layout, ("/does/not/exist",), layout.root)
    await Versions(processes, no_uv, lambda: (NEWEST,)).check(NEWEST)


async def test_an_installed_version_does_not_wait_for_another_question(
    layout: CacheLayout, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks, may_answer = asyncio.Event(), asyncio.Event()

    async def capture(*_args: object, **_kwargs: object) -> NoReturn:
        asks.set()
        await may_answer.wait()
        raise TimeoutError

    monkeypatch.setattr(processes, "capture", capture)
    versions = Versions(processes, uv_of(layout), lambda: (NEWEST,))
    question = asyncio.create_task(versions.newest(prerelease=False))
    await asks.wait()
    async with asyncio.timeout(5):
        await versions.check(NEWEST)
    assert not question.done()
    may_answer.set()
    with pytest.raises(VersionError):
        await question


async def test_what_was_answered_is_not_asked_again(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*(versions.check(NEWEST) for _ in range(20)))
    await versions.newest(prerelease=False)
    go_offline(monkeypatch)
    await versions.check(NEWEST)
    assert (await versions.newest(prerelease=False)).version == NEWEST


async def test_the_newest_version_is_looked_up_again_after_a_while(
    layout: CacheLayout,
    processes: Processes,
    toolchains: Toolchains,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = VirtualTime()
    versions = Versions(processes, uv_of(layout), toolchains.installed, time)
    await versions.newest(prerelease=False)
    go_offline(monkeypatch)
    await time.go(3600)
    with pytest.raises(VersionError):
        await versions.newest(prerelease=False)


def test_an_older_way_to_frame_messages_is_read_as_well() -> None:
    assert (
        problem(
            "  \u00d7 No solution found when resolving dependencies:\n"
            "  ╰─▶ Because there is no version of\n"
            "      esphome==2099.1.0 and you require esphome==2099.1.0, we can conclude\n"
        )
        is ReasonKey.VERSION_UNKNOWN
    )
