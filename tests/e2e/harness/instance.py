"""A real Home Assistant process in a folder of its own."""

from datetime import UTC, datetime
import json
import os
from pathlib import Path
import shutil
import sys

from . import ports
from .client import Client
from .processes import Child, ProcessFailedError, environment
from .waiting import PATIENCE
from .workspace import CACHE, REPOSITORY

COMPONENT = REPOSITORY / "custom_components" / "esphome_offload"
# Components for ``add_component``.
LOOP_PROBE = REPOSITORY / "script" / "loop_probe"
LYING_BUILDER = Path(__file__).with_name("lying_builder")
QUICK_LOOKS = Path(__file__).with_name("quick_looks")
QUICK_RECONNECTS = Path(__file__).with_name("quick_reconnects")

# The Python of the Home Assistant to start, where that is another one than the tests' own.
_PYTHON = os.environ.get("HOME_ASSISTANT_PYTHON", sys.executable)
_STOP = 40.0
_TRIES = 3

# No http: here, which would be undone after five minutes; the port is in .storage/http.
_CONFIGURATION = """\
homeassistant:
  name: {name}
  unit_system: metric
  time_zone: Europe/Vienna
frontend:
config:
webhook:
logger:
  default: warning
  logs:
    custom_components.esphome_offload: debug
"""


class Instance:
    """One Home Assistant process and its folder. Only toolchains survive ``reset``."""

    def __init__(
        self, folder: Path, *, name: str = "Demo home", discoverable: bool = False
    ) -> None:
        """Use ``folder``; ``discoverable`` instances announce themselves with zeroconf."""
        self.folder = folder
        self.config = folder / "config"
        self.offload_cache = self.config / ".cache" / "esphome_offload"
        self.esphome = self.config / "esphome"
        self.port = 0
        self.name = name
        self._discoverable = discoverable
        self.added: list[str] = []
        """The names of the components that were added."""
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.running

    @property
    def builds(self) -> str:
        """The folder of all build trees; the processes that build in one mention it."""
        return str(self.offload_cache / "trees")

    @property
    def log(self) -> str:
        """Its output since the last start."""
        return self._child.output() if self._child else ""

    def reset(self) -> None:
        """Recreate the configuration folder, as of a Home Assistant that was never started."""
        kept = self.folder / "kept"
        if not kept.exists() and (self.offload_cache / "toolchains").is_dir():
            kept.mkdir(parents=True)
            for part in ("toolchains", "tools"):
                if (self.offload_cache / part).is_dir():
                    (self.offload_cache / part).rename(kept / part)
        shutil.rmtree(self.config, ignore_errors=True)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        self.offload_cache.mkdir(parents=True)
        if kept.is_dir():
            for saved in kept.iterdir():
                saved.rename(self.offload_cache / saved.name)
            kept.rmdir()
        # The packages that script/setup has downloaded are not downloaded again.
        downloads = CACHE / "uv"
        downloads.mkdir(parents=True, exist_ok=True)
        (self.offload_cache / "uv-cache").symlink_to(downloads)
        self.esphome.mkdir()
        (self.config / "configuration.yaml").write_text(_CONFIGURATION.format(name=self.name))
        if self._discoverable:
            self.configure("zeroconf:")
        (self.config / "custom_components").mkdir()
        self._link(COMPONENT)

    def add_component(self, component: Path) -> None:
        """Have it load another custom component, which needs no configuration."""
        self._link(component)
        self.added.append(component.name)
        self.configure(f"{component.name}:")

    def configure(self, *lines: str) -> None:
        """Add lines to its configuration."""
        with (self.config / "configuration.yaml").open("a") as configuration:
            configuration.writelines(f"{line}\n" for line in lines)

    def _link(self, component: Path) -> None:
        (self.config / "custom_components" / component.name).symlink_to(component)

    async def start(self, **extra: str) -> None:
        """Boot it and return when it answers; ``extra`` goes into its environment."""
        for remaining in reversed(range(_TRIES)):
            (self.port,) = ports.pick(preferred=[self.port] if self.port else [])
            self._write_http()
            self._child = child = await self._spawn(extra)
            try:
                await child.until(self._listening, "answering requests", PATIENCE)
            except ProcessFailedError:
                await child.kill()
                if remaining == 0 or ports.is_free(self.port):
                    raise
                continue  # another process took the port first
            return

    def _listening(self) -> bool:
        if ports.is_taken_by(self.port, self.pid):
            return True
        if "Failed to create HTTP server" in self.log:
            raise ProcessFailedError(f"port {self.port} was taken")
        return False

    async def _spawn(self, extra: dict[str, str]) -> Child:
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        argv = [_PYTHON, "-m", "homeassistant", "--config", str(self.config)]
        # Everything it needs is in .venv already; --skip-pip keeps it from installing more.
        # Its own log file has the same as its output. It cannot be the null device: Home Assistant
        # renames the log file that it finds, which as root removes the device.
        argv += ["--skip-pip", "--log-no-color", "--log-file", str(self.folder / "own.log")]
        return await Child.start(
            "Home Assistant",
            argv,
            log=self.folder / "home-assistant.log",
            cwd=self.folder,
            env=environment(TMPDIR=str(temporary), **extra),
        )

    async def client(self) -> Client:
        """Return a logged-in client; the first one of a fresh instance creates its owner."""
        onboarded = self.config / ".storage" / "onboarding"
        if onboarded.exists() and "user" in json.loads(onboarded.read_text())["data"]["done"]:
            return await Client.login(self.url)
        return await Client.onboard(self.url)

    async def stop(self) -> None:
        """Stop it as a shutdown of the machine does."""
        if self._child is not None:
            await self._child.stop(_STOP)

    async def kill(self) -> None:
        """Kill it alone: what it has started is not in its process group."""
        assert self._child is not None
        await self._child.kill()

    def stored(self, key: str) -> str:
        """Return the text of a file in .storage, empty when it is not there (yet)."""
        path = self.config / ".storage" / key
        return path.read_text() if path.is_file() else ""

    def _write_http(self) -> None:
        listen = {
            "server_host": ["127.0.0.1"],
            "server_port": self.port,
            "cors_allowed_origins": [],
            "login_attempts_threshold": -1,
            "ip_ban_enabled": False,
            "ssl_profile": "modern",
            "use_x_frame_options": True,
            "created_at": datetime.now(UTC).isoformat(),
            "error": None,
            "error_message": None,
        }
        data = {"stable": listen, "pending": None, "yaml_migration_done": True}
        stored = {"version": 2, "minor_version": 2, "key": "http", "data": data}
        path = self.config / ".storage" / "http"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(stored))
