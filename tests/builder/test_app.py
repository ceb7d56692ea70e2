"""The builder as an app of Home Assistant OS, with a stand-in for Supervisor."""

import asyncio
from collections.abc import AsyncIterator
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from aiohttp import web
from esphome_offload_builder.app import home_assistant
from esphome_offload_builder.app.home_assistant import RENEW_EVERY, HomeAssistantApp
from esphome_offload_builder.app.supervisor import AppInfo, SupervisorClient, SupervisorError
from esphome_offload_builder.engine.host.guests import GuestRegistry
from esphome_offload_builder.engine.host.one_time_secret import SECRET_LIFETIME, OneTimeSecret
from esphome_offload_builder.engine.host.server import Served
from esphome_offload_builder.engine.protocol.identity import Identity, load_or_create
from esphome_offload_builder.settings import Settings
from esphome_offload_builder.storage import FileStore
import pytest

from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import Purpose
from custom_components.esphome_offload.engine.protocol.pairing import PairingError

from ..engine.jobs.fakes import VirtualTime, settle
from .running import Guest, running, settings_of
from .supervisor_stand_in import TOKEN, SupervisorStandIn
from .test_program import answer


@pytest.fixture
async def supervisor() -> AsyncIterator[SupervisorStandIn]:
    supervisor = SupervisorStandIn()
    async with supervisor.serving():
        yield supervisor


@pytest.fixture
def app(tmp_path: Path, supervisor: SupervisorStandIn) -> Settings:
    """Return the settings of the app, which does not run yet."""
    return settings_of(tmp_path, supervisor=supervisor.access)


@pytest.fixture
def home_assistant_here(app: Settings, http: aiohttp.ClientSession) -> Guest:
    return Guest(app, http)


async def test_it_offers_itself_to_the_home_assistant_on_its_machine(
    app: Settings, supervisor: SupervisorStandIn
) -> None:
    async with running(app):
        config = await supervisor.told(1)
    assert supervisor.messages[0]["service"] == "esphome_offload"
    pin = load_or_create(app.folder.identity).pin_sha256
    assert (config["host"], config["port"]) == ("127.0.0.1", app.port)
    assert config["pin_sha256"] == pin
    assert len(config["secret"]) == 43


async def test_the_secret_pairs_once_and_another_is_offered_when_the_guest_is_removed(
    app: Settings,
    supervisor: SupervisorStandIn,
    home_assistant_here: Guest,
    http: aiohttp.ClientSession,
) -> None:
    guest = home_assistant_here
    async with running(app):
        secret = (await supervisor.told(1))["secret"]
        await guest.pair(secret, Purpose.PAIR_BY_SECRET)
        assert "secret" not in await supervisor.told(2)
        with pytest.raises(PairingError) as refused:
            await Guest(app, http).pair(secret, Purpose.PAIR_BY_SECRET)
        assert refused.value.code is ErrorCode.WINDOW_CLOSED
        assert "living room" in await answer(app, "guests")

        await answer(app, "guests", "remove", guest.identity.pin_sha256)
        fresh = (await supervisor.told(3))["secret"]
        assert fresh not in (None, secret)
        await guest.pair(fresh, Purpose.PAIR_BY_SECRET)


async def test_a_guest_with_a_code_leaves_the_offer_as_it_is(
    app: Settings, supervisor: SupervisorStandIn, home_assistant_here: Guest
) -> None:
    async with running(app) as builder:
        secret = (await supervisor.told(1))["secret"]
        await home_assistant_here.pair(builder._window.open().code)
        assert (await supervisor.told(1))["secret"] == secret


async def test_after_a_restart_there_is_a_secret_only_for_a_home_assistant_that_is_no_guest(
    app: Settings, supervisor: SupervisorStandIn, home_assistant_here: Guest
) -> None:
    async with running(app):
        first = (await supervisor.told(1))["secret"]
    async with running(app):
        second = (await supervisor.told(2))["secret"]
        assert second not in (None, first)
        await home_assistant_here.pair(second, Purpose.PAIR_BY_SECRET)
        await supervisor.told(3)
    async with running(app):
        assert "secret" not in await supervisor.told(4)


