"""A client of a running Home Assistant: onboarding, REST and websocket, as a browser has them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self
import uuid

import aiohttp

# Anything JSON that Home Assistant answers with; its shape is what the callers check.
type Json = Any

USERNAME = "demo"
PASSWORD = "demo"  # an instance that listens on 127.0.0.1 alone, with nothing in it

# The reasons with which flows that change an entry end well.
_GOOD_ENDS = ("paired_again", "address_changed", "reconfigure_successful")

_ANSWER = 120.0  # decides nothing but when a test fails


class RequestFailedError(Exception):
    """Home Assistant refused; ``code`` is its error code or HTTP status, ``body`` its answer."""

    def __init__(self, what: str, code: str, message: str, body: Json = None) -> None:
        super().__init__(f"{what}: {code}: {message}")
        self.code = code
        self.message = message
        self.body = body


class Client:
    """One authenticated session. Use as ``async with Client.onboard(url)`` or ``.login(url)``."""

    def __init__(self, url: str, session: aiohttp.ClientSession, token: str) -> None:
        self.url = url
        self.session = session
        self._headers = {"Authorization": f"Bearer {token}"}
        self._token = token
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ids = 0
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._events: dict[int, asyncio.Queue[Json]] = {}

    @property
    def token(self) -> str:
        """The access token of this login."""
        return self._token

    @classmethod
    async def onboard(cls, url: str) -> Self:
        """Create the owner of a fresh Home Assistant and finish its onboarding."""
        session = aiohttp.ClientSession()
        try:
            user = {
                "client_id": f"{url}/",
                "name": "Demo",
                "username": USERNAME,
                "password": PASSWORD,
                "language": "en",
            }
            created = await _post(session, f"{url}/api/onboarding/users", json=user)
            client = cls(url, session, await _token(session, url, created["auth_code"]))
            for step in ("core_config", "analytics"):
                await client.post(f"onboarding/{step}", {})
            redirect = {"client_id": f"{url}/", "redirect_uri": f"{url}/"}
            await client.post("onboarding/integration", redirect)
            await client._connect()
        except BaseException:
            await session.close()
            raise
        return client

    @classmethod
    async def login(cls, url: str) -> Self:
        """Log in as the owner that ``onboard`` created."""
        session = aiohttp.ClientSession()
        try:
            handler = {
                "client_id": f"{url}/",
                "handler": ["homeassistant", None],
                "redirect_uri": f"{url}/",
            }
            flow = await _post(session, f"{url}/auth/login_flow", json=handler)
            credentials = {"client_id": f"{url}/", "username": USERNAME, "password": PASSWORD}
            done = await _post(
                session, f"{url}/auth/login_flow/{flow['flow_id']}", json=credentials
            )
            client = cls(url, session, await _token(session, url, done["result"]))
            await client._connect()
        except BaseException:
            await session.close()
            raise
        return client

    async def close(self) -> None:
        """Close the session."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        if self._socket is not None:
            await self._socket.close()
        await self.session.close()

    async def get(self, path: str) -> Json:
        """GET /api/``path``."""
        return await _request(self.session, "GET", f"{self.url}/api/{path}", headers=self._headers)

    async def post(self, path: str, data: Json) -> Json:
        """POST to /api/``path``."""
        return await _post(self.session, f"{self.url}/api/{path}", json=data, headers=self._headers)

    async def add_entry(self, domain: str, answers: Mapping[str, Json]) -> Json:
        """Walk through a config flow with the fields of all its forms; return the new entry."""
        flow = await self.post("config/config_entries/flow", {"handler": domain})
        return await self._walk("config/config_entries/flow", flow, answers)

    async def remove_entry(self, entry_id: str) -> None:
        """Remove a config entry."""
        url = f"{self.url}/api/config/config_entries/entry/{entry_id}"
        await _request(self.session, "DELETE", url, headers=self._headers)

    async def change_options(self, entry_id: str, part: str, **wanted: Json) -> None:
        """Change some options in a part of the menu, leaving the rest as the form shows it.

        ``wanted`` is by the names of the fields, whatever section of the form they are in.
        """
        path = "config/config_entries/options/flow"
        menu = await self.post(path, {"handler": entry_id})
        form = await self.post(f"{path}/{menu['flow_id']}", {"next_step_id": part})
        left = dict(wanted)
        answers = _filled_in(form["data_schema"], left)
        if left:
            raise RequestFailedError(path, "no such option", ", ".join(left), form)
        await self._walk(path, form, answers)

    async def flows(self) -> list[Json]:
        """Return the config flows in progress."""
        return await self.call("config_entries/flow/progress")  # type: ignore[no-any-return]

    async def finish_flow(self, flow_id: str, answers: Mapping[str, Json]) -> Json:
        """Walk through a config flow that Home Assistant has started; return its result."""
        path = "config/config_entries/flow"
        return await self._walk(path, await self.get(f"{path}/{flow_id}"), answers)

    async def running(self) -> bool:
        """Return whether all integrations are set up; it answers requests before that."""
        return bool((await self.call("get_config"))["state"] == "RUNNING")

    async def _walk(self, path: str, flow: Json, answers: Mapping[str, Json]) -> Json:
        for _ in range(5):  # no flow here has more steps
            match flow["type"]:
                case "create_entry":
                    return flow.get("result")  # an options flow has none
                case "abort" if flow["reason"] in _GOOD_ENDS:
                    return flow["reason"]
                case "form" if not flow.get("errors"):
                    wanted = [field["name"] for field in flow["data_schema"]]
                    given = {name: answers[name] for name in wanted if name in answers}
                    flow = await self.post(f"{path}/{flow['flow_id']}", given)
                case "progress":  # the code to pair with; the options are stored before it is shown
                    url = f"{self.url}/api/{path}/{flow['flow_id']}"
                    await _request(self.session, "DELETE", url, headers=self._headers)
                    return None
                case _:
                    break
        raise RequestFailedError(
            path, flow["type"], str(flow.get("errors") or flow.get("reason")), flow
        )

    async def reload(self, entry_id: str) -> None:
        """Reload a config entry."""
        await self.post(f"config/config_entries/entry/{entry_id}/reload", {})

    async def call(self, type_: str, **fields: Json) -> Json:
        """Send a websocket command and return its result; raises RequestFailedError."""
        return await self._send(type_, fields)

    async def service(
        self,
        name: str,
        target: Mapping[str, Json] | None = None,
        data: Mapping[str, Json] | None = None,
        *,
        response: bool = False,
        seconds: float = _ANSWER,
    ) -> Json:
        """Call an action, "domain.name"; with ``response`` returns what it answers."""
        domain, _, service = name.partition(".")
        fields: dict[str, Json] = {"domain": domain, "service": service}
        fields["service_data"] = data or {}
        if target is not None:
            fields["target"] = target
        if response:
            fields["return_response"] = True
        result = await self._send("call_service", fields, seconds)
        return result["response"] if response else result

    @asynccontextmanager
    async def subscribe(
        self, type_: str, *, into: asyncio.Queue[Json] | None = None, **fields: Json
    ) -> AsyncIterator[asyncio.Queue[Json]]:
        """Subscribe by a websocket command; yields the queue its events come in.

        Subscriptions may share a queue (``into``), which keeps the order between them.
        """
        events: asyncio.Queue[Json] = asyncio.Queue() if into is None else into
        self._ids += 1
        number = self._ids
        self._events[number] = events
        try:
            await self._ask(number, type_, fields, _ANSWER)
            yield events
        finally:
            del self._events[number]
            if self._socket is not None and not self._socket.closed:
                with suppress(RequestFailedError, ConnectionError, TimeoutError):
                    await self._send("unsubscribe_events", {"subscription": number})

    async def state(self, entity_id: str) -> Json:
        """Return an entity's state object, None when there is no such entity."""
        try:
            return await self.get(f"states/{entity_id}")
        except RequestFailedError as error:
            if error.code == "404":
                return None
            raise

    async def _connect(self) -> None:
        # Job logs come in bursts; the limit that counts is Home Assistant's.
        self._socket = await self.session.ws_connect(f"{self.url}/api/websocket", max_msg_size=0)
        async with asyncio.timeout(_ANSWER):
            await self._socket.receive_json()
            await self._socket.send_json({"type": "auth", "access_token": self._token})
            answer = await self._socket.receive_json()
        if answer["type"] != "auth_ok":
            raise RequestFailedError("websocket", answer["type"], str(answer.get("message")))
        self._reader = asyncio.create_task(self._read(self._socket))
        # The token of a login is good for half an hour, less than all tests take on a busy machine.
        name = uuid.uuid4().hex
        token = await self.call("auth/long_lived_access_token", client_name=name, lifespan=1)
        self._headers = {"Authorization": f"Bearer {token}"}

    async def _send(self, type_: str, fields: Mapping[str, Json], seconds: float = _ANSWER) -> Json:
        self._ids += 1
        return await self._ask(self._ids, type_, fields, seconds)

    async def _ask(
        self, number: int, type_: str, fields: Mapping[str, Json], seconds: float
    ) -> Json:
        if self._socket is None or self._socket.closed:
            raise ConnectionError("the websocket is closed")
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._socket.send_json({"id": number, "type": type_, **fields})
            async with asyncio.timeout(seconds):
                message = await answer
        finally:
            self._answers.pop(number, None)
        if not message["success"]:
            error = message["error"]
            raise RequestFailedError(type_, error["code"], error["message"], error)
        return message["result"]

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                break
            content = frame.json()
            for message in content if isinstance(content, list) else [content]:
                number = message["id"]
                if message["type"] == "event" and (events := self._events.get(number)):
                    events.put_nowait(message["event"])
                answer = self._answers.get(number)
                if message["type"] == "result" and answer is not None and not answer.done():
                    answer.set_result(message)
        for events in self._events.values():
            events.shutdown()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("Home Assistant closed the websocket"))


