"""The image of the standalone builder, built from its Dockerfile and run as the docs say.

Podman stands in for Docker, and a base of Debian's packages for Python's image (harness/image.py).
All else is real: Dockerfile, wheel, container, pairing, builds. Skipped where images cannot be
built.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import errno
import json
import os
from pathlib import Path
import re
import shlex
import time

import aiohttp
import pytest
import pytest_asyncio
import yaml

from custom_components.esphome_offload.engine.client.dial import Caller, dial
from custom_components.esphome_offload.engine.client.link import PeerLink
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.hello import Introduction
from custom_components.esphome_offload.engine.protocol.identity import Identity, load_or_create
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptState,
    BuildEvent,
    Fetch,
    LinesEvent,
    SendBundle,
    Submit,
)
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import pair
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import (
    BuildParameters,
    FirmwareHeader,
)

from ..engine.host.builder import make_bundle
from ..engine.host.guest_link import digest
from .harness import ports
from .harness.client import Json
from .harness.device import NEW_VERSION
from .harness.image import NoImagesHereError, Podman, surroundings
from .harness.waiting import until
from .harness.workspace import REPOSITORY, claim

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DOCS = (REPOSITORY / "docs" / "builder.md").read_text()
COMPOSE = yaml.safe_load((REPOSITORY / "builder" / "compose.yaml").read_text())
# What Docker gives to its containers and Podman does not.
DOCKERS_CAPABILITIES = ["--cap-add", "AUDIT_WRITE,MKNOD,NET_RAW"]
YAML = b"esphome:\n  name: %s\nhost:\nlogger:\napi:\n"


def run_line() -> tuple[list[str], str]:
    """Return the options of the command in the docs, without those of a name, and the image."""
    (line,) = re.findall(r"^docker (run .*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    words = shlex.split(line.replace("\\\n", " "))
    assert words[:4] == ["run", "--detach", "--name", "esphome-offload-builder"]
    return words[4:-1], words[-1]


def compose_options() -> list[str]:
    """Return the options that do what the compose file says."""
    (service,) = COMPOSE["services"].values()
    options = ["--restart", service.pop("restart"), "--network", service.pop("network_mode")]
    if service.pop("read_only"):
        options.append("--read-only")
    lists = ("tmpfs", "cap_drop", "cap_add", "security_opt")
    options += [f"--{key.replace('_', '-')}={each}" for key in lists for each in service.pop(key)]
    options += [f"--env={name}={text}" for name, text in service.pop("environment").items()]
    options += [f"--volume={each}" for each in service.pop("volumes")]
    assert service == {"image": f"{IMAGE}:latest"}, "else something of it is not tried here"
    return options


OPTIONS, IMAGE = run_line()


def without_landlock(folder: Path) -> list[str]:
    """Return the options that deny Landlock's system calls, as a kernel without it does."""
    profile = json.loads(Path("/usr/share/containers/seccomp.json").read_text())
    calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"]
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in calls]
    missing = {"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
    profile["syscalls"].append(missing)
    path = folder / "seccomp.json"
    path.write_text(json.dumps(profile))
    return ["--security-opt", f"seccomp={path}"]


class Container:
    """One container of the image at a time, and its volume. Only toolchains survive ``reset``."""

    NAME = VOLUME = "esphome-offload-builder"

    def __init__(self, podman: Podman) -> None:
        self.podman = podman
        self.port = ports.pick()[0]
        self._kept = podman.folder / "toolchains"

    @property
    def data(self) -> Path:
        """Its volume."""
        return self.podman.folder / "store" / "volumes" / self.VOLUME / "_data"

    @property
    def identity(self) -> Identity:
        """Its key pair."""
        return load_or_create(self.data / "identity")

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *options: str) -> None:
        """Run it and return when it is ready."""
        here = ["--env", f"ESPHOME_OFFLOAD_PORT={self.port}", "--env", "ESPHOME_OFFLOAD_ANNOUNCE=0"]
        argv = ["create", "--pull", "never", "--name", self.NAME, *options]
        await self.podman(*argv, *surroundings(), *here, IMAGE)
        await self.podman("init", self.NAME)
        if self._kept.exists() and self.data.exists():
            (self.data / "cache").mkdir(exist_ok=True)
            self._kept.rename(self.data / "cache" / "toolchains")
        await self.podman("start", self.NAME)

        async def ready() -> bool:
            log = await self.log()
            assert "Error" not in log, log
            return "Ready" in log

        await until(ready, "the builder in its container")

    async def log(self) -> str:
        """Return what it has printed."""
        return await self.podman("logs", self.NAME)

    async def command(self, *arguments: str) -> str:
        """Run a command of the builder in it, as the docs say."""
        return await self.podman("exec", self.NAME, "esphome-offload-builder", *arguments)

    async def json(self, *arguments: str) -> Json:
        """Run one that prints JSON."""
        return json.loads(await self.command(*arguments, "--json"))

    async def users_of(self, program: str) -> set[str]:
        """Return the users of the processes whose command lines have this in them."""
        lines = (await self.podman("top", self.NAME, "user", "args")).splitlines()
        users = {line.split()[0] for line in lines if program in line}
        assert users, lines
        return users

    async def stop(self) -> int:
        """Stop and remove it as Docker does, and return its exit code."""
        await self.podman("stop", "--time", "10", self.NAME)
        code = await self.podman("inspect", "--format", "{{.State.ExitCode}}", self.NAME)
        await self.podman("rm", self.NAME)
        return int(code.split()[-1])

    async def reset(self) -> None:
        """Remove it and its volume."""
        await self.podman("rm", "--force", "--ignore", self.NAME)
        if (toolchains := self.data / "cache" / "toolchains").exists():
            toolchains.rename(self._kept)
        await self.podman("volume", "rm", "--force", self.VOLUME)


