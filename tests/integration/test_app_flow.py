"""The app on this machine, as Supervisor tells of it: paired with by a confirmation alone."""

from collections.abc import AsyncGenerator
from typing import Any

from homeassistant.config_entries import SOURCE_HASSIO
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
import pytest

from custom_components.esphome_offload.const import DOMAIN, INSTANCE_UNIQUE_ID
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.client.dial import DialError, DialFailure
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.flows import pairing
from custom_components.esphome_offload.stores.identity import async_get_identity

from ..engine.client.scripted_server import ScriptedServer
from .pairing_dialogs import Dialog, announcement, unused_url
from .peer_entries.entries import add_peer

pytestmark = pytest.mark.usefixtures("socket_enabled", "stage", "config_dir")


@pytest.fixture
async def builder(socket_enabled: None) -> AsyncGenerator[ScriptedServer]:
    """The builder in the app, which has a secret."""
    builder = ScriptedServer()
    builder.secret.renew()
    await builder.start()
    yield builder
    await builder.stop()


def app(builder: ScriptedServer, **changes: object) -> HassioServiceInfo:
    """Return what Home Assistant's Supervisor integration makes of the app's message."""
    config: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": builder.port,
        "pin_sha256": builder.identity.pin_sha256,
        "secret": builder.secret.value,
        "addon": "ESPHome Offload Builder",
        **changes,
    }
    slug = "a0d7b954_esphome_offload_builder"
    return HassioServiceInfo(config, "ESPHome Offload Builder", slug, "0" * 32)


def steps(hass: HomeAssistant) -> list[str]:
    return [str(flow["step_id"]) for flow in hass.config_entries.flow.async_progress()]


async def test_the_app_is_paired_with_by_a_confirmation_alone(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    dialog = await Dialog.offered(hass, app(builder))
    assert dialog.step == "hassio_confirm"
    assert dialog.placeholders["app"] == "ESPHome Offload Builder"
    assert dialog.placeholders["url"] == builder.url
    assert dialog.result["data_schema"] is None, "there is nothing to enter"
    assert builder.connections == 0, "nothing is sent before a person wants it"

    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["data"]["url"] == builder.url
    assert dialog.result["result"].unique_id == builder.identity.pin_sha256
    assert len(builder.paired) == 1
    assert builder.secret.value is None, "the secret was for one time"


async def test_this_instance_is_set_up_first_and_the_app_is_offered_again(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    dialog = await Dialog.offered(hass, app(builder))
    await dialog.submit()
    assert dialog.step == "instance"
    await dialog.submit(config_dir="esphome")
    await hass.async_block_till_done(wait_background_tasks=True)
    assert dialog.result["result"].unique_id == INSTANCE_UNIQUE_ID

    _, flow_id = dialog.result["next_flow"]
    following = Dialog(hass, await hass.config_entries.flow.async_configure(flow_id))
    assert following.step == "hassio_confirm"
    await following.submit()
    await hass.async_block_till_done()
    assert following.result["type"] is FlowResultType.CREATE_ENTRY
    keys = following.result["result"].discovery_keys["hassio"]
    assert [each.key for each in keys] == ["0" * 32], "it is offered again when it is removed"


async def test_an_app_that_is_paired_with_is_not_offered_and_its_address_is_kept_right(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    entry = add_peer(hass, identity=builder.identity, url=unused_url())
    builder.guests.add((await async_get_identity(hass)).public)
    dialog = await Dialog.offered(hass, app(builder))
    assert dialog.result["reason"] == "already_paired"
    assert entry.data["url"] == builder.url
    assert steps(hass) == []


async def test_the_app_is_offered_once_with_the_secret_that_it_has_now(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    dialog = await Dialog.offered(hass, app(builder, host="localhost"))
    builder.secret.renew()
    again = await Dialog.offered(hass, app(builder))
    assert again.result["reason"] == "already_in_progress"
    assert steps(hass) == ["hassio_confirm"]
    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["data"]["url"] == builder.url


async def test_its_announcement_in_the_network_is_no_second_offer(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    """Whichever comes first; the one with a code gives way."""
    await Dialog.discover(hass, announcement(builder))
    await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_HASSIO}, data=app(builder)
    )
    assert steps(hass) == ["hassio_confirm"]
    await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": "zeroconf"}, data=announcement(builder)
    )
    assert steps(hass) == ["hassio_confirm"]


async def test_the_dialog_of_somebody_who_enters_a_code_stays_open(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    dialog = await Dialog.discover(hass, announcement(builder))
    await dialog.submit()
    offered = await Dialog.offered(hass, app(builder))
    assert sorted(steps(hass)) == ["code", "hassio_confirm"]
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert offered.result["flow_id"] not in {
        flow["flow_id"] for flow in hass.config_entries.flow.async_progress()
    }


@pytest.mark.parametrize("secret", [None, "0" * 43])
async def test_without_a_good_secret_the_code_pairs(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    builder: ScriptedServer,
    secret: str | None,
) -> None:
    """It was used by an earlier Home Assistant, or the app is older than its message."""
    dialog = await Dialog.offered(hass, app(builder, secret=secret))
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("code", {"base": "secret_over"})
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_secret_works_once(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    info = app(builder)
    builder.secret.revoke()
    dialog = await Dialog.offered(hass, info)
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("code", {"base": "secret_over"})


async def test_another_builder_at_its_address_gets_nothing(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    pin = Identity.generate().pin_sha256
    dialog = await Dialog.offered(hass, app(builder, pin_sha256=pin))
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("hassio_confirm", {"base": "not_the_app"})
    assert builder.paired == []


async def test_an_app_that_does_not_answer_can_be_tried_again(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    dialog = await Dialog.offered(hass, app(builder))
    builder.refusal = ErrorCode.TOO_OLD
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("hassio_confirm", {"base": "too_new"})
    builder.refusal, builder.pairing_refusal = None, ErrorCode.BUSY
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("hassio_confirm", {"base": "pairing_busy"})
    builder.pairing_refusal = None
    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_an_app_that_goes_away_meanwhile_is_said(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    builder: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> object:
        raise DialError(DialFailure.CANNOT_CONNECT, builder.url)

    dialog = await Dialog.offered(hass, app(builder))
    monkeypatch.setattr(pairing, "dial", gone)
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("hassio_confirm", {"base": "cannot_connect"})


@pytest.mark.parametrize(
    "changes",
    [
        {"pin_sha256": "x"},
        {"host": "attic/@evil"},
        {"port": 0},
        {"port": "16053"},
        {"secret": "short"},
        {"host": None},
    ],
)
async def test_a_message_that_is_none_is_ignored(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    builder: ScriptedServer,
    changes: dict[str, object],
) -> None:
    dialog = await Dialog.offered(hass, app(builder, **changes))
    assert dialog.result["reason"] == "malformed"


async def test_our_own_identity_is_not_offered(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    own = await async_get_identity(hass)
    dialog = await Dialog.offered(hass, app(builder, pin_sha256=own.pin_sha256))
    assert dialog.result["reason"] == "own_address"
