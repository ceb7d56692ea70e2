"""Translated errors for requests that cannot be served."""

from homeassistant.exceptions import ServiceValidationError

from ..const import DOMAIN


def validation_error(key: str, **placeholders: str) -> ServiceValidationError:
    """Return the translated error with this key, ready to be raised."""
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders
    )