def _filled_in(schema: list[Json], wanted: dict[str, Json]) -> dict[str, Json]:
    """Return the data for a form as it is shown; remove what is used from ``wanted``."""
    answers: dict[str, Json] = {}
    for field in schema:
        name = field["name"]
        if field.get("type") == "expandable":
            answers[name] = _filled_in(field["schema"], wanted)
        elif name in wanted:
            answers[name] = wanted.pop(name)
        elif "suggested_value" in (field.get("description") or {}):
            answers[name] = field["description"]["suggested_value"]
        elif "default" in field:
            answers[name] = field["default"]
    return answers


async def _token(session: aiohttp.ClientSession, url: str, code: str) -> str:
    form = {"client_id": f"{url}/", "grant_type": "authorization_code", "code": code}
    return (await _post(session, f"{url}/auth/token", data=form))["access_token"]  # type: ignore[no-any-return]


async def _post(session: aiohttp.ClientSession, url: str, **arguments: Json) -> Json:
    return await _request(session, "POST", url, **arguments)


async def _request(
    session: aiohttp.ClientSession, method: str, url: str, **arguments: Json
) -> Json:
    timeout = aiohttp.ClientTimeout(total=_ANSWER)
    async with session.request(method, url, timeout=timeout, **arguments) as response:
        text = await response.text()
        if response.status >= 400:
            raise RequestFailedError(f"{method} {url}", str(response.status), text)
        if response.content_type == "application/json":
            return await response.json()
        return text
