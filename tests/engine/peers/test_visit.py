"""Visiting a builder over a real connection: who is there, and does it know us."""

import asyncio
from collections.abc import AsyncIterator
import socket

import aiohttp
from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.client import probe as visit
from custom_components.esphome_offload.engine.client.probe import ProbeError, ProbeFailure
from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.tickets import ClockSkewError

from .builder_server import BuilderServer, answering, serving

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def builder(workshop: Identity, socket_enabled: None) -> AsyncIterator[BuilderServer]:
    builder = BuilderServer(workshop)
    async with serving(builder.app) as builder.url:
        yield builder


def nobody() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


async def trouble(session: aiohttp.ClientSession, urls: list[str], offer: Offer) -> ProbeFailure:
    with pytest.raises(ProbeError) as caught:
        await visit.find(session, urls, offer)
    return caught.value.trouble


async def test_a_builder_is_found_among_addresses_where_nobody_is(
    session: aiohttp.ClientSession, builder: BuilderServer, offer: Offer
) -> None:
    url, info = await visit.find(
        session, [nobody(), builder.url.replace("http:", "https:"), builder.url], offer
    )
    assert url == builder.url
    assert (info.pin_sha256, info.label, info.pairing) == (
        builder.identity.pin_sha256,
        "workshop",
        False,
    )


async def test_the_likelier_address_wins_however_slow(
    session: aiohttp.ClientSession, builder: BuilderServer, offer: Offer
) -> None:
    async def slowly(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        return await builder._info(request)

    app = web.Application()
    app.router.add_get("/{tail:.*}", slowly)
    async with serving(app) as slow:
        assert (await visit.find(session, [slow, builder.url], offer))[0] == slow


async def test_an_answer_may_come_in_pieces(
    session: aiohttp.ClientSession, builder: BuilderServer, offer: Offer
) -> None:
    async def in_pieces(request: web.Request) -> web.StreamResponse:
        whole = await builder._info(request)
        assert isinstance(whole.body, bytes)
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(whole.body), 50):
            await response.write(whole.body[start : start + 50])
            await asyncio.sleep(0.001)
        return response

    app = web.Application()
    app.router.add_get("/{tail:.*}", in_pieces)
    async with serving(app) as url:
        assert (await visit.find(session, [url], offer))[1].label == "workshop"


async def test_where_nobody_answers_is_said_so(
    session: aiohttp.ClientSession, offer: Offer
) -> None:
    assert await trouble(session, [nobody()], offer) is ProbeFailure.CANNOT_CONNECT


@pytest.mark.parametrize(
    "response",
    [
        lambda: web.Response(status=404),
        lambda: web.Response(text="<html>a router</html>"),
        lambda: web.Response(body=b" " * 100_000),
        lambda: web.Response(body=b"[" * 8000),
        lambda: web.Response(status=302, headers={"Location": "http://elsewhere.example/"}),
        lambda: web.Response(status=302),
    ],
)
async def test_a_server_without_the_integration_is_said_to_be_one(
    session: aiohttp.ClientSession, offer: Offer, response: object
) -> None:
    assert callable(response)
    async with serving(answering(lambda _request: response())) as url:
        assert await trouble(session, [nobody(), url], offer) is ProbeFailure.NO_OFFLOAD


async def test_json_that_says_nothing_is_not_understood(
    session: aiohttp.ClientSession, offer: Offer
) -> None:
    async with serving(answering(lambda _request: web.json_response([]))) as url:
        assert await trouble(session, [url], offer) is ProbeFailure.MALFORMED


async def test_a_builder_that_is_not_lent_says_so(
    session: aiohttp.ClientSession, builder: BuilderServer, offer: Offer
) -> None:
    builder.lending = False
    assert await trouble(session, [builder.url], offer) is ProbeFailure.NOT_LENDING


@pytest.mark.parametrize(("theirs", "ours", "expected"), [(1, 2, "too_old"), (3, 2, "too_new")])
async def test_a_builder_of_another_age_is_recognised(
    session: aiohttp.ClientSession,
    builder: BuilderServer,
    offer: Offer,
    theirs: int,
    ours: int,
    expected: str,
) -> None:
    builder.speak(theirs)
    own = Offer(ours, ours, offer.capabilities, offer.version)
    assert await trouble(session, [builder.url], own) == expected


async def test_a_proxy_that_sends_on_to_https_is_followed_there(
    session: aiohttp.ClientSession, offer: Offer
) -> None:
    def redirect(request: web.Request) -> web.Response:
        there = request.url.with_scheme("https").with_port(request.url.port)
        return web.Response(status=301, headers={"Location": str(there)})

    async with serving(answering(redirect)) as url:
        with pytest.raises(ProbeError) as caught:
            await visit.find(session, [url], offer)
    # Nobody speaks TLS there.
    assert caught.value.url == url.replace("http:", "https:")
    assert caught.value.trouble is ProbeFailure.CANNOT_CONNECT


async def test_the_peer_itself_is_told_from_others(
    session: aiohttp.ClientSession,
    builder: BuilderServer,
    pi: Identity,
    mallory: Identity,
    offer: Offer,
) -> None:
    code = builder.open()
    paired = await visit.pairing(session, builder.url, pi, offer, "pi").pair(code)
    assert paired.public == builder.identity.public
    await visit.prove(session, builder.url, pi, paired.public)

    builder.clock_ahead = 3600
    with pytest.raises(ClockSkewError):
        await visit.prove(session, builder.url, pi, paired.public)
    builder.clock_ahead = 0
    builder.guests.clear()
    with pytest.raises(ProtocolError) as unknown:
        await visit.prove(session, builder.url, pi, paired.public)
    assert unknown.value.code is ErrorCode.UNKNOWN_GUEST
    builder.become(mallory)
    builder.guests[pi.pin_sha256] = pi.public
    with pytest.raises(ProtocolError) as other:
        await visit.prove(session, builder.url, pi, paired.public)
    assert other.value.code is ErrorCode.TAMPERED


async def test_a_knock_heeds_no_answer(
    session: aiohttp.ClientSession, builder: BuilderServer
) -> None:
    await visit.ping(session, nobody(), "/api")
    await visit.ping(session, builder.url, "/api/nothing")
