"""What can be known to be impossible before anything is built."""

from homeassistant.exceptions import ServiceValidationError
from packaging.version import InvalidVersion, Version

from ..engine.const import Operation
from ..texts.errors import validation_error
from .tracker import OffloadDevice


def refuse_impossible(
    device: OffloadDevice, operation: Operation, version: str, address: str | None
) -> None:
    """Raise ServiceValidationError for a job that cannot succeed.

    ``version`` is that of the ESPHome to build with, ``address`` the one that the job is given.
    """
    configuration = device.configuration
    name = device.name
    if operation.flashes and configuration.access.without_ota:
        raise validation_error("configuration_without_ota", device=name)
    if operation.flashes and address is None and device.rivals:
        raise validation_error("device_ambiguous", device=name, rivals=", ".join(device.rivals))
    if operation.flashes and address is None and device.without_suffix:
        raise validation_error("device_unknown", device=name)
    needed = configuration.min_version
    if operation.builds and needed is not None and _is_older(version, needed):
        raise validation_error("version_too_old", device=name, version=version, needed=needed)


def can_install(device: OffloadDevice, version: str) -> bool:
    """Return whether a device could be flashed as it is."""
    try:
        refuse_impossible(device, Operation.INSTALL, version, None)
    except ServiceValidationError:
        return False
    return True


def _is_older(version: str, needed: str) -> bool:
    try:
        return Version(version) < Version(needed)
    except InvalidVersion:
        return False
