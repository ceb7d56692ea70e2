"""Faults that tests inject: another guest's build that hangs, frozen processes, full disks."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess

from . import scripted
from .scripted import Part


def held_project(folder: Path, name: str) -> None:
    """Write a configuration whose compile hangs into a folder."""
    scripted.write_component(folder, Part.HANG)
    text = f"esphome:\n  name: {name}\nhost:\n{scripted.YAML.format(part=Part.HANG, sign='')}"
    (folder / f"{name}.yaml").write_text(text)


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
        # Something may look at it just now.
        subprocess.run(("umount", "--lazy", str(folder)), check=True)
