"""The device that is updated first, and why the others would wait for it in vain."""

from dataclasses import dataclass
from enum import StrEnum

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er

from .. import registry
from ..const import DOMAIN
from ..coordinator import OffloadCoordinator
from ..engine.const import JobStatus
from ..engine.jobs.model import FirmwareJob
from ..engine.target import TargetId
from ..inventory.versions import is_older
from .settings import AutomaticSettings


class CanaryProblem(StrEnum):
    """Why a canary cannot vouch for a version; the texts are ``common.canary_…``."""

    UNVERIFIED = "unverified"
    AWAY = "away"
    PINNED = "pinned"
    DISABLED = "disabled"
    SWITCHED_OFF = "switched_off"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CanaryState:
    """What decides whether a canary can vouch for the version that others are to run.

    ``up_to_date``: it runs that version. ``pinned``: to an older one. ``away``: for long.
    """

    verifiable: bool = True
    away: bool = False
    up_to_date: bool = False
    pinned: bool = False
    enabled: bool = True
    takes_part: bool = True
    skipped: bool = False
    failed: bool = False


def why_it_cannot_vouch(state: CanaryState) -> CanaryProblem | None:
    """Return what a person has to change, else the others wait for ever; None: nothing."""
    updates = {
        CanaryProblem.PINNED: state.pinned,
        CanaryProblem.DISABLED: not state.enabled,
        CanaryProblem.SWITCHED_OFF: not state.takes_part,
        CanaryProblem.SKIPPED: state.skipped,
        CanaryProblem.FAILED: state.failed,
    }
    problems = {
        CanaryProblem.UNVERIFIED: not state.verifiable,
        CanaryProblem.AWAY: state.away,
        **({} if state.up_to_date else updates),
    }
    return next((problem for problem, there in problems.items() if there), None)


@callback
def canary_target(hass: HomeAssistant, canary: str | None) -> TargetId | None:
    """Return the target of the update entity with this id in the registry."""
    entity = None if canary is None else er.async_get(hass).entities.get_entry(canary)
    if entity is None or entity.platform != DOMAIN:
        return None
    return registry.target_of(entity.unique_id)


@callback
def canary_state(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    settings: AutomaticSettings,
    target: TargetId,
) -> CanaryState:
    """Return what is known of a device as the canary of these settings."""
    versions, device = coordinator.versions, coordinator.devices.get(target)
    entity = registry.async_entity(hass, target)
    state = None if entity is None else hass.states.get(entity.entity_id)
    shown = {} if state is None else state.attributes
    latest, installed = versions.latest, coordinator.installed_version(target)
    job = flashed(coordinator, target, installed)
    return CanaryState(
        verifiable=(device is None or device.configuration.access.api is not False)
        and (job is None or job.outcome.verified is True),
        up_to_date=latest is None or (installed is not None and not is_older(installed, latest)),
        pinned=latest is not None and is_older(versions.wanted(target), latest),
        enabled=entity is None or not entity.disabled,
        takes_part=settings.takes_part(coordinator.device_settings.get(target).automatic),
        skipped=(skipped := shown.get("skipped_version")) is not None
        and skipped == shown.get("latest_version"),
    )


def flashed(
    coordinator: OffloadCoordinator, target: TargetId, version: str | None
) -> FirmwareJob | None:
    """Return the job that brought the version that a device runs."""
    for job in reversed(coordinator.queue.jobs()):
        request = job.request
        if (
            request.target == target
            and request.operation.flashes
            and job.status is JobStatus.COMPLETED
        ):
            return job if request.esphome_version == version else None
    return None
