"""LocalBuilder: compiles on this machine, for ourselves and for guests alike."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
import logging
import os
from pathlib import Path
import threading
from typing import Annotated, override
import uuid

from ..clock import Time
from ..codec import CodecError, Text, decode_json, encode_json
from ..const import FailureReason, Source, Stage
from ..job_log import OWN
from ..listeners import Listeners
from ..locks import Locks
from ..reason import Reason, ReasonKey
from ..tasks import BackgroundTasks
from ..threads import in_thread
from .build_output import BuildOutput
from .cache.damaged_tools import Package, find_damaged, trash_all, trash_package
from .cache.eviction import CacheFolder, RecentUse
from .cache.layout import CacheLayout, configuration_key
from .cache.removal import remove
from .compiler_cache import CompilerCache, CompilerCaches
from .diagnosis import diagnose
from .file_counts import FileCounts
from .firmware import BuildResult, FirmwareStore, check_version, digest
from .model import (
    Builder,
    BuildError,
    BuilderStatus,
    BuildInfo,
    BuildRequest,
    BuildSink,
    Firmware,
    disk_errors,
)
from .process.containment import Containment, ContainmentError
from .process.processes import LaunchError, Processes
from .resources import Machine, check, why_not_here
from .result import (
    built_configurations,
    forget_build_info,
    forget_validated,
    take_result,
)
from .slots import Slots
from .toolchain.esphome_command import (
    Entry,
    EsphomeCall,
    enter_directly,
    esphome_command,
)
from .toolchain.toolchain import Toolchain
from .toolchain.toolchains import Toolchains

_LOGGER = logging.getLogger(__name__)

_BUILD_TIMEOUT = 3 * 3600.0
"""Half an hour on a small board, and as much again for the tools of the first ESP-IDF build."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """The last build in a tree: its image, and what a device that runs it tells."""

    sha256: Annotated[str, Text(64)]
    build_info: BuildInfo


class LocalBuilder(Builder, CacheFolder):
    """Builds in a tree per configuration under the cache; the user's folder stays as it is."""

    label = "local"
    slots: Slots
    builder_id = "local"
    source = Source.LOCAL
    pin_sha256 = None

    def __init__(
        self,
        layout: CacheLayout,
        processes: Processes,
        toolchains: Toolchains,
        firmware: FirmwareStore,
        *,
        entry: Entry = enter_directly,
        machine: Machine | None = None,
        why_not: Reason | None = None,
        slots: Slots | None = None,
        containment: Containment | None = None,
        compiler_cache: CompilerCache | None = None,
        background: BackgroundTasks | None = None,
        time: Time | None = None,
    ) -> None:
        """``why_not`` says that this machine cannot compile at all; None: find out.

        ``slots`` are those of this machine, where others build on it as well. ``containment`` says
        what builds may use, for those of a guest; where that cannot be enforced they fail.
        ``background``: ``clean`` does not wait there until all is deleted; None: it waits.
        """
        self._layout = layout
        self._processes = processes
        self._toolchains = toolchains
        self._firmware = firmware
        self._background = background
        self._deleting = asyncio.Lock()
        self._file_counts = FileCounts(layout)
        self._entry = entry
        self._containment = containment
        self._compiler_cache = compiler_cache or CompilerCache(
            CompilerCaches(), layout, guest=containment is not None
        )
        self._machine = machine or Machine(layout.root)
        why_not = why_not or why_not_here()
        self._status = BuilderStatus(available=why_not is None, why_not=why_not)
        self.slots = slots or Slots()
        self._listeners = Listeners[[]]()
        self._locks = Locks()
        self._building = 0
        # Held while tools are taken from their places: no build begins meanwhile.
        self._tools = asyncio.Lock()
        self._damaged: dict[Package, None] = {}
        self._recent = RecentUse(time)

    @override
    def status(self) -> BuilderStatus:
        return replace(
            self._status,
            slots=self.slots.count,
            busy=self.slots.busy,
            queue_length=self.slots.waiting,
        )

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        unsubscribe_status = self._listeners.subscribe(listener)
        unsubscribe_slots = self.slots.subscribe(listener)

        def both() -> None:
            unsubscribe_status()
            unsubscribe_slots()

        return both

    async def refresh(self) -> None:
        """Look at memory, disk and trees again; done around each build, there is no polling."""
        resources, warm, ccache = await asyncio.to_thread(
            lambda: (
                self._machine.read(),
                built_configurations(self._layout.trees),
                self._toolchains.have_ccache(),
            )
        )
        use = self._compiler_cache.use
        self._update(
            replace(
                self._status,
                versions=self._toolchains.installed(),
                warm=warm,
                memory_mib=resources.memory_mib,
                disk_mib=resources.disk_mib,
                ccache=ccache,
                ccache_hits=use.hits,
                ccache_files=use.files,
            )
        )

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        if self._status.why_not is not None:
            raise BuildError(FailureReason.BUILDER_ENVIRONMENT, self._status.why_not)
        if request.configuration in {"", ".."} or "/" in request.configuration:
            raise BuildError(
                FailureReason.CONFIG_INVALID,
                Reason(ReasonKey.FILE_NAME_INVALID, {"configuration": request.configuration}),
            )
        try:
            with disk_errors():
                async with self._tree(request.configuration):
                    return await self._with_tools(request, sink)
        finally:
            await self.refresh()

    @override
    async def clean(self, configuration: str, *, tools: bool = False) -> None:
        with disk_errors():
            async with self._tree(configuration):
                tree = self._layout.tree(configuration)
                doomed = await in_thread(lambda _: self._layout.to_trash(tree))
            if doomed is not None:
                await self._delete([doomed])
            if tools:
                await self._clean_tools()
            await self.refresh()

    async def _clean_tools(self) -> None:
        async with self._tools:
            if self._building:
                reason = Reason(ReasonKey.TOOLS_IN_USE, {"label": self.label})
                raise BuildError(FailureReason.BUILDER_UNAVAILABLE, reason)
            doomed = await in_thread(lambda _stop: self._trash_all())
        await self._delete(doomed)

    async def _delete(self, doomed: Iterable[Path]) -> None:
        """Delete what is in the trash: some 100,000 files take a slow board minutes."""
        if self._background is None:
            await in_thread(lambda stop: _remove(doomed, stop))
        else:
            self._background.start(self._delete_later(doomed), "esphome_offload delete")

    async def _delete_later(self, doomed: Iterable[Path]) -> None:
        async with self._deleting:
            await in_thread(lambda stop: _remove(doomed, stop))
        await self.refresh()

    def _trash_all(self) -> list[Path]:
        fetched = map(self._layout.to_trash, self._layout.fetched)
        return [*trash_all(self._layout), *(path for path in fetched if path is not None)]

    @property
    @override
    def folder(self) -> Path:
        """Where the trees are."""
        return self._layout.trees

    @override
    async def discard(self, key: str) -> bool:
        """Remove a tree, by ``configuration_key``; returns False while it may be in use."""
        lock = self._locks[key]
        if lock.locked() or key in self._recent:
            return False
        async with lock:
            _LOGGER.debug("Removed the build tree %s to free disk space", key)
            await in_thread(lambda _: self._layout.discard(self.folder / key))
            return True

    async def _with_tools(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        """Build; what was found to be damaged is removed when no build uses the tools any more."""
        async with self._tools:
            self._building += 1
        try:
            return await self._build(request, sink)
        finally:
            self._building -= 1
            await self._discard_damaged()
            await self._clean_up()

    async def _clean_up(self) -> None:
        """Remove what builds left elsewhere; the next one begins after that."""
        async with self._tools:
            if self._containment is not None and not self._building:
                containment = self._containment
                await in_thread(lambda _stop: containment.clean_up())

    async def _discard_damaged(self) -> None:
        async with self._tools:
            if self._building or not self._damaged:
                return
            damaged = tuple(self._damaged)
            self._damaged.clear()
            doomed = await in_thread(lambda _stop: self._trash(damaged))
        await asyncio.to_thread(_remove, doomed)

    def _trash(self, damaged: Iterable[Package]) -> list[Path]:
        doomed = []
        for package in damaged:
            if (path := trash_package(self._layout, package)) is not None:
                _LOGGER.warning("Removed a damaged package of the tools: %s", "/".join(package))
                doomed.append(path)
        return doomed

    async def _build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        sink.stage(Stage.PREPARING)
        check(await asyncio.to_thread(self._machine.read))
        toolchain = await self._toolchains.ensure(request.esphome_version, sink.lines)
        tree = self._layout.tree(request.configuration)
        await in_thread(lambda _: self._prepare(tree, request))
        sink.stage(Stage.COMPILING)
        await self._compile(request, toolchain, tree, sink)
        # Out of reach of builds.
        taken = self._layout.staging / uuid.uuid4().hex
        try:
            result = await in_thread(
                lambda _: take_result(tree, request.configuration, taken / "first")
            )
            if await asyncio.to_thread(self._mistakable, request.configuration, result):
                # ESPHome keeps the time of the build where only an included file has changed. A
                # device could not be asked whether it runs this build or the one before.
                sink.lines((f"{OWN}Built again: this firmware has the build time of an older one",))
                await in_thread(lambda _: forget_build_info(tree, request.configuration))
                await self._compile(request, toolchain, tree, sink)
                result = await in_thread(
                    lambda _: take_result(tree, request.configuration, taken / "second")
                )
            await in_thread(lambda _: self._identify(request.configuration, result))
            check_version(result.build_info, request.esphome_version)
            return await self._firmware.keep(request.configuration, request.device_name, result)
        finally:
            await asyncio.to_thread(remove, taken)

    async def _compile(
        self, request: BuildRequest, toolchain: Toolchain, tree: Path, sink: BuildSink
    ) -> None:
        output = BuildOutput(
            sink, *await asyncio.to_thread(self._file_counts.read, request.configuration)
        )
        call = EsphomeCall(
            config_dir=request.config_dir,
            data_dir=tree,
            time_zone=request.time_zone,
            arguments=("compile", str(request.config_dir / request.configuration)),
            variables=await in_thread(lambda _: self._compiler_cache.prepare(toolchain, tree)),
        )
        try:
            command = await asyncio.to_thread(
                esphome_command, self._layout, self._entry, toolchain, call, self._containment
            )
            result = await self._processes.run_lines(
                command,
                output.lines,
                output.progressed,
                timeout=_BUILD_TIMEOUT,
                progress=output.progress,
            )
        except (ContainmentError, LaunchError, TimeoutError) as error:
            self._toolchains.invalidate(toolchain.version)
            sink.lines((f"{OWN}ESPHome could not be run: {error}",))
            raise BuildError(
                FailureReason.BUILDER_ENVIRONMENT, Reason(ReasonKey.ESPHOME_FAILED)
            ) from error
        use = await asyncio.to_thread(self._compiler_cache.count, tree)
        if use.files:
            sink.lines((f"{OWN}Compiler cache: {use.hits} of {use.files} from the cache",))
        if result.exit_code == 0:
            if output.kind is not None:
                await asyncio.to_thread(
                    self._file_counts.keep,
                    request.configuration,
                    output.kind,
                    output.progress.files,
                )
            return
        failure = await diagnose(
            output.tail,
            result,
            request.config_dir,
            valid=output.valid,
            compiled=output.compiled,
        )
        if failure.failure_reason is FailureReason.BUILDER_ENVIRONMENT:
            self._toolchains.invalidate(toolchain.version)
        if failure.reason.key in (ReasonKey.TOOL_MISSING, ReasonKey.TOOLS_NOT_SET_UP):
            await self._note_damage(output.tail, sink)
        raise failure

    async def _note_damage(self, tail: Iterable[str], sink: BuildSink) -> None:
        found = await asyncio.to_thread(find_damaged, self._layout, tuple(tail))
        self._damaged.update(dict.fromkeys(found))
        for package in found:
            sink.lines((f"{OWN}Damaged, and removed when no build uses it: {'/'.join(package)}",))

    def _prepare(self, tree: Path, request: BuildRequest) -> None:
        self._layout.make()
        if request.clean:
            self._layout.discard(tree)
        tree.mkdir(exist_ok=True)
        forget_validated(tree, request.configuration)
        os.utime(tree)
        self._recent.note(tree.name)

    def _mistakable(self, configuration: str, result: BuildResult) -> bool:
        """Return whether the build before says the same of itself, and is another one."""
        try:
            last = decode_json(_Identity, self._layout.tree_identity(configuration).read_bytes())
        except OSError, CodecError:
            return False
        same = last.build_info == result.build_info and bool(result.build_info.build_time)
        return same and last.sha256 != digest(result.ota)

    def _identify(self, configuration: str, result: BuildResult) -> None:
        identity = encode_json(_Identity(digest(result.ota), result.build_info))
        self._layout.tree_identity(configuration).write_bytes(identity)

    def _tree(self, configuration: str) -> asyncio.Lock:
        return self._locks[configuration_key(configuration)]

    def _update(self, status: BuilderStatus) -> None:
        if status != self._status:
            self._status = status
            self._listeners.notify()


def _remove(folders: Iterable[Path], stop: threading.Event | None = None) -> None:
    for folder in folders:
        remove(folder, stop)
