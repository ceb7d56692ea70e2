"""Something to try: devices as people meet them, and a builder that is not paired yet."""

import asyncio
from collections.abc import Callable
from pathlib import Path
import shutil
from typing import Final

from .device import NEW_VERSION, Device
from .home_assistant import HomeAssistant
from .jobs import DOMAIN
from .offloader import Offloader
from .processes import ProcessFailedError
from .standalone import StandaloneBuilder
from .waiting import until
from .workspace import REPOSITORY

_ADDED: Final = """\
button:
  - platform: restart
    name: Restart
"""
_MISTAKE: Final = """\
binary_sensor:
  - platform: template
    name: Frost
    lambda: return id(outside_temperature).state < 0;
"""
_CONFIGURATION: Final = (
    "automation: !include automations.yaml",
    "history:",
    "logbook:",
    "zeroconf:",
)


class Playground:
    """Three more devices of an offloader: with an update, with a changed file, with a mistake.

    Make it before the offloader boots, and ``open`` it after its integrations are set up.
    """

    def __init__(self, folder: Path, offloader: Offloader, *others: HomeAssistant) -> None:
        for each in (offloader, *others):
            _enrich(each.instance.config)
            each.instance.configure(*_CONFIGURATION)
        self._offloader = offloader
        self.outdated, self.changed, self.mistaken = self._devices = tuple(
            Device(name, folder / name, offloader.instance.esphome, number=number)
            for number, name in enumerate(("hall", "porch", "attic"), 2)
        )
        self.builder = StandaloneBuilder(folder / "garage", name="garage", discoverable=True)

    async def open(self, step: Callable[[str], None]) -> None:
        """Bring all of it into its state; ``step`` is called with what is done."""
        names = ", ".join(device.name for device in self._devices)
        step(f"getting the first programs of {names}")
        for device in self._devices:
            await device.flash()
            await device.switch_on()
            await self._offloader.add_device(device)
        step(f"“{self.builder.name}” announces itself: a builder that is not paired yet")
        # It builds what its owner has here alone.
        await self.builder.open("--uncontained")
        step(f"{self.changed.name} gets {NEW_VERSION}, {self.mistaken.name} a mistake in its file")
        self._write(self.mistaken, _MISTAKE)
        entities = {
            device.configuration: await self._offloader.update_entity(device.configuration)
            for device in self._devices
        }
        both = (self.changed.configuration, self.mistaken.configuration)
        answer = await self._offloader.client.service(
            f"{DOMAIN}.install",
            {"entity_id": [entities[each] for each in both]},
            {"raise_on_failure": False},
            response=True,
            seconds=600,
        )
        ends = {job["configuration"]: job["status"] for job in answer["jobs"]}
        if ends != dict(zip(both, ("completed", "failed"), strict=True)):
            raise ProcessFailedError(f"the installations ended otherwise: {answer['jobs']}")
        step(f"the file of {self.changed.name} is changed")
        self._write(self.changed, _ADDED)
        await self._until_on(entities[self.changed.configuration], changed=True)
        await self._until_on(entities[self.outdated.configuration], changed=False)

    def _write(self, device: Device, lines: str) -> None:
        device.components = lines
        device.configure()

    async def _until_on(self, entity: str, *, changed: bool) -> None:
        async def is_on() -> bool:
            state = await self._offloader.client.state(entity)
            return bool(
                state["state"] == "on"
                and bool(state["attributes"]["configuration_changed"]) is changed
            )

        await until(is_on, f"an update of {entity}")

    async def close(self) -> None:
        """Stop all of it."""
        await asyncio.gather(
            self.builder.close(), *(device.switch_off() for device in self._devices)
        )


def _enrich(config: Path) -> None:
    """Have the editor of automations work, with our blueprints."""
    (config / "automations.yaml").write_text("[]\n")
    # Not a link: Home Assistant adds blueprints of its own there.
    shutil.copytree(REPOSITORY / "blueprints", config / "blueprints")
