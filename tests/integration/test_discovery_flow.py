"""Builders that announce themselves: hints that a person follows, and new addresses of peers."""

from collections.abc import AsyncGenerator
from pathlib import Path

from homeassistant.config_entries import (
    SOURCE_IGNORE,
    ConfigEntryDisabler,
    ConfigEntryState,
)
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_schema_suggested_value,
)

from custom_components.esphome_offload.const import DOMAIN, INSTANCE_UNIQUE_ID
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.stores.identity import async_get_identity

from ..engine.client.proxy import Proxy
from ..engine.client.scripted_server import ScriptedServer
from .conftest import Stage
from .pairing_dialogs import Dialog, announcement, unused_url
from .peer_entries.entries import add_builder

pytestmark = pytest.mark.usefixtures("socket_enabled", "stage", "config_dir")


@pytest.fixture
async def builder(socket_enabled: None) -> AsyncGenerator[ScriptedServer]:
    """The other Home Assistant."""
    builder = ScriptedServer()
    await builder.start()
    yield builder
    await builder.stop()


async def test_a_discovered_builder_is_paired_with_after_a_question(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    dialog = await Dialog.discover(hass, announcement(builder))
    assert dialog.step == "zeroconf_confirm"
    assert dialog.placeholders == {
        "example_url": "https://home.example.org",
        "label": "attic",
        "url": builder.url,
    }
    assert builder.connections == 0, "nothing is sent before a person wants it"
    (flow,) = hass.config_entries.flow.async_progress()
    where = builder.url.removeprefix("http://")
    assert flow["context"]["title_placeholders"] == {"name": f"attic ({where})"}, (
        "a builder of the same name has another address"
    )

    await dialog.submit()
    assert dialog.step == "code"
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["data"]["url"] == builder.url


async def test_this_instance_is_set_up_first_and_the_discovered_builder_is_shown_again(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    dialog = await Dialog.discover(hass, announcement(builder))
    await dialog.submit()
    assert dialog.step == "instance"
    await dialog.submit(config_dir="esphome")
    await hass.async_block_till_done(wait_background_tasks=True)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["result"].unique_id == INSTANCE_UNIQUE_ID

    _, flow_id = dialog.result["next_flow"]
    following = Dialog(hass, await hass.config_entries.flow.async_configure(flow_id))
    assert following.step == "zeroconf_confirm"
    await following.submit()
    assert following.step == "code"
    await following.submit(code=builder.open())
    await hass.async_block_till_done()
    assert following.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_builder_that_was_paired_meanwhile_is_not_shown_again(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    dialog = await Dialog.discover(hass, announcement(builder))
    await dialog.submit()
    await add_builder(hass, builder)
    await dialog.submit(config_dir="esphome")
    await hass.async_block_till_done(wait_background_tasks=True)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result.get("next_flow") is None


async def test_pairing_works_while_this_instance_is_disabled(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    MockConfigEntry(
        domain=DOMAIN,
        unique_id=INSTANCE_UNIQUE_ID,
        data={"kind": "instance", "config_dir": ""},
        disabled_by=ConfigEntryDisabler.USER,
    ).add_to_hass(hass)
    copied = await async_get_identity(hass)
    builder.become(copied)
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.step == "same_identity"
    await dialog.submit()
    assert await async_get_identity(hass) != copied
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["result"].state is ConfigEntryState.LOADED


async def test_an_error_is_shown_and_the_address_can_be_changed(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    dialog = await Dialog.discover(hass, announcement(builder))
    builder.refusal = ErrorCode.NOT_LENDING
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("pair", {"url": "not_lending"})
    schema = dialog.result["data_schema"].schema
    assert get_schema_suggested_value(schema, "url") == builder.url
    builder.refusal = None
    await dialog.address(builder.url)
    assert dialog.step == "code"


async def test_an_address_without_a_scheme_is_tried_with_both_once_more(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    where = builder.url.removeprefix("http://")
    dialog = await Dialog.discover(hass, announcement(builder, url=""))
    assert dialog.placeholders["url"] == where
    builder.refusal = ErrorCode.NOT_LENDING
    await dialog.submit()
    proposed = get_schema_suggested_value(dialog.result["data_schema"].schema, "url")
    assert proposed == where
    builder.refusal = None
    await dialog.address(proposed)
    assert dialog.step == "code"


@pytest.mark.parametrize("url", ["", None, "ftp://attic", "http://an attic"])
async def test_without_a_good_url_the_announced_address_is_used(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer, url: str | None
) -> None:
    dialog = await Dialog.discover(hass, announcement(builder, url=url))
    await dialog.submit()
    assert dialog.step == "code"
    assert dialog.placeholders["url"] == builder.url


async def test_an_announcement_without_a_pin_is_ignored(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    for pin in (None, "", "x" * 64):
        dialog = await Dialog.discover(hass, announcement(builder, pin=pin))
        assert (dialog.result["type"], dialog.result["reason"]) == (
            FlowResultType.ABORT,
            "malformed",
        )


async def test_this_instance_does_not_find_itself(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    own = await async_get_identity(hass)
    dialog = await Dialog.discover(hass, announcement(builder, pin=own.pin_sha256))
    assert dialog.result["reason"] == "own_address"


async def test_without_an_identity_a_discovery_is_aborted(
    hass: HomeAssistant, builder: ScriptedServer, config_dir: Path
) -> None:
    (config_dir.parent / ".storage" / f"{DOMAIN}.identity").write_text("{}")
    dialog = await Dialog.discover(hass, announcement(builder))
    assert dialog.result["reason"] == "identity_damaged"


async def test_an_ignored_builder_stays_ignored_until_it_is_added(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    MockConfigEntry(
        domain=DOMAIN, unique_id=builder.identity.pin_sha256, source=SOURCE_IGNORE, data={}
    ).add_to_hass(hass)
    dialog = await Dialog.discover(hass, announcement(builder))
    assert dialog.result["reason"] == "already_paired"
    added = await Dialog.add(hass)
    await added.address(builder.url)
    await added.submit(code=builder.open())
    await hass.async_block_till_done()
    assert added.result["type"] is FlowResultType.CREATE_ENTRY


async def test_an_ignored_builder_can_be_entered_where_another_one_was_found(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    ignored = MockConfigEntry(
        domain=DOMAIN, unique_id=builder.identity.pin_sha256, source=SOURCE_IGNORE, data={}
    )
    ignored.add_to_hass(hass)
    dialog = await Dialog.discover(hass, announcement(builder, pin="ab" * 32))
    builder.refusal = ErrorCode.NOT_LENDING
    await dialog.submit()
    assert dialog.step == "pair"
    builder.refusal = None
    await dialog.address(builder.url)
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert ignored.data == {}


# A peer has another address


async def test_a_peer_that_moved_is_followed_when_it_proves_itself(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer, stage: Stage
) -> None:
    entry = await add_builder(hass, builder, unused_url())
    assert await hass.config_entries.async_setup(entry.entry_id)
    dialog = await Dialog.discover(hass, announcement(builder))
    assert dialog.result["reason"] == "already_paired"
    await hass.async_block_till_done()
    assert entry.data["url"] == builder.url
    assert stage.peers.links[-1].url == builder.url


async def test_a_peer_that_answers_where_it_was_stays_there(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    async with builder.elsewhere() as elsewhere:
        entry = await add_builder(hass, builder, elsewhere)
        await Dialog.discover(hass, announcement(builder))
        assert entry.data["url"] == elsewhere


async def test_a_peer_that_is_back_is_connected_to_at_once(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer, stage: Stage
) -> None:
    entry = await add_builder(hass, builder)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await Dialog.discover(hass, announcement(builder))
    (link,) = stage.peers.links
    assert link.woken == 1


async def test_a_peer_that_is_connected_is_left_alone(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer, stage: Stage
) -> None:
    entry = await add_builder(hass, builder, unused_url())
    assert await hass.config_entries.async_setup(entry.entry_id)
    stage.peers.links[-1].become(LinkState.CONNECTED)
    await Dialog.discover(hass, announcement(builder))
    assert builder.connections == 0


async def test_an_impostor_with_the_pin_of_a_peer_does_not_move_its_entry(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    """It announces the pin while the peer restarts, and does not have the key."""
    where = unused_url()
    entry = await add_builder(hass, builder, where)
    impostor = ScriptedServer(Identity(Identity.generate().private, builder.identity.public))
    impostor.guests |= builder.guests
    await impostor.start()
    dialog = await Dialog.discover(hass, announcement(impostor))
    await impostor.stop()
    assert impostor.connections > 0
    assert dialog.result["reason"] == "already_paired"
    assert entry.data["url"] == where


async def test_a_relay_does_not_move_the_entry_of_a_peer_that_is_back_meanwhile(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    """It announces the pin while the peer restarts, and lets everything through once it is up."""
    own = Proxy(builder.port)
    await own.mend()
    entry = await add_builder(hass, builder, own.url)
    await own.cut()
    relay = Proxy(builder.port)
    await relay.mend()
    relay.hold()
    discovery = hass.async_create_task(
        Dialog.discover(hass, announcement(builder, url=relay.url)), eager_start=True
    )
    await relay.connected.wait()
    await own.mend()
    relay.release()
    await discovery
    assert entry.data["url"] == own.url
    await own.cut()
    await relay.cut()


async def test_a_peer_that_connects_meanwhile_stays_where_it_is(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer, stage: Stage
) -> None:
    where = unused_url()
    entry = await add_builder(hass, builder, where)
    assert await hass.config_entries.async_setup(entry.entry_id)
    announced = Proxy(builder.port)
    await announced.mend()
    announced.hold()
    discovery = hass.async_create_task(
        Dialog.discover(hass, announcement(builder, url=announced.url)), eager_start=True
    )
    await announced.connected.wait()
    stage.peers.links[-1].become(LinkState.CONNECTED)
    announced.release()
    await discovery
    assert entry.data["url"] == where
    await announced.cut()


async def test_an_https_address_is_changed_by_people_only(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    where = unused_url().replace("http:", "https:")
    entry = await add_builder(hass, builder, where)
    await Dialog.discover(hass, announcement(builder))
    assert entry.data["url"] == where
    assert builder.connections == 0


async def test_a_damaged_entry_is_left_to_its_owner(
    hass: HomeAssistant, coordinator: OffloadCoordinator, builder: ScriptedServer
) -> None:
    entry = await add_builder(hass, builder, unused_url())
    hass.config_entries.async_update_entry(entry, data={**entry.data, "public_key": "?"})
    dialog = await Dialog.discover(hass, announcement(builder))
    assert dialog.result["reason"] == "already_paired"


async def test_the_manifest_names_the_announced_service(hass: HomeAssistant) -> None:
    from homeassistant.loader import async_get_integration

    from custom_components.esphome_offload.engine.const import ZEROCONF_TYPE

    integration = await async_get_integration(hass, DOMAIN)
    assert integration.zeroconf == [ZEROCONF_TYPE]
