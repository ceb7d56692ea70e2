"""A component that makes its Home Assistant a builder that lies about the firmware it sends."""

from dataclasses import replace
import hashlib
from pathlib import Path

from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers.typing import ConfigType

from custom_components.esphome_offload.engine.build.firmware import FirmwareStore
from custom_components.esphome_offload.engine.host import build_host
from custom_components.esphome_offload.engine.host.attempt import GuestAttempt
from custom_components.esphome_offload.engine.host.firmware_file import (
    FirmwareFile,
    open_firmware as genuine,
)
from custom_components.esphome_offload.engine.protocol.payloads import FirmwareHeader

DOMAIN = "lying_builder"


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer ``lying_builder.lie`` with ``about``: content, bundle, attempt, version, node or nothing."""
    about = "nothing"

    async def open_firmware(attempt: GuestAttempt, firmware: FirmwareStore) -> FirmwareFile:
        file = await genuine(attempt, firmware)
        header = file.header
        assert isinstance(header, FirmwareHeader)
        match about:
            case "content":
                altered = Path(hass.config.path("altered.bin"))
                await hass.async_add_executor_job(_alter, file.path, altered)
                return FirmwareFile(header, altered)
            case "bundle":
                return FirmwareFile(replace(header, bundle_sha256="0" * 64), file.path)
            case "attempt":
                return FirmwareFile(replace(header, attempt_id="0" * 32), file.path)
            case "version":
                info = replace(header.build_info, esphome_version="2020.1.0")
                return FirmwareFile(replace(header, build_info=info), file.path)
            case "node":
                # Sound in every way, but the firmware of another device.
                other = Path(hass.config.path("other.bin"))
                name = header.build_info.node_name
                content = await hass.async_add_executor_job(_rename, file.path, other, name)
                sha256 = hashlib.sha256(content).hexdigest()
                return FirmwareFile(replace(header, sha256=sha256, size=len(content)), other)
        return file

    async def lie(call: ServiceCall) -> None:
        nonlocal about
        about = call.data["about"]

    vars(build_host)["open_firmware"] = open_firmware
    hass.services.async_register(DOMAIN, "lie", lie)
    return True


def _rename(source: Path, target: Path, name: str) -> bytes:
    own = name.encode() + b"\0"
    content = source.read_bytes()
    assert own in content
    content = content.replace(own, b"x" * len(name) + b"\0")
    target.write_bytes(content)
    return content


def _alter(source: Path, target: Path) -> None:
    content = source.read_bytes()
    target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
