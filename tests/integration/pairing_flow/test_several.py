"""Several builders at once: those that were given this Home Assistant's pin need no code."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import SOURCE_IGNORE, ConfigEntryState, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.config_flow import OffloadConfigFlow
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import (
    IdentityError,
)
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.flows import several
from custom_components.esphome_offload.peering.entry import PeerSettings
from custom_components.esphome_offload.stores.identity import async_get_identity

from ...engine.client.scripted_server import ScriptedServer
from ..pairing_dialogs import Dialog, pairs, unused_url
from ..peer_entries.entries import add_builder

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


@pytest.fixture
async def builders(
    coordinator: OffloadCoordinator, hass: HomeAssistant
) -> AsyncGenerator[list[ScriptedServer]]:
    """Three builders, of which the first two were given the pin of this Home Assistant."""
    own = await async_get_identity(hass)
    builders = [ScriptedServer(label=label) for label in ("attic", "cellar", "garage")]
    async with AsyncExitStack() as stack:
        for builder in builders:
            await builder.start()
            stack.push_async_callback(builder.stop)
        for builder in builders[:2]:
            builder.guests.add(own.public)
        yield builders


def paired(hass: HomeAssistant) -> dict[str, str]:
    """Return the titles of the entries of peers, by pin."""
    return {
        entry.unique_id or "": entry.title
        for entry in hass.config_entries.async_entries(DOMAIN)
        if entry.data.get("kind") == "peer" and entry.state is ConfigEntryState.LOADED
    }


async def listed(hass: HomeAssistant, *lines: str) -> Dialog:
    dialog = await Dialog.add(hass)
    await dialog.address("\n".join(lines))
    return dialog


async def problem(hass: HomeAssistant, line: str) -> str:
    """Return what is said of an address that is not added."""
    dialog = await listed(hass, line, line)
    assert (dialog.step, dialog.errors) == ("none_knows", None)
    first, *_ = dialog.placeholders["others"].splitlines()
    assert first.startswith(f"- {line.split(maxsplit=1)[0]}: ")
    return first


async def test_the_dialog_shows_the_own_pin(hass: HomeAssistant) -> None:
    own = await async_get_identity(hass)
    assert (await Dialog.add(hass)).placeholders["pin"] == own.pin_sha256


async def test_all_that_know_this_home_assistant_become_entries(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, cellar, garage = builders
    dialog = await listed(
        hass, attic.url, f"{cellar.url} {cellar.identity.pin_sha256.upper()}", garage.url, attic.url
    )
    assert dialog.step == "several"
    assert dialog.placeholders["knowing"].splitlines() == [
        f"- attic ({attic.url}) has the pin `{attic.identity.pin_sha256}`",
        f"- cellar ({cellar.url}) has the pin that was entered.",
    ]
    assert f"- {garage.url}: garage does not know" in dialog.placeholders["others"]
    assert "--guest" in dialog.placeholders["others"]
    assert paired(hass) == {}

    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert paired(hass) == {
        attic.identity.pin_sha256: "attic",
        cellar.identity.pin_sha256: "cellar",
    }


async def test_ignored_ones_become_entries_as_well(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, cellar, _ = builders
    pins = {each.identity.pin_sha256: each.label for each in (attic, cellar)}
    for pin in pins:
        MockConfigEntry(domain=DOMAIN, unique_id=pin, source=SOURCE_IGNORE, data={}).add_to_hass(
            hass
        )
    dialog = await listed(hass, attic.url, cellar.url)
    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert paired(hass) == pins
    assert not [
        entry
        for entry in hass.config_entries.async_entries(DOMAIN)
        if entry.source == SOURCE_IGNORE
    ]


@pytest.mark.parametrize("which", [0, 1])
async def test_one_that_was_paired_with_meanwhile_is_named_at_the_end(
    hass: HomeAssistant, builders: list[ScriptedServer], which: int
) -> None:
    attic, cellar, _ = builders
    dialog = await listed(hass, attic.url, cellar.url)
    taken = builders[which]
    entry = await add_builder(hass, taken)
    await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["description"] == "not_all_added"
    assert dialog.placeholders["others"].startswith(f"- {taken.url}: {taken.label} is paired")
    assert hass.config_entries.async_get_entry(entry.entry_id) is entry
    added = builders[1 - which].identity.pin_sha256
    assert added in paired(hass)


async def test_one_that_is_paired_with_at_the_same_moment_is_named_as_well(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, cellar, _ = builders
    dialog = await listed(hass, attic.url, cellar.url)
    step = OffloadConfigFlow.async_step_system

    async def late(flow: OffloadConfigFlow, settings: PeerSettings) -> ConfigFlowResult:
        await add_builder(hass, attic)
        return await step(flow, settings)

    with patch.object(OffloadConfigFlow, "async_step_system", late):
        await dialog.submit()
    await hass.async_block_till_done()
    assert dialog.placeholders["others"].startswith(f"- {attic.url}: attic is paired")
    assert cellar.identity.pin_sha256 in paired(hass)


async def test_where_all_were_paired_with_meanwhile_it_ends(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, cellar, _ = builders
    dialog = await listed(hass, attic.url, cellar.url)
    for each in (attic, cellar):
        await add_builder(hass, each)
    await dialog.submit()
    assert dialog.result["type"] is FlowResultType.ABORT
    assert dialog.result["reason"] == "already_paired"


async def test_one_with_its_pin_needs_no_code_either(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic = builders[0]
    dialog = await listed(hass, f"{attic.url} {attic.identity.pin_sha256}")
    assert (dialog.step, dialog.placeholders["others"]) == ("several", "")
    await dialog.submit()
    await hass.async_block_till_done()
    assert paired(hass) == {attic.identity.pin_sha256: "attic"}


async def test_one_without_its_pin_is_paired_with_by_code(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    """Who answers there could claim to know us."""
    dialog = await listed(hass, builders[0].url)
    assert dialog.step == "code"
    await pairs(hass, dialog, builders[0])


async def test_where_none_knows_it_the_list_can_be_changed(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, _, garage = builders
    dialog = await listed(hass, garage.url, garage.url)
    assert dialog.step == "none_knows"
    await dialog.submit()
    assert (dialog.step, dialog.errors) == ("pair", {})
    await dialog.address(f"{garage.url}, {attic.url}")
    assert dialog.step == "several"


@pytest.mark.parametrize("line", ["ftp://attic", "attic cellar", f"attic {'ab' * 32} {'ab' * 32}"])
async def test_a_line_that_is_no_address_can_be_corrected(
    hass: HomeAssistant, builders: list[ScriptedServer], line: str
) -> None:
    dialog = await listed(hass, builders[0].url, line, "attic")
    assert (dialog.step, dialog.errors) == ("pair", {"url": "invalid_address"})
    assert dialog.placeholders["address"][:60] == line[:60]
    await dialog.address(f"{builders[0].url}\n{builders[1].url}")
    assert dialog.step == "several"


async def test_each_that_cannot_be_added_says_why(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, cellar, garage = builders
    assert "There is no answer" in await problem(hass, unused_url())
    assert "another pin" in await problem(hass, f"{attic.url} {'ab' * 32}")
    attic.said_key = cellar.identity.public
    assert "does not know this Home Assistant" in await problem(hass, attic.url)
    attic.refusal = ErrorCode.NOT_LENDING
    assert "does not accept builds" in await problem(hass, attic.url)
    for refusal, text in (
        (ErrorCode.BUSY, "too many requests"),
        (ErrorCode.INTERNAL, "not as ESPHome Offload does"),
    ):
        garage.link_refusal = refusal
        assert text in await problem(hass, garage.url)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ChannelClosed("gone"), "There is no answer"),
        (ProtocolError(ErrorCode.MALFORMED, "?"), "not as ESPHome Offload does"),
    ],
)
async def test_a_link_that_breaks_says_so(
    hass: HomeAssistant, builders: list[ScriptedServer], error: Exception, text: str
) -> None:
    with patch.object(several, "dial_link", side_effect=error):
        assert text in await problem(hass, builders[0].url)


async def test_one_that_is_paired_already_and_this_home_assistant_itself_are_told_apart(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    attic, cellar, _ = builders
    await pairs(hass, await listed(hass, attic.url), attic)
    assert "is paired with this Home Assistant already" in await problem(hass, attic.url)
    cellar.become(await async_get_identity(hass))
    assert "the address of this Home Assistant" in await problem(hass, cellar.url)


async def test_without_an_identity_nothing_can_be_asked(
    hass: HomeAssistant, builders: list[ScriptedServer]
) -> None:
    error = IdentityError(ReasonKey.IDENTITY_DAMAGED, Path("identity"))
    dialog = await Dialog.add(hass)
    with patch.object(several, "async_get_caller", side_effect=error):
        await dialog.address(f"{builders[0].url}\n{builders[1].url}")
    assert (dialog.step, dialog.errors) == ("pair", {"url": "identity_damaged"})
