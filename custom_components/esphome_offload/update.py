"""The update entity of each target: a configuration, or one of its devices."""

from collections.abc import Iterator
from datetime import timedelta
import re
from typing import Any, Final, override

from awesomeversion import AwesomeVersionCompareException
from homeassistant.components.update import (
    UpdateDeviceClass,
    UpdateEntity,
    UpdateEntityFeature,
)
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util import dt as dt_util

from .const import DOMAIN, job_url
from .coordinator import OffloadConfigEntry
from .engine.const import FailureReason, JobStatus, Operation
from .engine.jobs.model import FirmwareJob
from .engine.jobs.router import Bind, Fail, Wait
from .engine.target import configuration_of
from .engine.text import without_markup
from .entity import OffloadEntity, async_add_to_targets
from .inventory.refusals import can_install
from .texts.reasons import common_text, outcome_text, plain_text, raise_if_pending, reason_text

# The job queue decides what runs at the same time.
PARALLEL_UPDATES = 0

_CHANGELOG: Final = "https://esphome.io/changelog/"

_PROGRESS_STEP: Final = 15
"""Percent; with all else an installation is to take no more than 15 rows of the database."""


async def async_setup_entry(
    hass: HomeAssistant,
    entry: OffloadConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for every target that is there or appears."""
    await async_add_to_targets(entry, async_add_entities, OffloadUpdate)


class OffloadUpdate(OffloadEntity, UpdateEntity):
    """Installs ESPHome on one device; all that it shows of an installation is the job's."""

    _attr_device_class = UpdateDeviceClass.FIRMWARE
    _attr_supported_features = (
        UpdateEntityFeature.INSTALL
        | UpdateEntityFeature.PROGRESS
        | UpdateEntityFeature.SPECIFIC_VERSION
        | UpdateEntityFeature.RELEASE_NOTES
    )
    _attr_title = "ESPHome"
    _attr_translation_key = "esphome"
    _unrecorded_attributes = frozenset(
        {
            "configuration_changed",
            "job_id",
            "pending_version",
            "source_label",
            "waiting_for",
        }
    )

    @property
    def job(self) -> FirmwareJob | None:
        """The job that goes on or waits, else the one that ended last."""
        queue = self.coordinator.queue
        return queue.active(self.target) or queue.last(self.target)

    @property
    @override
    def installed_version(self) -> str | None:
        """Return the version that the device runs, in words where that is not known.

        Without an installed version there would be no update to ask for.
        """
        version = self.coordinator.installed_version(self.target)
        device = self.coordinator.devices.get(self.target)
        if version is None and device is not None and can_install(device, self._wanted or ""):
            return common_text(self.hass, "unknown")
        return version

    @property
    @override
    def latest_version(self) -> str | None:
        """Return the version to install, with words where only the configuration is another.

        The words hold the configuration's hash: one change that is skipped hides no other.
        """
        version = self._wanted
        changed = self.coordinator.firmware.change_id(self.target)
        if version is None or changed is None or self._is_update(version):
            return version
        return common_text(
            self.hass, "configuration_changed_version", version=version, hash=changed
        )

    @override
    def version_is_newer(self, latest_version: str, installed_version: str) -> bool:
        """Return whether there is an update to ask for; one that waits for its device is not.

        Else an automation that installs the first device with an update would never get past
        one that is asleep. ``pending_version`` and ``release_summary`` tell it from a device that
        is up to date.
        """
        if self._pending_version == self._wanted:
            return False
        if latest_version != self._wanted:
            return True  # only the configuration is another
        return self._is_update(latest_version)

    def _is_update(self, version: str) -> bool:
        """Return whether the device runs an earlier version, or it is not known which.

        Of one that is pinned also a later one: it is to run that version.
        """
        installed = self.coordinator.installed_version(self.target)
        if installed is None or self.coordinator.versions.is_pinned(self.target):
            return version != installed
        try:
            return super().version_is_newer(version, installed)
        except AwesomeVersionCompareException:
            return True

    @property
    def _wanted(self) -> str | None:
        """The version that the device is to run."""
        return self.coordinator.versions.wanted(self.target)

    @property
    def _pending_version(self) -> str | None:
        """The version that is built and waits for the device."""
        job = self.coordinator.queue.active(self.target)
        return job.request.esphome_version if job is not None and job.pending else None

    @property
    @override
    def release_summary(self) -> str | None:
        job = self.coordinator.queue.active(self.target)
        if job is not None and job.pending_reason is not None:
            return plain_text(reason_text(self.hass, job.pending_reason))
        if self.coordinator.firmware.is_changed(self.target):
            return common_text(self.hass, "configuration_changed")
        return None

    @property
    @override
    def release_url(self) -> str | None:
        return _changelog(self.latest_version)

    @property
    @override
    def in_progress(self) -> bool:
        job = self.coordinator.queue.active(self.target)
        return job is not None and job.in_progress

    @property
    @override
    def update_percentage(self) -> int | None:
        """Return the progress in steps: each change of the state is a row in the database."""
        job = self.coordinator.queue.active(self.target)
        if job is None or job.progress is None:
            return None
        return job.progress - job.progress % _PROGRESS_STEP

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        changed = {"configuration_changed": self.coordinator.firmware.is_changed(self.target)}
        job = self.job
        if job is None:
            return dict.fromkeys(sorted(self._unrecorded_attributes)) | changed
        return {
            **changed,
            "job_id": job.job_id,
            "pending_version": self._pending_version,
            "source_label": plain_text(job.routing.source_label),
            "waiting_for": (
                None
                if job.waiting_for is None
                else plain_text(reason_text(self.hass, job.waiting_for))
            ),
        }

    @override
    async def async_install(self, version: str | None, backup: bool, **kwargs: Any) -> None:
        """Install, and return when the device runs the firmware or is waited for.

        With the option ``pending_is_error`` raises HomeAssistantError in the latter case.
        Cancelling this leaves the job running: it belongs to the queue.
        """
        if version is not None:
            # As ``latest_version`` has it, with words behind it.
            version = version.partition(" ")[0]
        job = await self.coordinator.async_submit(
            self.target, Operation.INSTALL, version=version, context=self._context
        )
        job = await self.coordinator.async_wait(job)
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            reason = job.outcome.failure_reason or FailureReason.INTERNAL
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key=f"install_failed_{reason.value}",
                translation_placeholders={
                    "device": job.request.device_name,
                    "configuration": job.request.configuration,
                    "version": job.request.esphome_version,
                    "error": outcome_text(self.hass, job),
                },
            )
        if self.coordinator.settings.pending_is_error:
            raise_if_pending(self.hass, [job])

    @override
    async def async_release_notes(self) -> str | None:
        """Return how a job stands, while there is one, else what to expect of the next.

        The frontend asks once, when it opens its dialog: what changes is given with the time.
        """
        version = self._wanted
        key = "notes_news" if version is None else "notes_news_of_version"
        news = _link(common_text(self.hass, key, version=version or ""), self.release_url or "")
        queue = self.coordinator.queue
        if (job := queue.active(self.target)) is not None:
            return "\n\n".join([*self._present(job), news])
        notes = [news, self._outlook_note()]
        if self.coordinator.firmware.is_changed(self.target):
            notes.insert(0, common_text(self.hass, "configuration_changed"))
        last = queue.last_install(self.target)
        if last is not None and last.status is JobStatus.FAILED:
            error = outcome_text(self.hass, last)
            notes.append(self._note("notes_failed", job=self._job_text(last), error=error))
            notes.append(_link(common_text(self.hass, "notes_log"), job_url(last.job_id)))
        return "\n\n".join(notes)

    def _present(self, job: FirmwareJob) -> Iterator[str]:
        stage = common_text(self.hass, f"stage_{job.stage or JobStatus.QUEUED}")
        percent = "" if job.progress is None else f", {job.progress} %"
        yield self._note(
            "notes_active",
            time=f"{dt_util.now():%H:%M}",
            job=self._job_text(job),
            stage=stage + percent,
        )
        if job.waiting_for is not None:
            yield self._note("notes_waiting", reason=reason_text(self.hass, job.waiting_for))
        forecast = self.coordinator.queue.forecast(job)
        if forecast.place is not None:
            yield self._note("notes_place", place=str(forecast.place))
        if forecast.seconds is not None:
            end = dt_util.now() + timedelta(seconds=forecast.seconds)
            yield self._note("notes_end", time=f"{end:%H:%M}")
        yield _link(common_text(self.hass, "notes_follow"), job_url(job.job_id))

    def _outlook_note(self) -> str:
        coordinator = self.coordinator
        match coordinator.queue.outlook(configuration_of(self.target)):
            case Bind(builder_id=builder_id):
                builder = coordinator.builders.get(builder_id)
                return self._note("notes_builder", builder=builder.label if builder else builder_id)
            case Wait(reason=reason):
                return self._note("notes_would_wait", reason=reason_text(self.hass, reason))
            case Fail(reason=reason):
                return self._note("notes_no_builder", reason=reason_text(self.hass, reason))

    def _job_text(self, job: FirmwareJob) -> str:
        builder = job.routing.source_label
        return common_text(
            self.hass,
            "notes_job" if builder is None else "notes_job_on_builder",
            operation=common_text(self.hass, f"operation_{job.request.operation}"),
            version=job.request.esphome_version,
            builder=builder or "",
        )

    def _note(self, key: str, **placeholders: str) -> str:
        """Return a text for release notes, which are Markdown; what fills it is not."""
        plain = {name: without_markup(value) for name, value in placeholders.items()}
        return common_text(self.hass, key, **plain)


def _link(text: str, url: str) -> str:
    return f"[{text}]({url})"


def _changelog(version: str | None) -> str:
    """Return the page of a version's release series, pre-releases and patches included."""
    series = re.match(r"(\d{4})\.(\d{1,2})\.", version or "")
    if series is None:
        return _CHANGELOG
    return f"{_CHANGELOG}{series[1]}.{series[2]}.0/"
