"""A Home Assistant with automatic updates, whose clock the test sets."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import Context, HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware

LAMP_FILE = TargetId("lamp.yaml")
SWITCH = "switch.desk_lamp_automatic_updates"

_BERLIN = ZoneInfo("Europe/Berlin")
_ALL = {"automatic_updates": "all", "automatic_delay_days": 0}


class Home:
    """It has the configuration of a lamp, and waits for all that its methods cause."""

    def __init__(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        clock: FrozenDateTimeFactory,
    ) -> None:
        self.coordinator = coordinator
        self.entry = entry
        self._hass = hass
        self._clock = clock

    @property
    def jobs(self) -> list[FirmwareJob]:
        """The jobs of automatic updates."""
        return [job for job in self.coordinator.queue.jobs() if job.request.automatic]

    def state(self) -> str:
        """Return the state of the lamp's switch."""
        state = self._hass.states.get(SWITCH)
        assert state is not None
        return state.state

    def issue(self, issue_id: str) -> ir.IssueEntry | None:
        return ir.async_get(self._hass).async_get_issue(DOMAIN, issue_id)

    def ignore(self, issue_id: str) -> None:
        """Ignore a repair, as people do in the list of them."""
        ir.async_ignore_issue(self._hass, DOMAIN, issue_id, ignore=True)

    def is_ignored(self, issue_id: str) -> bool:
        issue = self.issue(issue_id)
        return issue is not None and issue.dismissed_version is not None

    def runs(self, name: str = "lamp", version: str = "2026.9.1") -> None:
        """Let a device announce its version."""
        self.coordinator.firmware._announced(AnnouncedFirmware(name, version))

    async def at(self, local: str) -> None:
        """Make it a time in Berlin."""
        await self.move_to(datetime.fromisoformat(local).replace(tzinfo=_BERLIN))

    async def move_to(self, now: datetime) -> None:
        self._clock.move_to(now.astimezone(UTC))
        async_fire_time_changed(self._hass, now)
        await self._settle()

    async def restart(self, local: str) -> None:
        """Unload the entry, and set it up again at a time in Berlin."""
        assert await self._hass.config_entries.async_unload(self.entry.entry_id)
        await self.at(local)
        assert await self._hass.config_entries.async_setup(self.entry.entry_id)
        await self._settle()

    async def set_options(self, **options: object) -> None:
        """Update all devices without a delay, but for what ``options`` say."""
        self._hass.config_entries.async_update_entry(self.entry, options={**_ALL, **options})
        await self._settle()

    async def switch(
        self, action: str, user_id: str | None = None, entity_id: str = SWITCH
    ) -> None:
        context = Context(user_id=user_id)
        await self._hass.services.async_call(
            "switch", action, {"entity_id": entity_id}, blocking=True, context=context
        )

    async def ended(self) -> list[FirmwareJob]:
        """Return the jobs of automatic updates; all have ended, and what follows of that is done."""
        while active := [job for job in self.jobs if not job.terminal]:
            await self.coordinator.async_wait(active[0])
            await self._settle()
        return self.jobs

    async def _settle(self) -> None:
        await self._hass.async_block_till_done(wait_background_tasks=True)


def files(jobs: list[FirmwareJob]) -> list[str]:
    return [job.request.configuration for job in jobs]
