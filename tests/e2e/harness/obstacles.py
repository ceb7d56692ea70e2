"""What makes things go wrong, or stand still, for as long as a test needs it."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess

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
    """Have ESPHome stand still as soon as it reads the configuration of a device."""
    add_component(device, "held", _HELD_COMPONENT.format(at_once="hold()"))


def hold_compile(device: Device) -> None:
    """Have ESPHome stand still when it compiles the configuration of a device, not before."""
    add_component(device, "held", _HELD_COMPONENT.format(at_once=""))


def held_project(folder: Path, name: str) -> None:
    """Write a configuration whose compile stands still into a folder."""
    component = folder / "components" / "held" / "__init__.py"
    component.parent.mkdir(parents=True)
    component.write_text(_HELD_COMPONENT.format(at_once=""))
    text = f"esphome:\n  name: {name}\nhost:\n{_EXTERNAL_COMPONENT.format(name='held')}"
    (folder / f"{name}.yaml").write_text(text)


def hang_on_boot(device: Device) -> None:
    """Have what is built for a device start, and never answer."""
    device.yaml.write_text(device.yaml.read_text().replace("esphome:\n", _HANGS_ON_BOOT, 1))


def add_component(device: Device, name: str, code: str) -> Path:
    """Have the configuration of a device use an external component; returns its folder.

    ``Device.configure`` undoes it.
    """
    folder = device.yaml.with_name("components") / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(code)
    device.yaml.write_text(device.yaml.read_text() + _EXTERNAL_COMPONENT.format(name=name))
    return folder


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process; it is there, and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty tmpfs over a folder, with mount options that say how small; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ("mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "small-disk", str(folder))
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(("umount", str(folder)), check=True)
