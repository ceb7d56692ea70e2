"""UnchangedBuilds: kept firmware in place of a build that would only make it again.

That is where ESPHome's hash of the configuration, the version and the fingerprint of all files are
what they were, together with all else that a build depends on (``build.origins``). Whatever is not
known for sure is built.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ..build.model import Builder, BuildError, Firmware
from ..build.origins import BuildState, KeptBuild
from ..const import REQUESTED_AUTO, Operation, Source
from ..locks import Locks
from .model import FirmwareJob, JobRequest
from .pool import BuilderPool
from .ports import (
    ConfigurationHashes,
    ConfigurationSource,
    FirmwareKeeper,
    FolderUnavailableError,
    OriginKeeper,
    QueueSettings,
)


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Kept firmware of the present state of a configuration, and who built it."""

    firmware: Firmware
    builder: Builder
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Files:
    """The present state, and what tells also that files were changed and changed back."""

    state: BuildState
    signatures: object


@dataclass(frozen=True, slots=True)
class BeforeBuild:
    """What is known of the time before a build; ``started`` is the moment when it began."""

    files: _Files
    started: int


class UnchangedBuilds:
    """Finds firmware of an unchanged configuration, and keeps what is needed for that."""

    def __init__(
        self,
        *,
        origins: OriginKeeper,
        hashes: ConfigurationHashes,
        firmware: FirmwareKeeper,
        configurations: ConfigurationSource,
        builders: BuilderPool,
        settings: Callable[[], QueueSettings],
    ) -> None:
        self._origins = origins
        self._hashes = hashes
        self._firmware = firmware
        self._configurations = configurations
        self._builders = builders
        self._settings = settings
        self._of_configuration = Locks()
        # Jobs look one after the other, so that they get to the builders in their order. None
        # waits for the process that another one needs for its hash, of which there is one.
        self._looking = asyncio.Lock()
        self._asking = asyncio.Lock()

    async def find(self, job: FirmwareJob) -> Unchanged | None:
        """Return the firmware that a job would build; None when it has to be built.

        It has not been altered. Firmware of a builder that is not paired any more, or that is not
        the one that was asked for, does not count.
        """
        if job.request.clean or job.request.rebuild:
            return None
        async with self._of_configuration[job.request.configuration]:
            return await self._find(job.request)

    async def _find(self, request: JobRequest) -> Unchanged | None:
        async with self._looking:
            before = await self._files(request)
            found = [] if before is None else await self._origins.find(before.state)
        if before is None:
            return None
        for kept in found:
            builder = self._builders.get(kept.builder_id)
            if builder is None or request.requested_source not in (
                REQUESTED_AUTO,
                kept.builder_id,
            ):
                continue
            fingerprint = before.state.fingerprint
            if await self._hash(request, fingerprint) != kept.config_hash:
                continue
            with suppress(BuildError, OSError):
                firmware = await self._firmware.load(request.configuration, kept.firmware.sha256)
                if firmware is not None and _is_enough(request, firmware):
                    await self._firmware.renew(firmware)
                    return Unchanged(firmware, builder, fingerprint)
        return None

    async def _hash(self, request: JobRequest, fingerprint: str) -> int | None:
        if (known := self._hashes.known(request, fingerprint)) is not None:
            return known
        async with self._asking:
            return await self._hashes.ask(request, fingerprint)

    async def before(self, job: FirmwareJob) -> BeforeBuild | None:
        """Return what ``note`` needs to know of the time before a build; None: it is not known."""
        started = await self._origins.begin()
        files = await self._files(job.request)
        return None if started is None or files is None else BeforeBuild(files, started)

    async def note(
        self, job: FirmwareJob, before: BeforeBuild | None, firmware: Firmware, builder: Builder
    ) -> None:
        """Keep from what a firmware was built, unless files have changed meanwhile."""
        if before is None:
            return
        now = await self._files(job.request)
        if now is None or now != before.files:
            return
        own = firmware.build_info.config_hash
        if builder.source is not Source.LOCAL:
            # With ``includes:`` it depends on the folder: the one of elsewhere is another one.
            own = self._hashes.known(job.request, now.state.fingerprint) or own
        built = KeptBuild(firmware, builder.builder_id, own)
        await self._origins.note(now.state, built, before.started)

    async def forget(self, configuration: str | None) -> None:
        """Have a configuration built again, whatever is kept; None: each of them."""
        with suppress(OSError):
            await self._origins.forget(configuration)

    async def _files(self, request: JobRequest) -> _Files | None:
        """Return the present state; None when not all is known of it."""
        configuration = request.configuration
        with suppress(FolderUnavailableError):
            fingerprint = await self._configurations.fingerprint(configuration)
            signatures = self._configurations.all_files(configuration)
            if fingerprint is not None and signatures is not None:
                state = BuildState(
                    configuration,
                    self._configurations.config_dir,
                    request.node_name,
                    request.esphome_version,
                    self._settings().time_zone,
                    fingerprint,
                )
                return _Files(state, signatures)
        return None


def _is_enough(request: JobRequest, firmware: Firmware) -> bool:
    """Return whether firmware has what is asked for: who compiles may want its other files."""
    elsewhere = firmware.elsewhere is not None and bool(firmware.elsewhere.images)
    return request.operation is not Operation.COMPILE or bool(firmware.images) or elsewhere
