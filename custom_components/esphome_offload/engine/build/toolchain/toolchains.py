"""Toolchains: one virtual environment per ESPHome version, made when first wanted."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import logging
import os
from pathlib import Path
import platform
import re
import shutil
import threading

from packaging.version import Version

from ...clock import Time
from ...const import FailureReason
from ...libc import is_musl
from ...locks import Locks
from ...reason import Reason, ReasonKey
from ...text import one_line
from ...threads import in_thread
from ..cache.eviction import (
    TOOLCHAINS_BUDGET,
    CacheEntry,
    RecentUse,
    cache_entries,
    evict,
    folders,
)
from ..cache.layout import CacheLayout, lock_of
from ..model import BuildError, disk_errors
from ..process.environment import process_environment
from ..process.processes import (
    Command,
    LaunchError,
    Processes,
    ProcessResult,
)
from .ccache import add_ccache, install_arguments
from .toolchain import Toolchain
from .uv import Uv, problem, runs_here
from .versions import VersionError, normal_version

_LOGGER = logging.getLogger(__name__)

_STAMP = ".complete"
"""Written last, so that a folder without it is half-made."""
_INSTALL_TIMEOUT = 3600.0
"""About 100 MB over a slow line, then 5000 files compiled by a small board: half of this."""
_CHECK_TIMEOUT = 120.0
"""0.1 s here; a small board that reads it from an SD card for the first time needs many."""
_TAIL = 12
"""Lines of uv that say why it failed; more would not fit into a message."""
_SHORTAGE = re.compile(
    r"MemoryError|Cannot allocate memory|Resource temporarily unavailable|Too many open files"
    r"|No space left on device|Disk quota exceeded|Input/output error|can't start new thread"
)
"""What a healthy toolchain prints on a machine that has run out of something."""
_VERSION_LINE = re.compile(r"^Version: (\S+)", re.MULTILINE)

type Lines = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class _Making:
    """A toolchain that is being made, and the callers that wait for it."""

    task: asyncio.Task[Toolchain]
    listeners: list[Lines] = field(default_factory=list)


class Toolchains:
    """Makes, checks and lists toolchains. Several may want the same one at the same time."""

    def __init__(
        self, layout: CacheLayout, processes: Processes, uv: Uv, time: Time | None = None
    ) -> None:
        self._layout = layout
        self._processes = processes
        self._uv = uv
        self._installed: tuple[str, ...] = ()
        self._healthy: set[str] = set()
        self._making: dict[str, _Making] = {}
        self._locks = Locks()
        self._recent = RecentUse(time)
        self._small_enough: tuple[int, object] | None = None
        # Between threads: one takes a toolchain into use, one removes what is not in use.
        self._use = threading.Lock()

    def installed(self) -> tuple[str, ...]:
        """Return the versions that have a complete toolchain, newest first; without I/O."""
        return self._installed

    async def load(self) -> None:
        """List the complete toolchains and remove half-made ones; nothing may run meanwhile."""
        self._installed = await asyncio.to_thread(self._scan)

    async def ensure(self, version: str, lines: Lines) -> Toolchain:
        """Return the toolchain of a version, making it when it is missing or broken.

        ``lines`` gets uv's output while it is made. Raises BuildError: version_unavailable when
        the version cannot be installed on this machine at all, builder_environment when the
        network, the disk or the memory is the cause. Making it stops when no caller waits any more.
        """
        try:
            version = normal_version(version)
        except VersionError as error:
            raise BuildError(FailureReason.VERSION_UNAVAILABLE, error.reason) from error
        if (making := self._making.get(version)) is None:
            toolchain = self._toolchain(version)
            if version in self._healthy and await asyncio.to_thread(self._complete, toolchain):
                return toolchain
            # Another caller may have started it meanwhile.
            making = self._making.get(version) or self._start(version)
        making.listeners.append(lines)
        try:
            await asyncio.wait({making.task})
        finally:
            making.listeners.remove(lines)
            if not making.listeners and not making.task.done():
                await self._stop(version, making)
        return making.task.result()

    async def newest(self) -> Toolchain | None:
        """Return the newest toolchain that is there, unchecked; None while there is none."""
        for version in self._installed:
            toolchain = self._toolchain(version)
            if await asyncio.to_thread(self._complete, toolchain):
                return toolchain
        return None

    async def make_room(self, budget: int = TOOLCHAINS_BUDGET) -> None:
        """Remove toolchains until the rest takes no more than ``budget`` bytes."""
        folder = self._layout.toolchains
        present = budget, await asyncio.to_thread(_stamps, folder)
        if present == self._small_enough:
            # They have thousands of files, none of which changes.
            return
        entries = await in_thread(lambda stop: cache_entries(folder, stop, _STAMP))
        left = await evict(entries, budget, self._evict)
        self._small_enough = present if left <= budget else None

    async def _evict(self, entry: CacheEntry) -> bool:
        version = entry.path.name
        async with self._locks[version]:
            if not await in_thread(lambda _: self._discard_unused(entry.path)):
                return False
            _LOGGER.debug("Removed the toolchain of ESPHome %s to free disk space", version)
            self._forget(version)
            return True

    def _forget(self, version: str) -> None:
        self._healthy.discard(version)
        self._installed = tuple(each for each in self._installed if each != version)

    def _discard_unused(self, folder: Path) -> bool:
        with self._use:
            if folder.name in self._recent:
                return False
            self._layout.discard(folder)
        return True

    def have_ccache(self) -> bool:
        """Return whether builds find a compiler cache, in a toolchain or on this machine. Blocks."""
        own = any(self._toolchain(version).ccache.is_file() for version in self._installed)
        return own or shutil.which("ccache") is not None

    def invalidate(self, version: str) -> None:
        """Check the toolchain before it is used again; a build failed with it."""
        self._healthy.discard(version)

    def _toolchain(self, version: str) -> Toolchain:
        programs = self._layout.toolchain(version) / "bin"
        return Toolchain(version, programs / "python", programs)

    def _start(self, version: str) -> _Making:
        making = _Making(asyncio.create_task(self._check_or_make(version)))
        self._making[version] = making

        def ended(_task: asyncio.Task[Toolchain]) -> None:
            if self._making.get(version) is making:
                del self._making[version]

        making.task.add_done_callback(ended)
        return making

    async def _stop(self, version: str, making: _Making) -> None:
        """Stop making a toolchain that no caller waits for; one that comes now starts it again."""
        if self._making.get(version) is making:
            del self._making[version]
        making.task.cancel()
        await asyncio.wait({making.task})

    async def _check_or_make(self, version: str) -> Toolchain:
        toolchain = self._toolchain(version)
        # Not the lock file: this one also covers the removal of folders and cancellations.
        async with self._locks[version]:
            with disk_errors():
                complete = await asyncio.to_thread(self._complete, toolchain)
                if not complete or not await self._works(toolchain):
                    if complete:
                        _LOGGER.warning(
                            "The toolchain of ESPHome %s is broken: made again", version
                        )
                    await self._make(toolchain)
                elif not await asyncio.to_thread(toolchain.ccache.is_file):
                    await self._add_ccache(toolchain)
                self._healthy.add(version)
                self._installed = _newest_first({*self._installed, version})
        return toolchain

    async def _make(self, toolchain: Toolchain) -> None:
        version = toolchain.version
        folder = self._layout.toolchain(version)
        self._installed = tuple(known for known in self._installed if known != version)
        self._healthy.discard(version)
        await asyncio.to_thread(self._layout.make)
        self._notify(version, f"== Making the toolchain of ESPHome {version} on this machine, once")
        await in_thread(lambda _: self._layout.discard(folder))
        try:
            await self._install(toolchain, folder)
        except BaseException:
            # Also when cancelled: what is half-made goes.
            await in_thread(lambda _: self._layout.discard(folder))
            raise
        self._notify(version, f"== ESPHome {version} is ready on this machine")

    async def _install(self, toolchain: Toolchain, folder: Path) -> None:
        version, python = toolchain.version, str(self._uv.python)
        # With pip: PlatformIO's platforms install what they need into this environment.
        await self._run_uv(
            version, "venv", "--no-project", "--seed", "--python", python, str(folder)
        )
        await self._run_uv(
            version,
            "pip",
            "install",
            "--compile-bytecode",
            "--python",
            str(toolchain.python),
            f"esphome=={version}",
        )
        if not await asyncio.to_thread(_runs_here, folder):
            raise _never(ReasonKey.VERSION_OTHER_PYTHON, version)
        if not await self._works(toolchain):
            raise _never(ReasonKey.VERSION_BROKEN, version)
        await self._add_ccache(toolchain)
        await in_thread(lambda _: _write_stamp(folder, version))

    async def _add_ccache(self, toolchain: Toolchain) -> None:
        if is_musl():
            return
        await add_ccache(
            self._processes,
            self._uv.command(
                *install_arguments(toolchain.python),
                lock=lock_of(self._layout.toolchain(toolchain.version)),
            ),
            self._check(toolchain, str(toolchain.ccache), "--version"),
        )

    async def _run_uv(self, version: str, *arguments: str) -> None:
        tail: list[str] = []

        def lines(batch: Sequence[str]) -> None:
            tail.extend(batch)
            del tail[:-_TAIL]
            self._notify(version, *batch)

        command = self._uv.command(*arguments, lock=lock_of(self._layout.toolchain(version)))
        try:
            result = await self._processes.run_lines(command, lines, timeout=_INSTALL_TIMEOUT)
        except (TimeoutError, LaunchError) as error:
            raise _not_now(ReasonKey.INSTALLER_FAILED, version) from error
        if result.exit_code != 0:
            raise self._failure(version, result, "\n".join(tail))

    def _failure(self, version: str, result: ProcessResult, output: str) -> BuildError:
        if result.out_of_memory:
            return _not_now(ReasonKey.VERSION_NO_MEMORY, version)
        if "No space left on device" in output or "os error 28" in output:
            return _not_now(ReasonKey.VERSION_NO_DISK, version)
        key = problem(output)
        if key is None:
            return _never(ReasonKey.VERSION_NOT_INSTALLED, version, code=str(result.exit_code))
        if key is not ReasonKey.VERSION_UNCHECKED:
            return _never(key, version)
        if not self._installed:
            return _not_now(ReasonKey.VERSION_NOT_DOWNLOADED, version)
        installed = ", ".join(self._installed)
        return _not_now(ReasonKey.VERSION_NOT_AMONG_INSTALLED, version, installed=installed)

    async def _works(self, toolchain: Toolchain) -> bool:
        """Ask the toolchain for its version, which imports what every call of ESPHome does.

        Runs alone, uncontained, and reads nothing that a build can write. Returns False only for a
        wrong answer; raises BuildError (builder_environment) if there is none, for which the
        toolchain may not be the cause.
        """
        command = self._check(
            toolchain, *toolchain.python_command, "-s", "-m", "esphome", "version"
        )
        try:
            result, output = await self._processes.capture(command, timeout=_CHECK_TIMEOUT)
        except (TimeoutError, LaunchError) as error:
            raise _cannot_check(toolchain.version, str(error)) from error
        if result.signal is not None or result.out_of_memory:
            raise _cannot_check(toolchain.version, "the check was killed")
        if result.exit_code != 0 and (shortage := _SHORTAGE.search(output)):
            raise _cannot_check(toolchain.version, shortage[0])
        answer = _VERSION_LINE.search(output)
        return (
            result.exit_code == 0
            and answer is not None
            and Version(answer[1]) == Version(toolchain.version)
        )

    def _check(self, toolchain: Toolchain, *argv: str) -> Command:
        return Command(
            argv=argv,
            cwd=self._layout.root,
            env=process_environment(
                os.environ, time_zone="UTC", home=self._layout.home, tmpdir=self._layout.tmp
            ),
            lock=lock_of(self._layout.toolchain(toolchain.version)),
        )

    def _notify(self, version: str, *lines: str) -> None:
        if (making := self._making.get(version)) is not None:
            for listener in tuple(making.listeners):
                listener(lines)

    def _complete(self, toolchain: Toolchain) -> bool:
        """Return whether a toolchain can be used; if so, it counts as in use from now on."""
        stamp = self._layout.toolchain(toolchain.version) / _STAMP
        with self._use:
            if not stamp.is_file() or not toolchain.python.exists():
                return False
            with contextlib.suppress(OSError):
                # On a disk that nothing can be written to, devices are flashed all the same.
                os.utime(stamp)
            self._recent.note(toolchain.version)
        return True

    def _scan(self) -> tuple[str, ...]:
        self._layout.make()
        versions: set[str] = set()
        for folder in self._layout.toolchains.iterdir():
            if not folder.is_dir():
                continue
            if (folder / _STAMP).is_file():
                with contextlib.suppress(VersionError):
                    versions.add(normal_version(folder.name))
            else:
                self._layout.discard(folder)
        return _newest_first(versions)


def _never(key: ReasonKey, version: str, **parameters: str) -> BuildError:
    return BuildError(FailureReason.VERSION_UNAVAILABLE, _reason(key, version, parameters))


def _not_now(key: ReasonKey, version: str, **parameters: str) -> BuildError:
    return BuildError(FailureReason.BUILDER_ENVIRONMENT, _reason(key, version, parameters))


def _reason(key: ReasonKey, version: str, parameters: Mapping[str, str]) -> Reason:
    python = platform.python_version()
    return Reason(key, {"version": version, "python": python, **parameters})


def _cannot_check(version: str, why: str) -> BuildError:
    _LOGGER.warning("ESPHome %s cannot be started now: %s", version, one_line(why, 200))
    return _not_now(ReasonKey.VERSION_NOT_STARTED, version)


def _runs_here(folder: Path) -> bool:
    return any(runs_here(packages) for packages in folder.glob("lib/python*/site-packages"))


def _newest_first(versions: set[str]) -> tuple[str, ...]:
    return tuple(sorted(versions, key=Version, reverse=True))


def _stamps(folder: Path) -> frozenset[tuple[str, int]]:
    """Return which toolchains there are, and which of them are complete; not when one was used."""
    stamps = [path / _STAMP for path in folders(folder)]
    return frozenset(
        (each.parent.name, each.stat().st_ino if each.exists() else 0) for each in stamps
    )


def _write_stamp(folder: Path, version: str) -> None:
    (folder / _STAMP).write_text(f"{version}\n", encoding="utf-8")
