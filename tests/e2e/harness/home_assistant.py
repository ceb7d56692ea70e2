"""A real Home Assistant with our integration, and a session of its owner."""

from custom_components.esphome_offload.engine.protocol.identity import Identity, load_or_create

from .client import Client
from .instance import Instance
from .jobs import DOMAIN
from .processes import ProcessFailedError
from .waiting import until


class HomeAssistant:
    """One instance and one client of its owner; ``entry_id`` is our entry "this instance"."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.entry_id = ""
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The session of the owner."""
        assert self._client is not None
        return self._client

    @property
    def identity(self) -> Identity:
        """Its key pair."""
        return load_or_create(self.instance.config / ".storage" / f"{DOMAIN}.identity")

    async def boot(self, **extra: str) -> None:
        """Start Home Assistant and log in; ``extra`` goes into its environment."""
        await self.instance.start(**extra)
        self._client = await self.instance.client()
        # It answers requests before its integrations are set up.
        await until(self._client.running, "all integrations of Home Assistant")
        components = (await self._client.call("get_config"))["components"]
        if missing := set(self.instance.added).difference(components):
            raise ProcessFailedError(f"{missing} did not load:\n{self.instance.log}")

    async def set_up_with(self, config_dir: str) -> None:
        """Add "this instance" through its config flow."""
        entry = await self.client.add_entry(DOMAIN, {"config_dir": config_dir})
        if entry["state"] != "loaded":
            raise ProcessFailedError(f"our integration did not load:\n{self.instance.log[-2000:]}")
        self.entry_id = entry["entry_id"]

    async def entity(self, unique_id: str) -> str:
        """Return the id of an entity of ours, once it is there and has a state."""

        async def look() -> str | None:
            for entity in await self.client.call("config/entity_registry/list"):
                if entity["platform"] == DOMAIN and entity["unique_id"] == unique_id:
                    entity_id: str = entity["entity_id"]
                    state = await self.client.state(entity_id)
                    if state is not None and state["state"] != "unavailable":
                        return entity_id
            return None

        return await until(look, f"an entity for {unique_id}")

    async def hang_up(self) -> None:
        """Close the session."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def crash(self) -> None:
        """End Home Assistant by SIGKILL."""
        await self.hang_up()
        await self.instance.kill()

    async def close(self) -> None:
        """Stop Home Assistant."""
        await self.hang_up()
        await self.instance.stop()