class Guest:
    """A guest with bundles made by hand."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.caller = Caller(Identity.generate(), Introduction(own_offer("1.2.3"), "living room"))
        self.lines: list[str] = []

    async def pair(self, container: Container) -> None:
        code: str = (await container.json("pair"))["code"]
        async with dial(self.http, container.url, self.caller) as answered:
            await pair(answered.opening, answered.hello, code)

    @asynccontextmanager
    async def connected(self, container: Container) -> AsyncIterator[PeerLink]:
        link = PeerLink(
            url=container.url,
            caller=self.caller,
            peer_key=container.identity.public,
            label="builder",
            session=self.http,
            wanted=list,
        )
        await link.start()
        try:
            await link.wait_connected(30)
            yield link
        finally:
            await link.stop()

    async def submit(self, link: PeerLink, folder: Path, name: str) -> str:
        """Submit a build and return the id of its attempt."""
        attempt_id = new_id()
        bundle = make_bundle(folder / f"{name}.tar.gz", {f"{name}.yaml": YAML % name.encode()})
        content = bundle.read_bytes()
        parameters = BuildParameters(
            new_id(), attempt_id, f"{name}.yaml", name, NEW_VERSION, "Europe/Vienna"
        )
        await link.send_bundle(SendBundle(attempt_id, digest(content), len(content)), bundle)
        await link.submit(Submit(parameters, digest(content)))
        return attempt_id

    def seen(self, event: BuildEvent) -> None:
        if isinstance(event, LinesEvent):
            self.lines += event.lines

    async def build(self, link: PeerLink, folder: Path, name: str) -> bytes:
        """Have a device built and return the firmware."""
        attempt_id = await self.submit(link, folder, name)
        end = await link.follow(attempt_id, 0, self.seen)
        assert end.state is AttemptState.COMPLETED, (end, self.lines)

        def accept(raw: object) -> IncomingFile:
            header = parse(FirmwareHeader, raw)
            return IncomingFile(folder / "firmware", header.size, header.sha256)

        await link.fetch(Fetch(attempt_id), accept)
        return (folder / "firmware").read_bytes()

    async def compiling(self, link: PeerLink, attempt_id: str) -> None:
        """Return once the compiler has begun: what is in its cache takes no time after that."""
        self.lines.clear()
        following = asyncio.create_task(link.follow(attempt_id, 0, self.seen))

        async def begun() -> bool:
            return any("Compiling app" in line for line in self.lines)

        await until(begun, "the compiler")
        following.cancel()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def podman(early_sockets: None) -> AsyncIterator[Podman]:
    """Build the image of the present sources under the name that the docs have."""
    with claim("image") as folder:
        podman = Podman(folder)
        try:
            await podman.build(IMAGE)
        except NoImagesHereError as err:
            pytest.skip(f"Images cannot be built here: {err}")
        yield podman


@pytest_asyncio.fixture(loop_scope="session")
async def container(podman: Podman) -> AsyncIterator[Container]:
    container = Container(podman)
    await container.reset()
    yield container
    await container.reset()


async def test_it_pairs_and_builds_with_the_options_of_the_docs_and_of_the_compose_file(
    container: Container, tmp_path: Path
) -> None:
    """The first without Landlock and with Docker's capabilities, the second with Landlock."""
    await container.start(*OPTIONS, *DOCKERS_CAPABILITIES, *without_landlock(tmp_path))
    async with aiohttp.ClientSession() as http:
        guest = Guest(http)
        assert "by a user of its own" in await container.command("status")
        await guest.pair(container)
        assert (await container.json("guests"))[0]["label"] == "living room"
        await container.podman("healthcheck", "run", container.NAME)
        async with guest.connected(container) as link:
            assert (await guest.build(link, tmp_path, "lamp")).startswith(b"\x7fELF")
        assert await container.stop() == 0

        await container.start(*compose_options())
        async with guest.connected(container) as link:
            await guest.compiling(link, await guest.submit(link, tmp_path, "heater"))
            assert "root" not in await container.users_of("-m esphome ")
            began = time.monotonic()
            assert await container.stop() == 0
            assert time.monotonic() - began < 10


async def test_it_runs_as_any_user_in_a_folder_of_that_user(
    container: Container, tmp_path: Path
) -> None:
    # As an engine makes it for a bind mount: others can read it.
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    os.chown(folder, 12345, 12345)
    options = [each.replace(container.VOLUME, str(folder)) for each in OPTIONS]
    await container.start(*options, "--user", "12345:12345")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert await container.command("status")
    await container.stop()