async def test_nothing_secret_is_logged_or_kept(
    app: Settings, supervisor: SupervisorStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    supervisor.refusals = ["System is not ready with state: startup"]
    async with running(app):
        async with asyncio.timeout(20):
            while "System is not ready" not in caplog.text:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.01)
    async with running(app):
        secret = (await supervisor.told(1))["secret"]
    assert secret not in caplog.text
    assert TOKEN not in caplog.text
    kept = [path for path in app.folder.root.rglob("*") if path.is_file()]
    assert all(secret.encode() not in path.read_bytes() for path in kept)


async def test_without_its_page_it_builds_all_the_same(
    app: Settings, supervisor: SupervisorStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.ingress_port = app.port  # it is taken
    async with running(app):
        await supervisor.told(1)
    assert "The page in Home Assistant cannot be served" in caplog.text


# By a clock of its own.


class Stage:
    """The app alone, with a builder whose guests are a registry and nothing else."""

    def __init__(self, root: Path, supervisor: SupervisorStandIn) -> None:
        self.time = VirtualTime()
        self.secret = OneTimeSecret(self.time.monotonic)
        self.pages: list[AppInfo] = []
        self.supervisor = supervisor
        served = SimpleNamespace(
            identity=Identity.generate(),
            secret=self.secret,
            host=SimpleNamespace(guests=GuestRegistry(FileStore(root / "guests.json"))),
        )
        self.app = HomeAssistantApp(
            supervisor=supervisor.access,
            served=cast("Served", served),
            port=16053,
            store=FileStore(root / "app.json"),
            serve_page=self._serve_page,
            time=self.time,
        )

    async def _serve_page(self, info: AppInfo) -> None:
        self.pages.append(info)

    async def asked(self, times: int) -> None:
        """Let the time pass until Supervisor was asked again so often."""
        for _ in range(times):
            async with asyncio.timeout(20):
                while not self.time.next_in:  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0.01)
            await self.time.go(self.time.next_in[0])


@pytest.fixture
async def stage(tmp_path: Path, supervisor: SupervisorStandIn) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, supervisor)
    running = asyncio.create_task(stage.app.run())
    yield stage
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_secret_that_nobody_uses_is_replaced_before_it_is_too_old(stage: Stage) -> None:
    first = (await stage.supervisor.told(1))["secret"]
    while not stage.time.next_in:  # noqa: ASYNC110 - polled
        await asyncio.sleep(0.01)
    assert stage.time.next_in == [RENEW_EVERY]
    assert RENEW_EVERY < SECRET_LIFETIME
    await stage.time.go(RENEW_EVERY)
    second = (await stage.supervisor.told(2))["secret"]
    assert second != first
    assert stage.secret.value == second


async def test_supervisor_is_asked_until_it_is_ready_and_each_reason_logged_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.supervisor.refusals = ["starting", "starting", web.Response(text="<html>"), "busy"]
    await stage.asked(4)
    await stage.supervisor.told(1)
    assert stage.pages == [AppInfo("127.0.0.1", stage.supervisor.ingress_port)]
    reasons = [each.message for each in caplog.records if each.name == home_assistant.__name__]
    assert [each.partition(", ")[2].partition(":")[0] for each in reasons] == [
        "it refuses",
        "it did not answer",
        "it refuses",
    ]


async def test_what_supervisor_does_not_say_rightly_is_an_error(
    supervisor: SupervisorStandIn, http: aiohttp.ClientSession
) -> None:
    client = SupervisorClient(http, supervisor.access)
    for body in ({"result": "ok"}, {"result": "ok", "data": {"ip_address": 1}}, ["ok"]):
        supervisor.refusals = [web.json_response(cast("Any", body))]
        with pytest.raises(SupervisorError):
            await client.app_info()
    await settle()
