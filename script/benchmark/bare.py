"""The bare ``esphome`` command, with which ours is compared."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import shutil
import time

from tests.e2e.harness.device import Device
from tests.e2e.harness.esphome_env import EsphomeEnvironment


@contextmanager
def tools_without_ccache(folder: Path) -> Iterator[str]:
    """Yield a PATH with everything that this one has, but for ccache.

    A compiler cache would make the second "cold" build warm; and it cannot be switched off by
    a variable, as builds do not inherit Home Assistant's.
    """
    tools = folder / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        # Folders of compiler wrappers, and of shims that look up PATH themselves.
        if "ccache" in place or "shims" in place or not Path(place).is_dir():
            continue
        for tool in Path(place).iterdir():
            if "ccache" not in tool.name and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    yield str(tools)
    shutil.rmtree(tools)


class Bare:
    """``esphome compile`` and ``esphome upload``, one device after another."""

    def __init__(self, toolchains: Path, version: str, folder: Path, path: str) -> None:
        """Use the very environment that ours made in ``toolchains``, so that both run the same."""
        self._esphome = EsphomeEnvironment(
            toolchains / version / "bin" / "python", folder / "bare-home"
        )
        self._data = folder / "bare"
        self._env = self._esphome.variables(self._data, PATH=path)

    def forget(self) -> None:
        """Delete what was built: the next build is a cold one."""
        shutil.rmtree(self._data, ignore_errors=True)

    async def install(self, devices: Sequence[Device]) -> float:
        """Compile and upload for each device and return the seconds that took."""
        began = time.monotonic()
        for device in devices:
            yaml = device.yaml
            await self._esphome.esphome("compile", yaml, cwd=yaml.parent, env=self._env)
            upload = ("upload", yaml, "--device", "127.0.0.1")
            await self._esphome.esphome(*upload, cwd=yaml.parent, env=self._env)
        return time.monotonic() - began
