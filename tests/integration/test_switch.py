"""The switch that accepts builds of guests: what it does, and for whom."""

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized, UnknownUser
from homeassistant.helpers import device_registry as dr
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
    Obstacle,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import LEND, Stage

SWITCH = "switch.this_instance_accept_builds"
UNCONTAINED = ContainmentHere(Degree.UNCONTAINED, 0, "5.4.0", "x86_64", Obstacle.KERNEL)


async def call(hass: HomeAssistant, action: str, user_id: str | None) -> None:
    await hass.services.async_call(
        "switch", action, {"entity_id": SWITCH}, blocking=True, context=Context(user_id=user_id)
    )


@pytest.fixture
def member(hass: HomeAssistant) -> MockUser:
    """Return a user who may control every entity and is no administrator."""
    user = MockUser(name="Member").add_to_hass(hass)
    user.mock_policy({"entities": True})
    return user


@pytest.mark.parametrize("action", ["turn_off", "turn_on", "toggle"])
async def test_only_an_administrator_switches_it(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    member: MockUser,
    hass_admin_user: MockUser,
    action: str,
) -> None:
    lent.lender.accept_builds(accept=action != "turn_on")
    await hass.async_block_till_done()
    before = lent.lender.accepts_builds
    with pytest.raises(Unauthorized):
        await call(hass, action, member.id)
    assert lent.lender.accepts_builds is before

    await call(hass, action, hass_admin_user.id)
    assert lent.lender.accepts_builds is not before


async def test_an_automation_may_switch_it_which_is_the_same_as_the_option(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await call(hass, "turn_off", None)
    assert not lent.lender.accepts_builds
    assert hass.states.get(SWITCH).state == "off"
    assert entry.options == {**LEND, "accept_builds": False}
    hass.config_entries.async_update_entry(entry, options=LEND)
    await hass.async_block_till_done()
    assert hass.states.get(SWITCH).state == "on"


async def test_a_machine_that_cannot_contain_builds_is_not_switched_on_in_passing(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, entry: MockConfigEntry
) -> None:
    stage.containment = UNCONTAINED
    with pytest.raises(ServiceValidationError) as refused:
        await call(hass, "turn_on", None)
    assert "Nothing contains builds of guests" in str(refused.value)
    assert "Builds for others" in str(refused.value), "where it can be wanted all the same"
    assert "accept_builds" not in entry.options


async def test_where_nothing_can_be_compiled_there_is_no_switch_and_no_device(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    stage: Stage,
) -> None:
    assert hass.states.get(SWITCH).state == "off"
    stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert hass.states.get(SWITCH) is None
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    assert "This instance" not in [device.name for device in devices]


async def test_while_this_instance_is_not_set_up_it_cannot_be_switched(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_unload(entry.entry_id)
    await coordinator.lender.async_apply(None)
    with pytest.raises(ServiceValidationError) as refused:
        coordinator.lender.accept_builds(accept=True)
    assert refused.value.translation_key == "not_set_up"


async def test_a_user_who_was_removed_may_not_switch_it(
    hass: HomeAssistant, lent: OffloadCoordinator, member: MockUser
) -> None:
    await hass.auth.async_remove_user(member)
    with pytest.raises(UnknownUser):
        await call(hass, "turn_off", member.id)
    assert lent.lender.accepts_builds
