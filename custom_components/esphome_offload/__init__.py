"""ESPHome Offload: build ESPHome firmware on a faster machine, flash it from this one."""

from functools import partial
from pathlib import Path

from homeassistant.const import Platform
from homeassistant.core import HassJob, HomeAssistant
from homeassistant.helpers import config_validation as cv, device_registry as dr
from homeassistant.helpers.typing import ConfigType
from homeassistant.setup import async_setup_component

from . import issues
from .automatic.updates import AutomaticUpdates
from .const import DOMAIN
from .coordinator import (
    DATA_COORDINATOR,
    AnyConfigEntry,
    OffloadConfigEntry,
    OffloadCoordinator,
)
from .engine.build.cache.layout import CacheLayout
from .engine.build.services import BuildServices
from .engine.job_log import JobLogs
from .engine.target import configuration_of
from .lending.guest_devices import async_follow_guests, guest_pin, is_instance
from .page import async_register_page, async_remove_page
from .page.commands import async_setup_page_commands
from .peering.entity import async_update_device
from .peering.entry import PeerConfigEntry, is_peer
from .peering.self_check import async_setup_self_check
from .registry import async_targets_of
from .services import async_setup_services
from .texts.errors import validation_error
from .websocket_api import async_setup_websocket_api

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

_PLATFORMS = [
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.SELECT,
    Platform.SENSOR,
    Platform.SWITCH,
    Platform.UPDATE,
]
_PEER_PLATFORMS = [Platform.BINARY_SENSOR, Platform.SENSOR, Platform.SWITCH]


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Create the coordinator, which outlives every config entry, and register the actions."""
    layout = CacheLayout(Path(hass.config.cache_path(DOMAIN)))
    home = Path(hass.config.config_dir)
    build_services = await hass.async_add_executor_job(BuildServices, layout, (home,), home)
    coordinator = OffloadCoordinator(hass, build_services, JobLogs(layout.logs))
    hass.data[DATA_COORDINATOR] = coordinator
    hass.async_add_shutdown_job(HassJob(coordinator.async_stop, f"{DOMAIN} stop"))
    coordinator.queue.subscribe(
        None, partial(issues.async_job_changed, hass, coordinator.inventory.is_gone)
    )
    await coordinator.async_start()
    async_setup_services(hass)
    async_setup_websocket_api(hass)
    async_setup_page_commands(hass)
    async_setup_self_check(hass)
    await async_register_page(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: AnyConfigEntry) -> bool:
    """Set up "this instance", or connect to a peer."""
    coordinator = hass.data[DATA_COORDINATOR]
    if is_peer(entry):
        entry.runtime_data = await coordinator.peering.async_connect(entry)
        await hass.config_entries.async_forward_entry_setups(entry, _PEER_PLATFORMS)
        entry.async_on_unload(entry.add_update_listener(_async_peer_updated))
        return True
    entry.runtime_data = coordinator
    await async_register_page(hass)  # again, if "this instance" was removed since the start
    await coordinator.async_attach(entry)
    guests = coordinator.lender.guests
    entry.async_on_unload(async_follow_guests(hass, entry.entry_id, guests))
    await hass.config_entries.async_forward_entry_setups(entry, _PLATFORMS)
    entry.async_on_unload(entry.add_update_listener(_async_options_updated))
    await AutomaticUpdates(hass, entry).async_start()
    return True


async def async_unload_entry(hass: HomeAssistant, entry: AnyConfigEntry) -> bool:
    """Unload "this instance" or a peer; running jobs go on unless the former is disabled."""
    coordinator = hass.data[DATA_COORDINATOR]
    platforms = _PEER_PLATFORMS if is_peer(entry) else _PLATFORMS
    if not await hass.config_entries.async_unload_platforms(entry, platforms):
        return False
    if is_peer(entry):
        await coordinator.peering.async_disconnect(entry)
    else:
        await coordinator.async_detach(entry)
    return True


async def async_remove_entry(hass: HomeAssistant, entry: AnyConfigEntry) -> None:
    """Remove the jobs, guests and peers of "this instance", or unpair a peer."""
    if DATA_COORDINATOR not in hass.data:
        # All entries were disabled at the start, so nothing was set up.
        await async_setup_component(hass, DOMAIN, {})
    if (coordinator := hass.data.get(DATA_COORDINATOR)) is None:
        return
    if is_peer(entry):
        await coordinator.peering.async_unpair(entry)
    else:
        async_remove_page(hass)
        await coordinator.async_forget()


async def async_remove_config_entry_device(
    hass: HomeAssistant, entry: AnyConfigEntry, device_entry: dr.AnyDeviceEntry
) -> bool:
    """Unpair the guest of a device, or forget a device that was only heard of in the network.

    Of others raises ServiceValidationError, which says how they are removed.
    """
    coordinator = hass.data[DATA_COORDINATOR]
    if is_peer(entry):
        raise validation_error("builder_not_removable", label=entry.title)
    if is_instance(device_entry):
        raise validation_error("instance_not_removable")
    if (pin_sha256 := guest_pin(device_entry)) is not None:
        await coordinator.lender.async_unpair(pin_sha256)
        return True
    targets = async_targets_of(hass, device_entry.id)
    if targets and all(map(coordinator.firmware.forget_announced, targets)):
        return True
    files = ", ".join(sorted({configuration_of(target) for target in targets}))
    raise validation_error("device_not_removable", files=files)


async def _async_options_updated(hass: HomeAssistant, entry: OffloadConfigEntry) -> None:
    await entry.runtime_data.async_apply_options(entry)


async def _async_peer_updated(hass: HomeAssistant, entry: PeerConfigEntry) -> None:
    peering = hass.data[DATA_COORDINATOR].peering
    peering.apply(entry)
    if (peer := peering.get(entry.entry_id)) is not None:
        async_update_device(hass, peer)
