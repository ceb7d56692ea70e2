"""The first half of a job: from a request to firmware."""

from collections.abc import Callable, Mapping
from contextlib import suppress
import logging
from types import MappingProxyType

from ..build.model import (
    BuildDetached,
    Builder,
    BuildError,
    BuildRequest,
    Firmware,
)
from ..clock import Time, sleep
from ..const import FailureReason
from ..job_log import OWN, JobLogs
from ..reason import Reason, ReasonKey
from .attempt_sink import AttemptSink, ReplayFilter, attempt_boundary
from .build_lane import BuildLane
from .build_times import BuildTimes
from .builder_outlook import Binding, BuilderFailure
from .ids import new_id
from .ledger import Ledger
from .model import Attempt, FirmwareJob, Routing
from .pool import BuilderPool
from .ports import (
    ConfigurationSource,
    FirmwareKeeper,
    FolderUnavailableError,
    QueueSettings,
)
from .remedies import Action, FailureHistory, Step
from .unchanged import UnchangedBuilds

_LOGGER = logging.getLogger(__name__)

_FOLDER_AGAIN = 10.0
"""Seconds until an unavailable configuration folder is looked at again."""
_ALL_LINES = 1_000_000
"""More than a log can hold."""


class Building:
    """Gets firmware for a job: what is kept, or what a builder builds."""

    def __init__(
        self,
        *,
        lane: BuildLane,
        ledger: Ledger,
        logs: JobLogs,
        builders: BuilderPool,
        firmware: FirmwareKeeper,
        configurations: ConfigurationSource,
        settings: Callable[[], QueueSettings],
        times: BuildTimes,
        time: Time,
        unchanged: UnchangedBuilds,
    ) -> None:
        self._lane = lane
        self._ledger = ledger
        self._logs = logs
        self._builders = builders
        self._firmware = firmware
        self._configurations = configurations
        self._settings = settings
        self._times = times
        self._time = time
        self._unchanged = unchanged

    async def build(self, job: FirmwareJob, failures: FailureHistory) -> Firmware:
        """Build at one builder after the other; raises BuildError when none is left.

        It starts with the attempt that another machine has already, if there is one.
        """
        failed: dict[str, BuilderFailure] = {}
        last: BuildError | None = None
        resumed = await self._resumed(job)
        while True:
            try:
                async with self._lane.slot(job, failed, resumed) as binding:
                    builder_id = binding.builder.builder_id
                    # Meanwhile it may have been built for another device of the configuration.
                    if job.waiting_for is not None and (kept := await self.unchanged(job)):
                        return kept
                    try:
                        return await self._attempt(job, binding, resumed)
                    except BuildDetached:
                        # Its entry is being reloaded, mostly: it is found again in a moment.
                        resumed = job.current_attempt
                        continue
                    except BuildError as err:
                        last = err
            except BuildError as no_builder:
                if resumed is None:
                    # What went wrong where it was tried says more than that no other is left.
                    raise (last or no_builder) from no_builder
                self._ledger.end_attempt(job, FailureReason.BUILDER_UNAVAILABLE, no_builder.reason)
                resumed = None
                continue
            resumed = None
            decision = failures.decide(Step.BUILD, last.failure_reason)
            match decision.action:
                case Action.NEXT_BUILDER:
                    pause = decision.delay
                    again_at = self._time.monotonic() + pause if pause else None
                    failed[builder_id] = BuilderFailure(last.reason, again_at)
                case Action.BUILD_AGAIN:
                    pass
                case _:
                    raise last

    async def kept(self, job: FirmwareJob, failures: FailureHistory) -> Firmware | None:
        """Return what this job built before a restart; None when it has to be built."""
        sha256 = job.firmware_sha256
        if sha256 is None:
            return None
        reason = Reason(ReasonKey.FIRMWARE_GONE, {"device": job.request.device_name})
        gone = BuildError(FailureReason.NO_FIRMWARE, reason)
        try:
            firmware = await self._firmware.load(job.request.configuration, sha256)
        except BuildError as err:
            firmware, gone = None, err
        if firmware is not None:
            return firmware
        again = failures.decide(Step.KEPT, gone.failure_reason).action is Action.BUILD_AGAIN
        if not again or not job.request.operation.builds:
            raise gone
        _LOGGER.warning("Job %s is built again: %s", job.job_id, gone)
        return None

    async def unchanged(self, job: FirmwareJob) -> Firmware | None:
        """Take kept firmware that a build would only make again; None: it has to be built.

        The job's source is then who has built that.
        """
        if job.current_attempt is not None:
            return None
        found = await self._unchanged.find(job)
        if found is None:
            return None
        reason = Reason(ReasonKey.CHOSEN_KEPT)
        self._ledger.reuse(job, _routing(job, found.builder, reason))
        firmware = found.firmware
        self._ledger.built(job, firmware.sha256, firmware.build_info, found.fingerprint)
        return firmware

    async def doubt(self, job: FirmwareJob) -> None:
        """Have the configuration of a job built the next time, also if nothing changes."""
        await self._unchanged.forget(job.request.configuration)

    async def latest(self, job: FirmwareJob) -> Firmware:
        """Return what was built last for the configuration of a job."""
        configuration = job.request.configuration
        firmware = await self._firmware.latest(configuration)
        if firmware is None:
            raise BuildError(
                FailureReason.NO_FIRMWARE,
                Reason(ReasonKey.NOTHING_BUILT_YET, {"configuration": configuration}),
            )
        return firmware

    async def fingerprint(self, job: FirmwareJob) -> str:
        """Return the present state of a job's configuration; raises BuildError when it is gone.

        While the configuration folder is unavailable, it waits: nothing there counts as gone.
        """
        configuration = job.request.configuration
        while True:
            with suppress(FolderUnavailableError):
                fingerprint = await self._configurations.fingerprint(configuration)
                break
            if job.stage is not None:
                self._ledger.enter(job, job.stage, Reason(ReasonKey.WAITS_FOR_FOLDER))
            await sleep(self._time, _FOLDER_AGAIN)
        if fingerprint is None:
            raise BuildError(
                FailureReason.CONFIG_INVALID,
                Reason(ReasonKey.CONFIGURATION_MISSING, {"configuration": configuration}),
            )
        return fingerprint

    async def outdated(self, job: FirmwareJob) -> bool:
        """Return whether a job's firmware is of another state of its configuration."""
        now = await self.fingerprint(job)
        if now == job.fingerprint:
            return False
        if job.fingerprint is None or not await self._same_files(job, job.fingerprint):
            return True
        self._ledger.set_built_from(job, now)
        return False

    async def _same_files(self, job: FirmwareJob, fingerprint: str) -> bool:
        with suppress(FolderUnavailableError):
            return await self._configurations.same_files(job.request.configuration, fingerprint)
        return False

    async def clean(self, job: FirmwareJob) -> None:
        """Remove the build trees of a configuration at all builders; raises the first BuildError.

        If the request says so, also the tools that were downloaded there.
        """
        first: BuildError | None = None
        # The tools are those of all configurations.
        await self._unchanged.forget(None if job.request.clean else job.request.configuration)
        for builder in self._builders.builders:
            try:
                await builder.clean(job.request.configuration, tools=job.request.clean)
            except BuildError as err:
                self._logs.append(job.job_id, (f"{OWN}{builder.label}: {err}",))
                first = first or err
        if first is not None:
            raise first

    async def _resumed(self, job: FirmwareJob) -> Attempt | None:
        """Return the attempt to continue; one whose configuration was changed is ended."""
        attempt = job.current_attempt
        if attempt is None:
            return None
        former = attempt.fingerprint
        if former == await self.fingerprint(job) or (
            former is not None and await self._same_files(job, former)
        ):
            return attempt
        self._ledger.end_attempt(
            job, FailureReason.SUPERSEDED, Reason(ReasonKey.CONFIGURATION_CHANGED)
        )
        return None

    async def _attempt(
        self, job: FirmwareJob, binding: Binding, resumed: Attempt | None
    ) -> Firmware:
        builder = binding.builder
        first_build = job.firmware_sha256 is None
        if resumed is not None:
            attempt = resumed
            sink = AttemptSink(self._ledger, self._logs, job, await self._logged(job, resumed))
            self._ledger.resume_attempt(job)
        else:
            attempt = self._start_attempt(job, binding)
            sink = AttemptSink(self._ledger, self._logs, job)
        try:
            # Before the build: what changes while it runs counts as changed.
            fingerprint = attempt.fingerprint or await self.fingerprint(job)
            self._ledger.set_fingerprint(job, fingerprint)
            before = None if resumed is not None else await self._unchanged.before(job)
            stopped = Reason(ReasonKey.BUILDER_STOPPED, {"label": builder.label})
            with attempt_boundary(sink, stopped):
                firmware = await builder.build(
                    BuildRequest(
                        job_id=job.job_id,
                        attempt_id=attempt.attempt_id,
                        configuration=job.request.configuration,
                        config_dir=self._configurations.config_dir,
                        device_name=job.request.node_name,
                        esphome_version=job.request.esphome_version,
                        time_zone=self._settings().time_zone,
                        clean=job.request.clean and first_build,
                        resume=resumed is not None,
                    ),
                    sink,
                )
        except BuildError as err:
            self._ledger.end_attempt(job, err.failure_reason, err.reason)
            raise
        await self._unchanged.note(job, before, firmware, builder)
        self._ledger.built(job, firmware.sha256, firmware.build_info, fingerprint)
        self._times.learn_build(job)
        return firmware

    def _start_attempt(self, job: FirmwareJob, binding: Binding) -> Attempt:
        builder = binding.builder
        attempt = Attempt(
            attempt_id=new_id(),
            builder_id=builder.builder_id,
            source=builder.source,
            label=builder.label,
            started_at=self._time.now(),
            warm=binding.warm,
        )
        routing = _routing(job, builder, binding.choice.reason, binding.choice.why_not)
        self._ledger.start_attempt(job, attempt, routing)
        return attempt

    async def _logged(self, job: FirmwareJob, attempt: Attempt) -> ReplayFilter:
        """Return the filter of lines of an attempt that are in the log already."""
        page = await self._logs.read(job.job_id, 0, _ALL_LINES)
        lines = list(page.lines)
        while page.lines and page.next_line < page.total:
            page = await self._logs.read(job.job_id, page.next_line, _ALL_LINES)
            lines.extend(page.lines)
        return ReplayFilter(lines, attempt.label)


def _routing(
    job: FirmwareJob,
    builder: Builder,
    reason: Reason,
    why_not: Mapping[str, Reason] = MappingProxyType({}),
) -> Routing:
    return Routing(
        source=builder.source,
        source_pin_sha256=builder.pin_sha256,
        source_label=builder.label,
        source_esphome_version=job.request.esphome_version,
        reason=reason,
        why_not=why_not,
    )
