"""Workspaces: where each guest's bundles are unpacked and built, apart from all others."""

import asyncio
import os
from pathlib import Path
import threading
import uuid

from ..build.cache.layout import CacheLayout, configuration_key
from ..build.model import BuildError
from ..build.services import GuestBuildServices
from ..const import FailureReason
from ..locks import Locks
from ..reason import Reason, ReasonKey
from ..tasks import BackgroundTasks
from ..threads import in_thread
from .ports import MakeGuestBuildServices
from .unpack import UnpackStopped, unpack


class GuestWorkspace:
    """The folder of a guest and its build services."""

    def __init__(self, services: GuestBuildServices) -> None:
        self.builder = services.builder
        self.firmware = services.firmware
        self.layout = services.layout
        self._locks = Locks()

    def device(self, configuration: str) -> asyncio.Lock:
        """Return the lock that is held while the files of a device are used."""
        return self.lock(configuration_key(configuration))

    def lock(self, key: str) -> asyncio.Lock:
        """Return the same lock by ``configuration_key``."""
        return self._locks[key]

    async def has(self, configuration: str, sha256: str) -> bool:
        """Return whether this bundle is unpacked."""
        found = await asyncio.to_thread(_unpacked, self.layout, configuration, sha256)
        return found is not None

    async def prepare(self, configuration: str, sha256: str, bundle: Path | None) -> Path:
        """Return the folder of the configuration in a bundle, which is unpacked if it is not yet.

        Raises BuildError (bundle_incomplete, builder_environment) and OSError. When cancelled
        it stops within a moment.
        """
        return await in_thread(
            lambda stop: _prepare(self.layout, configuration, sha256, bundle, stop)
        )

    async def clean(self, configuration: str, *, tools: bool = False) -> None:
        """Delete the tree and the sources of a device, and ``tools``; raises BuildError."""
        async with self.device(configuration):
            await self.builder.clean(configuration, tools=tools)
            key = configuration_key(configuration)
            await in_thread(lambda _: _forget_sources(self.layout, key))


class GuestWorkspaces:
    """The workspaces of all guests, each made when it is first needed."""

    def __init__(self, layout: CacheLayout, make: MakeGuestBuildServices) -> None:
        """``layout`` is this instance's."""
        self._layout = layout
        self._make = make
        self._workspaces: dict[str, GuestWorkspace] = {}
        self._opening = Locks()
        self._tasks = BackgroundTasks()

    async def clean_up(self) -> None:
        """Remove what the processes of an earlier run left; while no build runs.

        It is deleted in the background, until ``stop``.
        """
        await asyncio.to_thread(_empty_tmp, self._layout.guests)
        # The trash may have been emptied before this came into it.
        self._tasks.start(in_thread(self._layout.empty_trash), "esphome_offload guests' trash")

    async def stop(self) -> None:
        """Return when nothing is deleted any more."""
        await self._tasks.cancel()

    def get(self, pin_sha256: str) -> GuestWorkspace | None:
        """Return a guest's workspace if it is made."""
        return self._workspaces.get(pin_sha256)

    def named(self, folder: str) -> GuestWorkspace | None:
        """Return the workspace whose folder has this name, if it is made."""
        return next(
            (each for each in self._workspaces.values() if each.layout.root.name == folder), None
        )

    def closed(self, folder: str) -> asyncio.Lock:
        """Return the lock that ``open`` waits for, by the name of the workspace's folder."""
        return self._opening[folder]

    async def open(self, pin_sha256: str) -> GuestWorkspace:
        """Return a guest's workspace; each build begins with it."""
        layout = self._layout.guest(pin_sha256)
        async with self._opening[layout.root.name]:
            workspace = self._workspaces.get(pin_sha256)
            if workspace is None:
                await in_thread(lambda _: layout.make())
                workspace = GuestWorkspace(await self._make(layout))
                self._workspaces[pin_sha256] = workspace
            return workspace

    async def remove(self, pin_sha256: str) -> None:
        """Delete all that was built for a guest; none of its builds may run any more."""
        root = self._layout.guest(pin_sha256).root
        async with self._opening[root.name]:
            self._workspaces.pop(pin_sha256, None)
            await in_thread(lambda _: self._layout.discard(root))


def _empty_tmp(guests: Path) -> None:
    if guests.is_dir():
        for root in guests.iterdir():
            CacheLayout(root).empty_tmp()


def _unpacked(layout: CacheLayout, configuration: str, sha256: str) -> Path | None:
    """Return the folder of the configuration; None when this bundle is not unpacked."""
    key = configuration_key(configuration)
    try:
        known, _, inside = layout.source_digest(key).read_text(encoding="utf-8").partition("\n")
    except OSError, UnicodeError:
        return None
    folder = layout.source(key) / inside
    return folder if known == sha256 and (folder / configuration).is_file() else None


def _prepare(
    layout: CacheLayout, configuration: str, sha256: str, bundle: Path | None, stop: threading.Event
) -> Path:
    key = configuration_key(configuration)
    digest = layout.source_digest(key)
    config_dir = _unpacked(layout, configuration, sha256)
    if config_dir is None:
        if bundle is None:
            raise BuildError(
                FailureReason.BUILDER_ENVIRONMENT,
                Reason(ReasonKey.BUNDLE_LOST),
            )
        # Not in TMPDIR: a build of this guest that runs meanwhile could put links in the way.
        fresh = layout.staging / uuid.uuid4().hex
        inside = unpack(bundle, fresh, stop)
        if not (fresh / inside / configuration).is_file():
            layout.discard(fresh)
            raise BuildError(
                FailureReason.BUNDLE_INCOMPLETE,
                Reason(ReasonKey.BUNDLE_LACKS, {"configuration": configuration}),
            )
        _forget_sources(layout, key)
        folder = layout.source(key)
        folder.parent.mkdir(exist_ok=True)
        fresh.rename(folder)
        digest.write_text(f"{sha256}\n{inside}", encoding="utf-8")
        config_dir = folder / inside
    os.utime(digest)
    if stop.is_set():
        raise UnpackStopped
    return config_dir


def _forget_sources(layout: CacheLayout, key: str) -> None:
    # First what says that they are complete.
    layout.source_digest(key).unlink(missing_ok=True)
    layout.discard(layout.source(key))
