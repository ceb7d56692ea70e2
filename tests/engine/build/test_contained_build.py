"""A guest whose configuration is an attack: everything it tries is denied, and it builds."""

import asyncio
import json
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import FirmwareStore
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.model import BuildRequest, Firmware
from custom_components.esphome_offload.engine.build.process.containment import (
    Containment,
    Degree,
    GuestContainment,
    containment_here,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains

from .conftest import Sink, uv_of
from .containment_harness import ContainmentHarness
from .processes import LONG, alive

HERE = containment_here()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("socket_enabled"),
    pytest.mark.skipif(
        HERE.degree is not Degree.CONTAINED, reason="this machine does not contain everything"
    ),
]

VERSION = "2026.10.0"
CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"

YAML = """\
esphome:
  name: lamp
host:
logger:
api:
external_components:
  - source: {type: local, path: components}
evil:
"""

EVIL = f"""\
import errno
import json
import os
from pathlib import Path
import signal
import time

import esphome.codegen as cg
import esphome.config_validation as cv

CONFIG_SCHEMA = cv.Schema({{}})
AT = json.loads(Path(__file__).with_name("targets.json").read_text())
DATA = Path(os.environ["ESPHOME_DATA_DIR"])


def read(path):
    return lambda: Path(path).read_bytes()


TRIES = {{
    "read Home Assistant's storage": read(AT["storage"]),
    "read another guest's secrets": read(AT["theirs"]),
    "read the environment of Home Assistant": read(f"/proc/{{AT['victim']}}/environ"),
    "write into the toolchain": lambda: Path(AT["poison"]).write_text("import evil"),
    "change ESPHome": lambda: open(cg.__file__, "a").close(),
    "slow Home Assistant down": lambda: os.setpriority(os.PRIO_PROCESS, AT["victim"], 19),
    "kill Home Assistant": lambda: os.kill(AT["victim"], signal.SIGKILL),
}}


def tried(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def leave_daemon():
    said, say = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(say, str(os.getpid()).encode())
            # Holds no pipe open and, with another program's environment, bears no mark.
            os.closerange(0, 100)
            os.execve("/bin/sleep", ["sleep", "{LONG}"], {{}})
        os._exit(0)
    os.close(say)
    return int(os.read(said, 20))


async def to_code(config):
    report = {{name: tried(action) for name, action in TRIES.items()}}
    report["daemon"] = leave_daemon()
    (DATA / "report.json").write_text(json.dumps(report))
"""


class Guest:
    """One guest's builder, with the toolchain of all."""

    def __init__(self, harness: ContainmentHarness, processes: Processes) -> None:
        shared = CacheLayout(CACHE)
        shared.make()
        self.layout = harness.layout
        self.processes = processes
        self.toolchains = Toolchains(shared, processes, uv_of(shared))
        self.toolchain = shared.toolchain(VERSION)
        self.sources = harness.sources

    async def build(self, containment: Containment | None) -> Firmware:
        builder = LocalBuilder(
            self.layout,
            self.processes,
            self.toolchains,
            FirmwareStore(self.layout),
            containment=containment,
        )
        request = BuildRequest(
            job_id="job",
            attempt_id="attempt",
            configuration="lamp.yaml",
            config_dir=self.sources,
            device_name="lamp",
            esphome_version=VERSION,
            time_zone="Pacific/Chatham",
        )
        return await builder.build(request, Sink())

    def report(self) -> dict[str, str | int]:
        path = self.layout.tree("lamp.yaml") / "report.json"
        report: dict[str, str | int] = json.loads(path.read_bytes())
        path.unlink()
        return report


async def test_an_attack_is_denied_and_the_build_succeeds(
    harness: ContainmentHarness, processes: Processes
) -> None:
    guest = Guest(harness, processes)
    poison = guest.toolchain / "lib" / "poison.pth"
    component = harness.sources / "components" / "evil"
    component.mkdir(parents=True)
    (harness.sources / "lamp.yaml").write_text(YAML)
    (component / "__init__.py").write_text(EVIL)
    (component / "targets.json").write_text(json.dumps({**harness.at, "poison": str(poison)}))

    firmware = await guest.build(GuestContainment(harness.layout, (harness.config,)))
    assert firmware.ota.stat().st_size > 100_000
    report = guest.report()
    daemon = report.pop("daemon")
    assert report == {
        "read Home Assistant's storage": "EACCES",
        "read another guest's secrets": "EACCES",
        "read the environment of Home Assistant": "EACCES",
        "write into the toolchain": "EACCES",
        "change ESPHome": "EACCES",
        "slow Home Assistant down": "EPERM",
        "kill Home Assistant": "EPERM",
    }
    assert isinstance(daemon, int)
    assert not alive(daemon)
    assert harness.victim.poll() is None
    assert not poison.exists()

    # The attack is a real one: nothing but the containment stopped it.
    try:
        await guest.build(None)
    finally:
        poison.unlink(missing_ok=True)
    report = guest.report()
    del report["daemon"]
    assert set(report.values()) == {"done"}
    assert await asyncio.to_thread(harness.victim.wait, 30) == -9
