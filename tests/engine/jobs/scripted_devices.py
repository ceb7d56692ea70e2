"""Devices, and the configurations that they have, as the test wants them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import override

from custom_components.esphome_offload.engine.build.model import (
    BuildInfo,
    Node,
)
from custom_components.esphome_offload.engine.jobs.model import JobRequest
from custom_components.esphome_offload.engine.jobs.ports import (
    ConfigurationSource,
    DeviceLink,
    FolderUnavailableError,
    Presence,
    RestartWatch,
    Verdict,
)

from .fakes import BUILD_INFO


class ScriptedWatch(RestartWatch):
    def __init__(
        self,
        verdict: Verdict,
        gate: asyncio.Event | None,
        later: Verdict,
        ran: BuildInfo | None,
    ) -> None:
        self.ran = ran
        self.verdict = verdict
        self.gate = gate
        self.later = later
        self.stayed: float | None = None
        self.closed = False

    @property
    @override
    def before(self) -> BuildInfo | None:
        return self.ran

    @override
    async def confirm(self, build_info: BuildInfo, *, goes_back: bool = False) -> Verdict:
        if self.gate is not None:
            await self.gate.wait()
        return self.verdict

    @override
    async def stays(self, build_info: BuildInfo, seconds: float) -> Verdict:
        self.stayed = seconds
        return self.later

    @override
    def close(self) -> None:
        self.closed = True


class ScriptedDevices(DeviceLink):
    def __init__(self) -> None:
        self.state: dict[str, Presence] = {}
        self.displaced: set[str] = set()
        self.lost: set[str] = set()
        self.verdict = Verdict.CONFIRMED
        self.later = Verdict.CONFIRMED
        self.stays: list[Verdict] = []
        """Before ``later``, of one watch after the other."""
        self.names: dict[str, str] = {}
        self.restarts: dict[str, str] = {}
        self.before: BuildInfo | None = replace(BUILD_INFO, build_time="before")
        self.intruders: dict[str, str] = {}
        self.listening: set[int] = set()
        self.announcements: list[BuildInfo | None] = [None]
        """What the device announces, one time after the other; the last one stays."""
        self.mistakable: dict[str, tuple[str, ...]] = {}
        self.confirm_gate: asyncio.Event | None = None
        self.watches: list[ScriptedWatch] = []
        self.listeners: list[Callable[[], None]] = []

    def become(self, device_name: str, presence: Presence) -> None:
        self.state[device_name] = presence
        for listener in tuple(self.listeners):
            listener()

    @override
    def rivals(self, request: JobRequest) -> tuple[str, ...]:
        return self.mistakable.get(request.device_name, ())

    @override
    def gone(self, request: JobRequest) -> bool:
        return request.device_name in self.lost

    @override
    def presence(self, request: JobRequest) -> Presence:
        return self.state.get(request.device_name, Presence.ONLINE)

    @override
    def addresses(self, request: JobRequest, node: Node | None) -> tuple[str, ...]:
        name = request.device_name
        return () if name in self.displaced else (f"{name}.local",)

    @override
    async def listens(self, request: JobRequest, node: Node, port: int) -> bool:
        return port in self.listening

    @override
    async def announced(self, request: JobRequest) -> BuildInfo | None:
        if len(self.announcements) > 1:
            return self.announcements.pop(0)
        return self.announcements[0]

    @override
    def node_name(self, request: JobRequest) -> str | None:
        return self.names.get(request.device_name)

    @override
    def intruder(self, request: JobRequest) -> str | None:
        return self.intruders.get(request.device_name)

    @override
    async def restart_reason(self, request: JobRequest) -> str | None:
        return self.restarts.get(request.device_name)

    @override
    def watch_restart(self, request: JobRequest) -> RestartWatch:
        later = self.stays.pop(0) if self.stays else self.later
        self.watches.append(ScriptedWatch(self.verdict, self.confirm_gate, later, self.before))
        return self.watches[-1]

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


class ScriptedConfigurations(ConfigurationSource):
    def __init__(self) -> None:
        self.fingerprints: dict[str, str | None] = {}
        self.same: set[str] = set()
        self.names: dict[str, str] = {}
        self.available = True
        self.files: object | None = None
        """None: not all files are known."""

    @property
    @override
    def config_dir(self) -> Path:
        return Path("esphome")

    @override
    def all_files(self, configuration: str) -> object | None:
        return self.files

    @override
    def node_name(self, configuration: str) -> str | None:
        return self.names.get(configuration)

    @override
    async def fingerprint(self, configuration: str) -> str | None:
        if not self.available:
            raise FolderUnavailableError
        return self.fingerprints.get(configuration, "as it was")

    @override
    async def same_files(self, configuration: str, fingerprint: str) -> bool:
        return fingerprint in self.same
