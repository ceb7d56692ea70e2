"""The repairs of the integration, all in one place.

Repairs are Markdown: texts that come from outside are shown without it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN, job_url
from .engine.const import FailureReason, Operation
from .engine.jobs.model import FirmwareJob, JobEvent
from .engine.reason import Reason
from .engine.target import TargetId, moved
from .engine.text import without_markup
from .texts.reasons import outcome_text, reason_text

_ALTERED: Final = "firmware_altered"
_ROLLED_BACK: Final = "rolled_back"
_INSTALL_FAILED: Final = "install_failed"
_FOLDER_MISSING: Final = "folder_missing"
_UNREADABLE: Final = "configuration_unreadable"
_AMBIGUOUS: Final = "device_ambiguous"
_CHOOSE_DEVICE: Final = "choose_device"
_LENDING_IMPOSSIBLE: Final = "lending_impossible"
_WRONG_CODES: Final = "pairing_wrong_codes"
_PEER_INCOMPATIBLE: Final = "peer_incompatible"
_BUILDER_UNREACHABLE: Final = "builder_unreachable"
_NOT_UPDATED: Final = "not_updated"
_CANARY_MISSING: Final = "canary_missing"
_CANARY_BLOCKS: Final = "canary_blocks"

_WITH_DIALOG: Final = (_CHOOSE_DEVICE, _INSTALL_FAILED)
"""The dialogs are in repairs.py, and have to know what for."""

type _Data = dict[str, str | int | float | None]


@callback
def async_job_changed(
    hass: HomeAssistant, is_gone: Callable[[TargetId], bool], event: JobEvent, job: FirmwareJob
) -> None:
    """Create or delete the repairs about the firmware of a job that has ended.

    None is created for a target that does not exist any more: nothing could be done about it.
    """
    target = job.request.target
    if event is JobEvent.FAILED and is_gone(target):
        return
    if job.request.operation.flashes:
        if event is JobEvent.COMPLETED:
            ir.async_delete_issue(hass, DOMAIN, f"{_INSTALL_FAILED}_{target}")
            async_delete_not_updated(hass, target)
        # The other two have a repair of their own.
        elif event is JobEvent.FAILED and job.outcome.failure_reason not in (
            FailureReason.INTEGRITY,
            FailureReason.ROLLED_BACK,
        ):
            _create_install_failed(hass, job)
    if event is JobEvent.COMPLETED:
        # Cleaning brings no firmware.
        if job.request.operation is not Operation.CLEAN:
            ir.async_delete_issue(hass, DOMAIN, f"{_ALTERED}_{target}")
    elif event is JobEvent.FAILED and job.outcome.failure_reason is FailureReason.INTEGRITY:
        error = job.outcome.error
        _create_of_target(
            hass,
            target,
            translation_key=_ALTERED,
            device=job.request.device_name,
            builder=job.routing.source_label or "",
            error="" if error is None else reason_text(hass, error),
            log=job_url(job.job_id),
        )


@callback
def async_is_rolled_back(hass: HomeAssistant, target: TargetId) -> bool:
    """Return whether there is a repair that a device went back to its former firmware."""
    return ir.async_get(hass).async_get_issue(DOMAIN, f"{_ROLLED_BACK}_{target}") is not None


@callback
def async_set_rolled_back(hass: HomeAssistant, job: FirmwareJob, *, back: bool) -> None:
    """Create or delete the repair that a device runs the firmware again that ``job`` replaced."""
    target = job.request.target
    if not back:
        ir.async_delete_issue(hass, DOMAIN, f"{_ROLLED_BACK}_{target}")
        return
    _create_of_target(
        hass,
        target,
        translation_key=_ROLLED_BACK,
        device=job.request.device_name,
        version=job.request.esphome_version,
        old_version="" if job.replaced is None else job.replaced.esphome_version,
        log=job_url(job.job_id),
    )


def _create_install_failed(hass: HomeAssistant, job: FirmwareJob) -> None:
    fingerprint = job.attempts[-1].fingerprint if job.attempts else job.fingerprint
    _create_of_target(
        hass,
        job.request.target,
        translation_key=_INSTALL_FAILED,
        data={
            "target": job.request.target,
            "job_id": job.job_id,
            "fingerprint": fingerprint or job.fingerprint,
            "failure_reason": job.outcome.failure_reason,
            "version": job.request.esphome_version,
            "from_version": job.request.from_version,
        },
        device=job.request.device_name,
        version=job.request.esphome_version,
        error=outcome_text(hass, job),
    )


@callback
def async_failed_installs(hass: HomeAssistant) -> list[tuple[ir.IssueEntry, TargetId]]:
    """Return the repairs about installations that failed, or could not even be started."""
    return [
        (issue, target)
        for issue, key, target in _of_targets(hass)
        if key in (_INSTALL_FAILED, _NOT_UPDATED)
    ]


@callback
def async_note(hass: HomeAssistant, issue_id: str, **known: str | bool) -> None:
    """Keep with the repair of a target what is known of it now."""
    for issue, key, target in _of_targets(hass):
        if issue.issue_id == issue_id:
            data = {**(issue.data or {}), **known}
            placeholders = issue.translation_placeholders or {}
            _create_of_target(hass, target, translation_key=key, data=data, **placeholders)


@callback
def async_delete(hass: HomeAssistant, issue_id: str) -> None:
    """Delete a repair."""
    ir.async_delete_issue(hass, DOMAIN, issue_id)


@callback
def async_create_not_updated(
    hass: HomeAssistant, target: TargetId, device: str, error: str
) -> None:
    """Create the repair that an automatic update could not even be started."""
    _create_of_target(
        hass,
        target,
        translation_key=_NOT_UPDATED,
        data={"target": target},
        device=device,
        error=error,
    )


@callback
def async_delete_not_updated(hass: HomeAssistant, target: TargetId) -> None:
    """Delete it."""
    ir.async_delete_issue(hass, DOMAIN, f"{_NOT_UPDATED}_{target}")


@callback
def async_set_canary_missing(hass: HomeAssistant, *, missing: bool) -> None:
    """Create or delete the repair that automatic updates wait for a device that is gone."""
    if missing:
        _create_issue(hass, _CANARY_MISSING, translation_key=_CANARY_MISSING)
    else:
        ir.async_delete_issue(hass, DOMAIN, _CANARY_MISSING)


@callback
def async_set_canary_blocks(hass: HomeAssistant, device: str, reason: str | None) -> None:
    """Create the repair that automatic updates wait in vain for a device; None: delete it."""
    if reason is None:
        ir.async_delete_issue(hass, DOMAIN, _CANARY_BLOCKS)
    else:
        _create_issue(
            hass, _CANARY_BLOCKS, translation_key=_CANARY_BLOCKS, device=device, reason=reason
        )


@callback
def async_rename(hass: HomeAssistant, old: TargetId, new: TargetId) -> None:
    """Keep the repairs about the firmware of a target that is called otherwise now."""
    for issue, key, target in _of_targets(hass):
        if (now := moved(target, old, new)) != target:
            placeholders = issue.translation_placeholders or {}
            data = None if issue.data is None else {**issue.data, "target": now}
            _create_of_target(hass, now, translation_key=key, data=data, **placeholders)
            if issue.dismissed_version is not None:
                ir.async_ignore_issue(hass, DOMAIN, f"{key}_{now}", ignore=True)
            ir.async_delete_issue(hass, DOMAIN, issue.issue_id)


@callback
def async_remove_stale(
    hass: HomeAssistant, is_gone: Callable[[TargetId], bool] = lambda _target: True
) -> None:
    """Delete the repairs about the firmware of targets that do not exist any more."""
    for issue, _, target in _of_targets(hass):
        if is_gone(target):
            ir.async_delete_issue(hass, DOMAIN, issue.issue_id)


def _of_targets(hass: HomeAssistant) -> list[tuple[ir.IssueEntry, str, TargetId]]:
    """Return the repairs about firmware with their keys and targets."""
    return [
        (issue, key, TargetId(issue.issue_id.removeprefix(f"{key}_")))
        for issue in ir.async_get(hass).issues.values()
        for key in (_ALTERED, _ROLLED_BACK, _INSTALL_FAILED, _NOT_UPDATED)
        if issue.domain == DOMAIN and issue.issue_id.startswith(f"{key}_")
    ]


@callback
def async_set_folder_unavailable(hass: HomeAssistant, folder: str, reason: Reason | None) -> None:
    """Create the repair that the configuration folder cannot be used; None: delete it."""
    if reason is None:
        ir.async_delete_issue(hass, DOMAIN, _FOLDER_MISSING)
    else:
        _create_issue(
            hass,
            _FOLDER_MISSING,
            severity=ir.IssueSeverity.ERROR,
            translation_key=_FOLDER_MISSING,
            folder=folder,
            reason=reason_text(hass, reason),
        )


@callback
def async_set_unreadable(
    hass: HomeAssistant, before: Iterable[str], problems: Mapping[str, Reason]
) -> None:
    """Create the repairs about configurations that cannot be read; delete the others of ``before``."""
    for name in before:
        if name not in problems:
            ir.async_delete_issue(hass, DOMAIN, f"{_UNREADABLE}_{name}")
    for name, reason in problems.items():
        _create_issue(
            hass,
            f"{_UNREADABLE}_{name}",
            translation_key=_UNREADABLE,
            file=name,
            reason=reason_text(hass, reason),
        )


@dataclass(frozen=True, slots=True)
class UnclearDevice:
    """A device and what it could be mistaken for; ``can_choose``: among devices."""

    file: str
    name: str
    rivals: tuple[str, ...]
    can_choose: bool


@callback
def async_set_ambiguous(
    hass: HomeAssistant, unclear: Mapping[TargetId, UnclearDevice], *, complete: bool
) -> None:
    """Create the repairs about targets whose device is unclear.

    Delete all others if these are ``complete``.
    """
    for domain, issue_id in tuple(ir.async_get(hass).issues):
        target = issue_id.removeprefix(f"{_AMBIGUOUS}_")
        if complete and domain == DOMAIN and target != issue_id and target not in unclear:
            ir.async_delete_issue(hass, domain, issue_id)
    for target, device in unclear.items():
        _create_issue(
            hass,
            f"{_AMBIGUOUS}_{target}",
            translation_key=_CHOOSE_DEVICE if device.can_choose else _AMBIGUOUS,
            data={"target": target} if device.can_choose else None,
            file=device.file,
            device=device.name,
            rivals=", ".join(device.rivals),
        )


@callback
def async_set_lending_impossible(hass: HomeAssistant, reason: Reason | None) -> None:
    """Create the repair that nothing can be lent although it is switched on; None: delete it."""
    if reason is None:
        ir.async_delete_issue(hass, DOMAIN, _LENDING_IMPOSSIBLE)
    else:
        _create_issue(
            hass,
            _LENDING_IMPOSSIBLE,
            translation_key=_LENDING_IMPOSSIBLE,
            reason=reason_text(hass, reason),
        )


@callback
def async_create_wrong_codes(hass: HomeAssistant, address: str) -> None:
    """Create the repair that wrong codes closed the pairing window, the last from ``address``."""
    _create_issue(hass, _WRONG_CODES, translation_key=_WRONG_CODES, address=address)


@callback
def async_delete_wrong_codes(hass: HomeAssistant) -> None:
    """Delete it: the owner opened a window again."""
    ir.async_delete_issue(hass, DOMAIN, _WRONG_CODES)


@callback
def async_set_peer_incompatible(
    hass: HomeAssistant, entry_id: str, label: str, reason: Reason | None
) -> None:
    """Create the repair that the versions of a peer and of this instance do not fit."""
    _create_issue(
        hass,
        f"{_PEER_INCOMPATIBLE}_{entry_id}",
        severity=ir.IssueSeverity.ERROR,
        translation_key=_PEER_INCOMPATIBLE,
        label=label,
        reason="" if reason is None else reason_text(hass, reason),
    )


@callback
def async_delete_peer_incompatible(hass: HomeAssistant, entry_id: str) -> None:
    """Delete it."""
    ir.async_delete_issue(hass, DOMAIN, f"{_PEER_INCOMPATIBLE}_{entry_id}")


@callback
def async_create_builder_unreachable(hass: HomeAssistant, entry_id: str, label: str) -> None:
    """Create the repair that a builder has not been reachable for long."""
    _create_issue(
        hass,
        f"{_BUILDER_UNREACHABLE}_{entry_id}",
        translation_key=_BUILDER_UNREACHABLE,
        label=label,
    )


@callback
def async_delete_builder_unreachable(hass: HomeAssistant, entry_id: str) -> None:
    """Delete it."""
    ir.async_delete_issue(hass, DOMAIN, f"{_BUILDER_UNREACHABLE}_{entry_id}")


def _create_of_target(
    hass: HomeAssistant,
    target: TargetId,
    *,
    translation_key: str,
    data: _Data | None = None,
    **placeholders: str,
) -> None:
    _create_issue(
        hass,
        f"{translation_key}_{target}",
        severity=ir.IssueSeverity.ERROR,
        translation_key=translation_key,
        # It may happen while nobody looks.
        is_persistent=True,
        data=data,
        **placeholders,
    )


def _create_issue(
    hass: HomeAssistant,
    issue_id: str,
    *,
    translation_key: str,
    severity: ir.IssueSeverity = ir.IssueSeverity.WARNING,
    is_persistent: bool = False,
    data: _Data | None = None,
    **placeholders: str,
) -> None:
    ir.async_create_issue(
        hass,
        DOMAIN,
        issue_id,
        is_fixable=translation_key in _WITH_DIALOG,
        data=data,
        is_persistent=is_persistent,
        severity=severity,
        translation_key=translation_key,
        translation_placeholders={
            name: without_markup(value) for name, value in placeholders.items()
        },
    )
