"""Which installations that failed would fail again."""

from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.automatic.earlier_failures import EarlierFailures
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import FailureReason, Operation
from custom_components.esphome_offload.engine.jobs.ports import FolderUnavailableError
from custom_components.esphome_offload.engine.target import TargetId

from ...engine.jobs.fakes import failing
from ..conftest import Stage

LAMP = TargetId("lamp.yaml")


@pytest.fixture
async def failures(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> EarlierFailures:
    """Return them after a compile of the lamp that failed."""
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
    await coordinator.async_wait(await coordinator.async_submit(LAMP, Operation.INSTALL))
    failures = EarlierFailures(hass, coordinator)
    await failures.async_refresh()
    assert failures.failed(LAMP)
    assert failures.repeats(LAMP)
    return failures


async def test_another_version_may_go_well(
    failures: EarlierFailures, coordinator: OffloadCoordinator
) -> None:
    await coordinator.versions.async_choose(LAMP, "2026.9.0")
    await failures.async_refresh()
    assert failures.failed(LAMP)
    assert not failures.repeats(LAMP)


async def test_while_the_folder_is_unavailable_it_is_not_tried(
    failures: EarlierFailures, coordinator: OffloadCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(_configuration: str) -> str | None:
        raise FolderUnavailableError

    monkeypatch.setattr(coordinator.inventory, "fingerprint", unavailable)
    await failures.async_refresh()
    assert failures.repeats(LAMP)


async def test_what_is_not_known_to_be_the_same_is_tried(
    failures: EarlierFailures, coordinator: OffloadCoordinator
) -> None:
    job = coordinator.queue.last_install(LAMP)
    assert job is not None
    job.attempts = ()
    job.fingerprint = None
    await failures.async_refresh()
    assert not failures.repeats(LAMP)
