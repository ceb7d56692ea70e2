"""What can be known to be impossible is said before anything is built."""

from collections.abc import Callable
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import Node
from custom_components.esphome_offload.engine.const import JobStatus, Operation
from custom_components.esphome_offload.engine.device_access import DeviceAccess, OtaPlatform
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity

from .conftest import LAMP, NEWEST, Pass, Stage

type Answers = Callable[..., None]


@pytest.fixture
def esphome_says(stage: Stage, config_dir: Path) -> Answers:
    """Return a function that lets ESPHome say more about the lamp, whose file changes with it."""

    def says(**known: object) -> None:
        answer = Answer(
            "lamp.yaml", node_name="lamp", platform="host", reads=("lamp.yaml",), **known
        )
        stage.inspector.answers["lamp.yaml"] = answer
        with (config_dir / "lamp.yaml").open("a") as file:
            file.write("# changed\n")

    return says


async def test_no_ota_is_told_at_once_and_only_building_is_possible(
    coordinator: OffloadCoordinator, esphome_says: Answers, pass_time: Pass, stage: Stage
) -> None:
    esphome_says(access=DeviceAccess(ota=()))
    await pass_time(31)

    with pytest.raises(ServiceValidationError) as refused:
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)

    assert refused.value.translation_key == "configuration_without_ota"
    assert stage.builder.requests == []
    job = await coordinator.async_wait(
        await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    )
    assert job.status is JobStatus.COMPLETED


async def test_a_file_that_was_corrected_just_now_is_looked_at_again(
    coordinator: OffloadCoordinator, esphome_says: Answers, pass_time: Pass
) -> None:
    esphome_says(access=DeviceAccess(ota=()))
    await pass_time(31)
    esphome_says(access=DeviceAccess(ota=(OtaPlatform("web_server", 80),)))

    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)

    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("needed", "refused"),
    [("2026.9.0", False), (NEWEST, False), ("2099.1.0", True), ("9.x", False), (None, False)],
)
async def test_a_configuration_for_a_newer_esphome(
    coordinator: OffloadCoordinator,
    esphome_says: Answers,
    pass_time: Pass,
    needed: str | None,
    refused: bool,
) -> None:
    esphome_says(min_version=needed)
    await pass_time(31)
    submitting = coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    if not refused:
        await submitting
        return
    with pytest.raises(ServiceValidationError) as error:
        await submitting
    assert error.value.translation_key == "version_too_old"
    assert error.value.translation_placeholders == {
        "device": "lamp",
        "version": NEWEST,
        "needed": needed,
    }


async def test_a_copy_of_a_configuration_is_never_flashed_onto_the_device(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    issue_registry: ir.IssueRegistry,
    stage: Stage,
) -> None:
    (config_dir / "lamp-old.yaml").write_text(LAMP)
    await pass_time(31)

    for name, other in (("lamp.yaml", "lamp-old.yaml"), ("lamp-old.yaml", "lamp.yaml")):
        issue = issue_registry.async_get_issue(DOMAIN, f"device_ambiguous_{name}")
        assert issue is not None
        assert issue.translation_placeholders["rivals"] == other
        with pytest.raises(ServiceValidationError) as refused:
            await coordinator.async_submit(name, Operation.INSTALL)
        assert refused.value.translation_key == "device_ambiguous"
    assert stage.flasher.requests == []

    # An address that the job is given is clear.
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, address="192.168.1.20")
    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED

    (config_dir / "lamp-old.yaml").unlink()
    await pass_time(31)
    assert not [each for each in issue_registry.issues if each[0] == DOMAIN]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED


async def test_a_job_that_waits_does_not_flash_what_became_unclear(
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    job, block = await stage.start_blocked(coordinator)
    (config_dir / "lamp-old.yaml").write_text(LAMP)
    await pass_time(31)
    block.release.set()

    await coordinator.async_wait(job)

    assert job.status is JobStatus.FAILED
    assert "lamp-old.yaml could be it as well" in str(job.outcome.error)
    assert stage.flasher.requests == []


async def test_at_an_address_the_device_is_asked_who_it_is(
    coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass, stage: Stage
) -> None:
    """Home Assistant has neither of them."""
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    await pass_time(31)
    stage.firmware.node = Node("lamp")
    for name, status in (
        ("plug", JobStatus.FAILED),
        ("lamp", JobStatus.COMPLETED),
        # Without its MAC address it cannot be told from a device of somebody else.
        ("esphome-web", JobStatus.FAILED),
    ):
        stage.identities["192.168.1.20"] = DeviceIdentity(name)
        job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, address="192.168.1.20")
        assert (await coordinator.async_wait(job)).status is status
        assert (job.outcome.failure_reason == "wrong_device") is (status is JobStatus.FAILED)
    assert len(stage.flasher.requests) == 1
