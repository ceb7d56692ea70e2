"""Who may pause lending."""

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import Unauthorized, UnknownUser
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.esphome_offload.coordinator import OffloadCoordinator

SWITCH = "switch.this_instance_lend_this_machine"


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
async def test_only_an_administrator_pauses_and_resumes_lending(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    member: MockUser,
    hass_admin_user: MockUser,
    action: str,
) -> None:
    await lent.lender.async_set_paused(paused=action == "turn_on")
    before = lent.lender.paused
    with pytest.raises(Unauthorized):
        await call(hass, action, member.id)
    assert lent.lender.paused is before

    await call(hass, action, hass_admin_user.id)
    assert lent.lender.paused is not before


async def test_an_automation_may_pause_lending(
    hass: HomeAssistant, lent: OffloadCoordinator
) -> None:
    await call(hass, "turn_off", None)
    assert lent.lender.paused


async def test_a_user_who_was_removed_may_not_pause_lending(
    hass: HomeAssistant, lent: OffloadCoordinator, member: MockUser
) -> None:
    await hass.auth.async_remove_user(member)
    with pytest.raises(UnknownUser):
        await call(hass, "turn_off", member.id)
    assert not lent.lender.paused
