"""The builder as an app of Home Assistant OS, and a real Home Assistant that is offered it.

Supervisor and Home Assistant's integration of it have a stand-in, see the harness.
"""

from collections.abc import AsyncIterator
import json
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from .harness import ports
from .harness.client import Json
from .harness.home_assistant import HomeAssistant
from .harness.instance import Instance
from .harness.jobs import DOMAIN
from .harness.standalone import StandaloneBuilder
from .harness.supervisor_stand_in import INGRESS_PORT, TOKEN
from .harness.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

STAND_IN = Path(__file__).parent / "harness" / "supervisor_stand_in"


class Home:
    """Home Assistant and the app on one machine."""

    def __init__(self, folder: Path) -> None:
        (self.page_port,) = ports.pick()
        instance = Instance(folder / "home")
        instance.reset()
        instance.add_component(STAND_IN)
        self.home_assistant = HomeAssistant(instance)
        self.app = StandaloneBuilder(folder / "app", name="Home Assistant app")

    async def open(self) -> None:
        await self.home_assistant.boot(**{INGRESS_PORT: str(self.page_port)})
        await self.home_assistant.set_up_with("")
        self.app.reset()
        await self.app.environment.make()
        await self.start_app()

    async def start_app(self) -> None:
        """Start the app as Supervisor does: with a token, and the options in a file."""
        options = self.app.folder / "options.json"
        options.write_text(json.dumps({"slots": 2}))
        await self.app.start(
            "--uncontained",  # nothing is built here
            SUPERVISOR_TOKEN=TOKEN,
            SUPERVISOR_API=f"{self.home_assistant.instance.url}/api/{STAND_IN.name}",
            ESPHOME_OFFLOAD_OPTIONS_FILE=str(options),
        )

    async def offer(self) -> str:
        """Return the id of the one flow in which the app is offered."""

        async def look() -> str | None:
            flows = [
                each
                for each in await self.home_assistant.client.flows()
                if each["handler"] == DOMAIN
            ]
            if not flows:
                return None
            (flow,) = flows
            assert (flow["context"]["source"], flow["step_id"]) == ("hassio", "hassio_confirm")
            flow_id: str = flow["flow_id"]
            return flow_id

        return await until(look, "the offer of the app")

    async def guests(self) -> Json:
        return (await self.app.json("status"))["guests"]

    async def connected(self) -> None:
        async def look() -> bool:
            guests = await self.guests()
            return [each["connected"] for each in guests] == [True]

        await until(look, "the connection of Home Assistant to the app")

    async def close(self) -> None:
        await self.home_assistant.close()
        await self.app.close()


@pytest_asyncio.fixture(loop_scope="session")
async def home(early_sockets: None, workspace: Path) -> AsyncIterator[Home]:
    home = Home(workspace.with_name(f"{workspace.name}-app"))
    try:
        await home.open()
        yield home
    finally:
        await home.close()


async def test_the_app_is_paired_with_by_submit_and_offered_again_when_its_entry_is_removed(
    home: Home,
) -> None:
    client = home.home_assistant.client
    entry = await client.finish_flow(await home.offer(), {})
    assert (entry["state"], entry["title"]) == ("loaded", "Home Assistant app")
    await home.connected()
    assert (await home.app.json("status"))["slots"] == 2

    # Supervisor tells of it again when the app starts; there is nothing to ask.
    await home.app.terminate()
    await home.start_app()
    await home.connected()
    assert [each for each in await client.flows() if each["handler"] == DOMAIN] == []

    # The page is Home Assistant's alone.
    async with (
        aiohttp.ClientSession() as stranger,
        stranger.get(f"http://127.0.0.1:{home.page_port}/pairing") as response,
    ):
        assert response.status == 403

    await client.remove_entry(entry["entry_id"])

    async def renewed() -> bool:
        return "secret" in (await client.get(f"{STAND_IN.name}/discovery"))["config"]

    await until(renewed, "a new secret")
    assert await home.guests() == []
    again = await client.finish_flow(await home.offer(), {})
    assert again["state"] == "loaded"
    await home.connected()
    assert "Traceback" not in home.app.log
