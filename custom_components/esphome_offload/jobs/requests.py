"""JobRequests: what is asked of a job, checked and completed before it is queued."""

from collections.abc import Callable
from typing import Unpack

from homeassistant.exceptions import ServiceValidationError

from ..engine.build.firmware import FirmwareStore
from ..engine.const import REQUESTED_AUTO, Operation
from ..engine.jobs.model import JobRequest
from ..engine.jobs.pool import BuilderPool
from ..engine.target import TargetId
from ..inventory.refusals import refuse_impossible
from ..inventory.tracker import DeviceInventory, OffloadDevice
from ..inventory.versions import VersionTracker
from ..texts.errors import validation_error
from .payload import RequestOptions


class JobRequests:
    """Makes requests. All that it refuses is a ServiceValidationError that says what to do."""

    def __init__(
        self,
        *,
        device: Callable[[TargetId], OffloadDevice],
        installed_version: Callable[[TargetId], str | None],
        inventory: DeviceInventory,
        builders: BuilderPool,
        versions: VersionTracker,
        firmware: FirmwareStore,
    ) -> None:
        """``device`` gives the one of a target, or refuses."""
        self._device = device
        self._installed_version = installed_version
        self._inventory = inventory
        self._builders = builders
        self._versions = versions
        self._firmware = firmware

    async def async_prepare(
        self, target: TargetId, operation: Operation, **options: Unpack[RequestOptions]
    ) -> JobRequest:
        """Check a request and return it ready to be submitted."""
        device = self._device(target)
        source = options.get("source", REQUESTED_AUTO)
        if source != REQUESTED_AUTO and self._builders.get(source) is None:
            raise validation_error("unknown_source", device=device.name, source=source)
        version = await self._async_version(device, operation, options.get("version"))
        address = options.get("address")
        try:
            refuse_impossible(self._device(target), operation, version, address)
        except ServiceValidationError:
            # The file may have been corrected just now.
            await self._inventory.async_rescan()
            refuse_impossible(self._device(target), operation, version, address)
        return JobRequest(
            operation=operation,
            configuration=device.configuration.file_name,
            device_name=device.name,
            esphome_version=version,
            requested_source=source,
            clean=options.get("clean", False),
            rebuild=options.get("rebuild", False),
            address=address,
            from_version=self._installed_version(target),
            user_id=options.get("user_id"),
            automatic=options.get("automatic", False),
            mac=device.mac,
            batch=options.get("batch"),
        )

    async def _async_version(
        self, device: OffloadDevice, operation: Operation, version: str | None
    ) -> str:
        if operation is Operation.UPLOAD:
            firmware = await self._firmware.latest(device.configuration.file_name)
            if firmware is None:
                raise validation_error("nothing_built", device=device.name)
            return firmware.build_info.esphome_version
        if not operation.builds:
            return self._versions.wanted(device.target) or ""
        return await self._versions.async_target(version, device.target, device.name)
