"""Reasons of the engine, and other texts, in Home Assistant's language."""

from collections.abc import Iterable, Mapping
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.translation import async_get_cached_translations

from ..const import DOMAIN
from ..engine.const import FailureReason, JobStatus
from ..engine.jobs.model import FirmwareJob
from ..engine.reason import Reason, ReasonKey
from ..engine.text import one_line, without_markup

_PLAIN_LIMIT: Final = 1000


@callback
def reason_text(hass: HomeAssistant, reason: Reason) -> str:
    """Return a reason as text; clean, but not free of Markdown."""
    texts = _texts(hass, "exceptions")
    return reason.render(
        lambda key: texts.get(f"component.{DOMAIN}.exceptions.{key}.message", key.text)
    )


def plain_text(text: str | None) -> str | None:
    """Return a text as attributes and events have it: one line without markup, not too long.

    Parts of it come from builders, and automations show it in notifications, which are Markdown.
    """
    return None if text is None else one_line(without_markup(text), _PLAIN_LIMIT)


@callback
def outcome_text(hass: HomeAssistant, job: FirmwareJob) -> str:
    """Return why a job failed or was cancelled."""
    if job.outcome.error is not None:
        return reason_text(hass, job.outcome.error)
    superseded = job.outcome.failure_reason is FailureReason.SUPERSEDED
    key = ReasonKey.SUPERSEDED if superseded else ReasonKey.CANCELLED_BY_USER
    return reason_text(hass, Reason(key))


@callback
def raise_if_failed(hass: HomeAssistant, jobs: Iterable[FirmwareJob]) -> None:
    """Raise HomeAssistantError when jobs failed or were cancelled."""
    errors = [
        (job.request.device_name, outcome_text(hass, job))
        for job in jobs
        if job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
    ]
    if len(errors) == 1:
        device, error = errors[0]
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="job_failed",
            translation_placeholders={"device": device, "error": error},
        )
    if errors:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="jobs_failed",
            translation_placeholders={
                "count": str(len(errors)),
                "errors": "; ".join(f"{device}: {error}" for device, error in errors),
            },
        )


@callback
def raise_if_pending(hass: HomeAssistant, jobs: Iterable[FirmwareJob]) -> None:
    """Raise HomeAssistantError when firmware waits for its device."""
    reasons = [job.pending_reason for job in jobs if job.pending_reason is not None]
    if reasons:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="install_pending",
            translation_placeholders={
                "reasons": ". ".join(reason_text(hass, reason) for reason in reasons)
            },
        )


@callback
def common_text(hass: HomeAssistant, key: str, **placeholders: str) -> str:
    """Return a text of our own that no exception, entity or dialog has."""
    text = _texts(hass, "common").get(f"component.{DOMAIN}.common.{key}", key)
    return text.format_map(placeholders)


@callback
def exception_text(hass: HomeAssistant, error: HomeAssistantError) -> str:
    """Return one of our own errors; what it says itself is always English."""
    text = _texts(hass, "exceptions").get(
        f"component.{DOMAIN}.exceptions.{error.translation_key}.message"
    )
    return str(error) if text is None else text.format_map(error.translation_placeholders or {})


@callback
def error_text(hass: HomeAssistant, key: str, placeholders: Mapping[str, str]) -> str:
    """Return an error of the config flow, where it stands in a description."""
    text = _texts(hass, "config").get(f"component.{DOMAIN}.config.error.{key}", key)
    return text.format_map(placeholders)


def _texts(hass: HomeAssistant, category: str) -> dict[str, str]:
    return async_get_cached_translations(hass, hass.config.language, category, DOMAIN)
