"""Whether a device comes back with the build that it was flashed with, and stays with it."""

import asyncio
from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.jobs.ports import RestartWatch, Verdict
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink, same_time

from .core_devices import (
    HALL,
    KITCHEN,
    NEW,
    OLD,
    Devices,
    Network,
    Restarts,
    impatient,
    let_run,
    patient,
)


async def test_a_device_that_is_back_with_the_new_build_is_confirmed(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    devices.disconnect()
    await let_run()
    assert not confirming.done()

    devices.connect(NEW)

    assert await confirming is Verdict.CONFIRMED


async def test_a_device_that_was_back_before_anybody_asked_is_confirmed(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(NEW)

    assert await watch.confirm(NEW) is Verdict.CONFIRMED


async def test_a_build_without_a_time_is_identified_by_its_version(
    devices: Devices,
) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(replace(NEW, build_time="")))
    devices.disconnect()
    await let_run()
    devices.connect(NEW)
    assert await confirming is Verdict.CONFIRMED
    watch.close()


async def test_the_same_build_again_needs_a_reconnect(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(OLD))
    devices.change()
    await let_run()
    assert not confirming.done()

    devices.disconnect()
    devices.connect(OLD)

    assert await confirming is Verdict.CONFIRMED


async def test_a_connection_that_never_broke_proves_nothing(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)

    assert await watch.confirm(OLD) is Verdict.NOT_BACK


async def test_a_short_reconnect_before_the_restart_is_forgiven(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(OLD)
    devices.disconnect()
    devices.connect(OLD)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    devices.disconnect()
    devices.connect(OLD)
    await let_run()
    assert not confirming.done()

    devices.disconnect()
    devices.connect(NEW)

    assert await confirming is Verdict.CONFIRMED


async def test_a_device_that_comes_back_twice_with_another_build_has_it(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    for _ in range(2):
        devices.disconnect()
        devices.connect(OLD)
    await let_run()

    assert confirming.done()
    assert confirming.result() is Verdict.ANOTHER_BUILD


async def test_a_device_that_stays_with_another_build_has_it(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(OLD)

    assert await watch.confirm(NEW) is Verdict.ANOTHER_BUILD


async def test_a_device_that_stays_away_is_not_back(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)
    devices.disconnect()

    assert await watch.confirm(NEW) is Verdict.NOT_BACK


async def test_the_same_version_built_at_another_time_is_another_build(devices: Devices) -> None:
    watch = impatient(devices).watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(replace(NEW, build_time="2026-11-23 18:29:36 +0000"))

    assert await watch.confirm(NEW) is Verdict.ANOTHER_BUILD


async def test_a_device_unknown_to_home_assistant_is_so_at_once(devices: Devices) -> None:
    watch = patient(devices).watch_restart(HALL)

    assert await watch.confirm(NEW) is Verdict.UNKNOWN


async def test_a_device_that_is_removed_meanwhile_is_unknown(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    confirming = asyncio.create_task(watch.confirm(NEW))
    await let_run()
    devices.change(node_name="other")

    assert await confirming is Verdict.UNKNOWN


async def test_presence_is_unknown_without_core_but_a_new_build_shows(devices: Devices) -> None:
    devices.change(online=None, connections=0)
    watch = impatient(devices).watch_restart(KITCHEN)
    assert await watch.confirm(OLD) is Verdict.UNKNOWN

    devices.change(esphome_version=NEW.esphome_version, build_time=NEW.build_time)

    assert await watch.confirm(NEW) is Verdict.CONFIRMED


async def test_a_boot_loader_that_goes_back_at_once_is_told_from_another_build(
    devices: Devices,
) -> None:
    watch = CoreDeviceLink(devices, Network(), Restarts(), return_timeout=0.01).watch_restart(
        KITCHEN
    )
    assert watch.before == replace(OLD, config_hash=0)
    assert await watch.confirm(NEW, goes_back=True) is Verdict.WENT_BACK
    assert await watch.confirm(NEW, goes_back=False) is Verdict.ANOTHER_BUILD
    devices.connect(replace(OLD, build_time="2026-11-23 19:00:00 +0000"))
    assert await watch.confirm(NEW, goes_back=True) is Verdict.ANOTHER_BUILD


async def flashed(devices: Devices, link: CoreDeviceLink) -> RestartWatch:
    watch = link.watch_restart(KITCHEN)
    devices.disconnect()
    devices.connect(NEW)
    assert await watch.confirm(NEW, goes_back=True) is Verdict.CONFIRMED
    return watch


async def test_a_device_that_goes_back_later_is_noticed_when_it_does(devices: Devices) -> None:
    watch = await flashed(devices, patient(devices))
    stays = asyncio.create_task(watch.stays(NEW, 60))
    await let_run()
    # A lost connection alone is nothing.
    devices.disconnect()
    devices.connect(NEW)
    await let_run()
    assert not stays.done()
    devices.disconnect()
    devices.connect(OLD)
    assert await stays is Verdict.WENT_BACK


async def test_the_device_itself_is_asked_why_it_restarted(devices: Devices) -> None:
    link = patient(devices)
    assert await link.restart_reason(KITCHEN) == "of kitchen"
    devices.device = None
    assert await link.restart_reason(KITCHEN) is None


async def test_a_device_that_stays_until_the_end_is_confirmed(devices: Devices) -> None:
    watch = await flashed(devices, patient(devices))
    assert await watch.stays(NEW, 0.01) is Verdict.CONFIRMED


async def test_a_device_that_is_away_at_the_end_is_judged_when_it_is_back(
    devices: Devices,
) -> None:
    watch = await flashed(devices, patient(devices))
    devices.disconnect()
    stays = asyncio.create_task(watch.stays(NEW, 0.0))
    await let_run()
    assert not stays.done()
    devices.connect(OLD)
    assert await stays is Verdict.WENT_BACK


async def test_a_device_that_is_away_for_good_is_not_back(devices: Devices) -> None:
    watch = await flashed(
        devices, CoreDeviceLink(devices, Network(), Restarts(), return_timeout=0.01)
    )
    devices.disconnect()
    assert await watch.stays(NEW, 0.0) is Verdict.NOT_BACK


async def test_a_device_that_sleeps_has_been_good_before(devices: Devices) -> None:
    watch = await flashed(devices, patient(devices))
    devices.change(deep_sleep=True)
    devices.disconnect()
    assert await watch.stays(NEW, 0.0) is Verdict.CONFIRMED


async def test_a_device_that_sleeps_and_was_not_seen_with_the_firmware_is_not_back(
    devices: Devices,
) -> None:
    """As after a restart between the flash and its verification."""
    devices.change(online=False, deep_sleep=True)
    watch = impatient(devices).watch_restart(KITCHEN)
    assert await watch.stays(NEW, 0.01) is Verdict.NOT_BACK
    # Whatever Home Assistant has kept of it.
    devices.change(esphome_version=NEW.esphome_version, build_time=NEW.build_time)
    assert await watch.stays(NEW, 0.01) is Verdict.NOT_BACK


async def test_a_device_that_wakes_with_the_firmware_and_sleeps_again_has_it(
    devices: Devices,
) -> None:
    devices.change(online=False, deep_sleep=True)
    watch = CoreDeviceLink(devices, Network(), Restarts(), return_timeout=60).watch_restart(KITCHEN)
    stays = asyncio.create_task(watch.stays(NEW, 0.05))
    await let_run()
    devices.connect(NEW)
    await let_run()
    devices.disconnect()
    assert await stays is Verdict.CONFIRMED


async def test_a_device_that_is_removed_while_it_is_waited_for_is_unknown(
    devices: Devices,
) -> None:
    watch = await flashed(devices, patient(devices))
    devices.device = None
    assert await watch.stays(NEW, 0.0) is Verdict.UNKNOWN


async def test_a_closed_watch_listens_no_more(devices: Devices) -> None:
    watch = patient(devices).watch_restart(KITCHEN)
    assert len(devices.listeners) == 1

    watch.close()
    watch.close()

    assert devices.listeners == []


@pytest.mark.parametrize(
    ("reported", "built", "same"),
    [
        ("2026-11-23 18:29:35 +0000", "2026-11-23 18:29:35 +0000", True),
        ("2026-11-23 19:29:35 +0100", "2026-11-23 18:29:35 +0000", True),
        ("2026-11-23 18:29:36 +0000", "2026-11-23 18:29:35 +0000", False),
        ("Nov 23 2026, 18:29:35", "2026-11-23 18:29:35 +0000", True),
        ("Nov 23 2026, 19:29:35", "2026-11-23 18:29:35 +0000", True),
        ("Nov 23 2026, 19:30:35", "2026-11-23 18:29:35 +0000", False),
        ("Nov  3 2026, 08:29:35", "2026-11-03 08:29:35 +0000", True),
        ("Nov 25 2026, 18:29:35", "2026-11-23 18:29:35 +0000", False),
        ("yesterday", "2026-11-23 18:29:35 +0000", False),
        ("yesterday", "yesterday", True),
        ("Foo 23 2026, 18:29:35", "2026-11-23 18:29:35 +0000", False),
        ("2026-13-23 18:29:35 +0000", "2026-11-23 18:29:35 +0000", False),
    ],
)
def test_build_times_are_compared_whatever_their_format(
    reported: str, built: str, same: bool
) -> None:
    assert same_time(reported, built) is same
