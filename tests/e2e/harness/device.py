"""A real ESPHome device: the program that ESPHome builds for the platform ``host``."""

import hashlib
import json
from pathlib import Path
import shutil
import uuid

from . import ports, scripted
from .esphome_env import host_program
from .processes import Child, environment
from .scripted import Part
from .waiting import PATIENCE

# The first ESPHome that builds ``host`` without downloading anything but Python packages, and a
# newer one: together a real upgrade.
FIRST_VERSION = "2026.10.0b1"
NEW_VERSION = "2026.10.0"

_YAML = """\
substitutions:
  greeting: !secret greeting
esphome:
  name: {name}{suffix}
  friendly_name: {friendly_name}
host:
  mac_address: "{mac}"
api:
  port: {api_port}
ota:
  - platform: esphome
    port: {ota_port}
    password: !secret ota_password
logger:
switch:
  - platform: template
    name: Lamp
    optimistic: true
text_sensor:
  - platform: template
    name: Greeting
    lambda: return {{"${{greeting}}"}};
    update_interval: 1s
"""
_SECRETS = """\
ota_password: {ota_password}
greeting: {greeting}
"""


class Device:
    """One device: its configuration in ``config_dir``, its program running in ``folder``.

    ``variables`` are for the environment of the program.
    """

    suffix = components = ""
    """More lines for the configuration: beneath its name, and at its end."""
    _comment = ""

    def __init__(
        self,
        name: str,
        folder: Path,
        config_dir: Path,
        *,
        number: int = 1,
        is_scripted: bool = False,
    ) -> None:
        """Write the configuration; ``number`` makes the MAC address.

        With ``is_scripted`` its configuration has the component that ``play`` needs.
        """
        self._is_scripted = is_scripted
        self.name = name
        self.folder = folder
        self.yaml = config_dir / f"{name}.yaml"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.variables: dict[str, str] = {}
        self._child: Child | None = None
        self.api_port, self.ota_port = self._ports()
        self.configure()

    @property
    def configuration(self) -> str:
        """The name of its configuration file."""
        return self.yaml.name

    @property
    def running(self) -> bool:
        """Whether it is on."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int:
        """The id of its process, which stays the same when new firmware starts."""
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> str:
        """Its output since it was switched on."""
        return self._child.output() if self._child else ""

    def configure(
        self,
        *,
        ota_password: str = "first",
        greeting: str = "hello",
        good_after: int | None = None,
        plain: bool = False,
    ) -> None:
        """Write the configuration, with these secrets in ``secrets.yaml``.

        ``good_after``: seconds for which a job waits, because something may start the old firmware
        again. ``plain``: without any component of its own, whose Python could read any file.
        """
        text = _YAML.format(
            name=self.name,
            suffix=self.suffix,
            friendly_name=self.name.title(),
            mac=self._compiled_mac,
            api_port=self.api_port,
            ota_port=self.ota_port,
        )
        text += self.components + self._comment
        if good_after is not None:
            text += f"safe_mode:\n  boot_is_good_after: {good_after}s\n"
        if self._is_scripted and not plain:
            text += scripted.YAML.format(part=Part.NOTHING, sign="")
            scripted.write_component(self.yaml.parent, Part.NOTHING)
        if not self.yaml.exists() or self.yaml.read_text() != text:
            self.yaml.write_text(text)
        secrets = _SECRETS.format(ota_password=ota_password, greeting=greeting)
        self.yaml.with_name("secrets.yaml").write_text(secrets)

    def renew(self) -> None:
        """Write another configuration of the same meaning, so that it is built and not only kept."""
        self._comment = f"# {uuid.uuid4().hex}\n"
        self.configure()

    def play(self, part: Part) -> str:
        """Have its next build or its firmware play a part, until ``configure``.

        Return the sign with which builds that talk ``go_on``.
        """
        sign = f"go-{uuid.uuid4().hex}"
        text, _, _ = self.yaml.read_text().partition(scripted.YAML[:20])
        scripted.write_component(self.yaml.parent, part)
        self.yaml.write_text(text + scripted.YAML.format(part=part, sign=sign))
        return sign

    async def flash(self, version: str = FIRST_VERSION) -> None:
        """Put firmware of an ESPHome ``version`` on it, as by cable; it must be off."""
        program = await host_program(version, self.yaml, self.name)
        shutil.copy2(program, self.program)

    def firmware_sha256(self) -> str:
        """Return the digest of the firmware on it."""
        return hashlib.sha256(self.program.read_bytes()).hexdigest()

    @property
    def program(self) -> Path:
        """The file of its firmware."""
        return self.folder / "program"

    async def switch_on(self) -> None:
        """Start its program and return when it listens."""
        self._child = child = await Child.start(
            self.name,
            [self.program],
            log=self.folder / "device.log",
            cwd=self.folder,
            env=environment(ESPHOME_PREFDIR=str(self.folder / "preferences"), **self.variables),
        )
        await child.until(
            lambda: (
                ports.is_taken_by(self.api_port, child.pid)
                and ports.is_taken_by(self.ota_port, child.pid)
            ),
            "listening",
            PATIENCE,
        )

    async def switch_off(self) -> None:
        """Kill its program, as if its power were cut."""
        if self._child is not None:
            await self._child.kill()

    @property
    def _compiled_mac(self) -> str:
        return self.mac

    @property
    def _remembered_ports(self) -> Path:
        return self.folder / "ports.json"

    def _ports(self) -> tuple[int, int]:
        # Ports are compiled in: with the same ports, firmware of earlier runs can be used.
        remembered = self._remembered_ports
        before = json.loads(remembered.read_text()) if remembered.exists() else []
        api_port, ota_port = ports.pick(2, preferred=before)
        self.folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps([api_port, ota_port]))
        return api_port, ota_port
