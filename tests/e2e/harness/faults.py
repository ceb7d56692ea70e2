"""Faults that tests inject: builds that hang, frozen processes, full disks."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import uuid

from .device import Device

# Deaf to SIGTERM and in a session of its own: ends only when the build's launcher sees to it.
_HELD_COMPONENT = """\
import subprocess
import sys
import time

import esphome.config_validation as cv

CONFIG_SCHEMA = cv.Schema({{}})
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


def hold():
    subprocess.Popen([sys.executable, "-c", _DEAF, "escapee"], start_new_session=True)
    time.sleep(3600)


async def to_code(config):
    hold()


{at_once}
"""
# Prints until there is a certain file beside its copy in the build's folder, where it stays.
_TALKING_COMPONENT = """\
from pathlib import Path
import time

import esphome.config_validation as cv

CONFIG_SCHEMA = cv.Schema({{}})


async def to_code(config):
    number = 0
    while not Path(__file__).with_name("{sign}").exists():
        print(f"still talking, {{number}}", flush=True)
        number += 1
        time.sleep(0.1)
"""
_EXTERNAL_COMPONENT = """\
external_components:
  - source: components
{name}:
"""
_HANGS_ON_BOOT = """\
esphome:
  on_boot:
    priority: 1000
    then:
      - lambda: for (;;) delay(1000);
"""


def hold_bundle(device: Device) -> None:
    """Have ESPHome hang as soon as it reads the configuration of a device."""
    add_component(device, "held", _HELD_COMPONENT.format(at_once="hold()"))


def hold_compile(device: Device) -> None:
    """Have ESPHome hang when it compiles the configuration of a device, not before."""
    add_component(device, "held", _HELD_COMPONENT.format(at_once=""))


def talk(device: Device) -> str:
    """Have ESPHome print lines when it compiles the configuration of a device, until ``go_on``.

    Return the sign for that.
    """
    sign = f"go-{uuid.uuid4().hex}"
    add_component(device, "talking", _TALKING_COMPONENT.format(sign=sign))
    return sign


def go_on(builds: Path, sign: str) -> None:
    """End the talking of builds below a folder; they go on with their compile."""
    for component in builds.rglob("components/talking/__init__.py"):
        component.with_name(sign).touch()


def held_project(folder: Path, name: str) -> None:
    """Write a configuration whose compile hangs into a folder."""
    component = folder / "components" / "held" / "__init__.py"
    component.parent.mkdir(parents=True)
    component.write_text(_HELD_COMPONENT.format(at_once=""))
    text = f"esphome:\n  name: {name}\nhost:\n{_EXTERNAL_COMPONENT.format(name='held')}"
    (folder / f"{name}.yaml").write_text(text)


def hang_on_boot(device: Device) -> None:
    """Have the firmware that is built for a device start, and never answer."""
    device.yaml.write_text(device.yaml.read_text().replace("esphome:\n", _HANGS_ON_BOOT, 1))


def add_component(device: Device, name: str, code: str) -> Path:
    """Have the configuration of a device use an external component; return its folder.

    ``Device.configure`` undoes it.
    """
    folder = device.yaml.with_name("components") / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(code)
    device.yaml.write_text(device.yaml.read_text() + _EXTERNAL_COMPONENT.format(name=name))
    return folder


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Suspend a process."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty tmpfs over a folder; ``options`` limit its size. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ("mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "small-disk", str(folder))
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(("umount", str(folder)), check=True)
