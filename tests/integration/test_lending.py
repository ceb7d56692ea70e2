"""Lending this machine: options, announcement, identity, pairing."""

from collections.abc import Generator
from pathlib import Path
import stat
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, patch

from aiohttp.test_utils import TestClient
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import (
    device_registry as dr,
    issue_registry as ir,
)
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
    Obstacle,
)
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.pairing import PairingError
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.issues import async_create_wrong_codes
from custom_components.esphome_offload.stores.identity import async_get_identity

from .conftest import LEND, Stage
from .guest_client import OffloaderClient

SWITCH = "switch.this_instance_accept_builds"
UNCONTAINED = ContainmentHere(Degree.UNCONTAINED, 0, "5.4.0", "x86_64", Obstacle.KERNEL)


async def open_form(hass: HomeAssistant, entry: MockConfigEntry, step: str) -> dict[str, Any]:
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    return await hass.config_entries.options.async_configure(
        menu["flow_id"], {"next_step_id": step}
    )


def devices(hass: HomeAssistant, entry: MockConfigEntry) -> dict[str, dr.DeviceEntry]:
    found = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    return {device.name or "": device for device in found}


# The options


async def test_lending_is_off_until_its_owner_switches_it_on(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    assert coordinator.lender.lending is Lending.OFF
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    assert menu["menu_options"] == ["settings", "automatic", "lending"], "nobody can be paired with"

    form = await open_form(hass, entry, "lending")
    assert "not contained are the network" in form["description_placeholders"]["containment"]
    assert "run_uncontained" not in form["data_schema"].schema
    shown = await hass.config_entries.options.async_configure(form["flow_id"], LEND)

    assert shown["type"] is FlowResultType.SHOW_PROGRESS
    code = coordinator.lender.pairing.state.code
    assert shown["description_placeholders"]["code"].replace(" ", "") == code
    assert dict(entry.options) == LEND
    assert coordinator.lender.lending is Lending.ON
    assert stage.builder.slots.count == 2
    assert stage.compiler_caches.guest_disk == 30 * 1024**3
    assert hass.states.get(SWITCH).state == "on"


async def test_the_other_options_keep_lending_as_it_is_and_the_reverse(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(
        entry, options={**LEND, "version_channel": "fixed", "fixed_version": "2026.9.0"}
    )
    form = await open_form(hass, entry, "lending")
    await hass.config_entries.options.async_configure(
        form["flow_id"], {**LEND, "lend_disk_gib": 5.0}
    )
    assert dict(entry.options) == {
        **LEND,
        "lend_disk_gib": 5,
        "version_channel": "fixed",
        "fixed_version": "2026.9.0",
    }


async def test_a_machine_that_cannot_compile_cannot_be_lent_and_says_why(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
    form = await open_form(hass, entry, "lending")
    again = await hass.config_entries.options.async_configure(form["flow_id"], LEND)
    assert again["errors"] == {"accept_builds": "cannot_build"}
    assert again["description_placeholders"]["reason"] == ReasonKey.NOT_GLIBC.text

    done = await hass.config_entries.options.async_configure(
        form["flow_id"], {**LEND, "accept_builds": False}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert coordinator.lender.lending is Lending.OFF


class TestWithoutContainment:
    @pytest.fixture
    def stage(self, stage: Stage) -> Stage:
        stage.containment = UNCONTAINED
        return stage

    async def test_uncontained_builds_must_be_wanted(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
    ) -> None:
        form = await open_form(hass, entry, "lending")
        said = form["description_placeholders"]["containment"]
        assert said.startswith("**Nothing contains builds of guests")
        assert "5.4.0" in said
        again = await hass.config_entries.options.async_configure(
            form["flow_id"], {**LEND, "run_uncontained": False}
        )
        assert again["errors"] == {"run_uncontained": "uncontained"}
        await hass.config_entries.options.async_configure(
            form["flow_id"], {**LEND, "run_uncontained": True}
        )
        await hass.async_block_till_done()
        assert coordinator.lender.lending is Lending.ON

    async def test_a_kernel_that_lost_containment_ends_lending_with_a_repair(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        issue_registry: ir.IssueRegistry,
    ) -> None:
        hass.config_entries.async_update_entry(entry, options=LEND)
        await hass.async_block_till_done()
        assert coordinator.lender.lending is Lending.OFF
        issue = issue_registry.async_get_issue(DOMAIN, "lending_impossible")
        assert issue is not None
        assert "5.4.0" in issue.translation_placeholders["reason"]

        hass.config_entries.async_update_entry(entry, options={**LEND, "run_uncontained": True})
        await hass.async_block_till_done()
        assert coordinator.lender.lending is Lending.ON
        assert issue_registry.async_get_issue(DOMAIN, "lending_impossible") is None


# The announcement


@pytest.fixture
def addresses() -> AsyncMock:
    """Return what says at which addresses this machine is announced."""
    return AsyncMock(return_value=["192.168.1.20"])


@pytest.fixture
def announced(
    hass: HomeAssistant, mock_async_zeroconf: MagicMock, addresses: AsyncMock
) -> Generator[MagicMock]:
    """Zeroconf, which sends nothing."""
    hass.config.components.add("zeroconf")
    hass.config.components.add("network")
    package = "custom_components.esphome_offload"
    with (
        patch(
            f"{package}.lending.announcement.network.async_get_announce_addresses",
            addresses,
        ),
        patch(
            f"{package}.inventory.announced_firmware.AsyncServiceBrowser",
            return_value=Mock(async_cancel=AsyncMock()),
        ),
    ):
        yield mock_async_zeroconf


async def test_it_is_announced_while_it_is_lent(
    hass: HomeAssistant,
    announced: MagicMock,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
) -> None:
    hass.config.location_name = "The work.shop"
    hass.config.internal_url = "http://192.168.1.20:8123"
    assert not announced.async_register_service.called
    hass.config_entries.async_update_entry(entry, options=LEND)
    await hass.async_block_till_done()

    info = announced.async_register_service.call_args.args[0]
    assert info.type == "_esphome-offload._tcp.local."
    assert info.name == "The work shop._esphome-offload._tcp.local."
    assert info.port == hass.http.server_port
    assert info.decoded_properties == {
        "pin": (await async_get_identity(hass)).pin_sha256,
        "label": "The work.shop",
        "protocol": "1",
        "url": "http://192.168.1.20:8123",
    }

    hass.config_entries.async_update_entry(entry, options={**LEND, "accept_builds": False})
    await hass.async_block_till_done()
    announced.async_unregister_service.assert_called_once_with(info)


@pytest.mark.parametrize(
    ("hosts", "listening"),
    [
        (["0.0.0.0", "::"], ["192.168.1.20", "10.0.0.7", "fd00::7"]),
        (["192.168.1.20", "127.0.0.1"], ["192.168.1.20"]),
        (["0.0.0.0"], ["192.168.1.20", "10.0.0.7"]),
        (["10.0.0.7", "::"], ["10.0.0.7", "fd00::7"]),
        (["127.0.0.1"], ["192.168.1.20", "10.0.0.7", "fd00::7"]),
        (["attic.local", "10.0.0.7"], ["192.168.1.20", "10.0.0.7", "fd00::7"]),
        (None, ["192.168.1.20", "10.0.0.7", "fd00::7"]),
    ],
)
async def test_addresses_that_home_assistant_does_not_listen_on_are_not_announced(
    hass: HomeAssistant,
    announced: MagicMock,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    addresses: AsyncMock,
    hosts: list[str] | None,
    listening: list[str],
) -> None:
    """Behind a proxy on the same machine it listens on none of them, and the proxy does."""
    addresses.return_value = ["192.168.1.20", "10.0.0.7", "fd00::7"]
    hass.http.server_host = hosts
    hass.config_entries.async_update_entry(entry, options=LEND)
    await hass.async_block_till_done()
    info = announced.async_register_service.call_args.args[0]
    assert info.parsed_addresses() == listening


async def test_lending_goes_on_where_it_cannot_be_announced(
    hass: HomeAssistant,
    announced: MagicMock,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    announced.async_register_service.side_effect = OSError("no interface")
    hass.config_entries.async_update_entry(entry, options=LEND)
    await hass.async_block_till_done()
    assert coordinator.lender.lending is Lending.ON
    assert "Cannot announce this machine in the network: no interface" in caplog.text


async def test_another_name_or_address_is_announced_at_once(
    hass: HomeAssistant, announced: MagicMock, lent: OffloadCoordinator
) -> None:
    def said() -> tuple[str | None, str | None]:
        (info,) = announced.async_register_service.call_args.args
        properties = info.decoded_properties
        return properties["label"], properties["url"]

    await hass.config.async_update(location_name="Attic", internal_url="http://192.168.1.20:8123")
    await hass.async_block_till_done()
    assert said() == ("Attic", "http://192.168.1.20:8123")
    await hass.config.async_update(internal_url="http://192.168.1.21:8123")
    await hass.async_block_till_done()
    assert said() == ("Attic", "http://192.168.1.21:8123")
    assert announced.async_unregister_service.call_count == 2, "one at a time"

    await hass.config.async_update(elevation=1000)
    await hass.async_block_till_done()
    assert announced.async_register_service.call_count == 3, "nothing of that is announced"


async def test_it_is_announced_again_after_a_reload_and_not_after_a_stop(
    hass: HomeAssistant, announced: MagicMock, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert announced.async_register_service.call_count == 2
    assert announced.async_unregister_service.call_count == 1
    await lent.async_stop()
    assert announced.async_unregister_service.call_count == 2


# Identity


async def test_the_identity_is_made_when_lending_begins_and_nobody_else_can_read_it(
    hass: HomeAssistant, lent: OffloadCoordinator
) -> None:
    path = Path(hass.config.path(".storage", "esphome_offload.identity"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_damaged_identity_ends_lending_with_a_repair_and_is_not_replaced(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    issue_registry: ir.IssueRegistry,
) -> None:
    path = Path(hass.config.path(".storage", "esphome_offload.identity"))
    path.parent.mkdir(exist_ok=True)
    path.write_text("{")
    hass.config_entries.async_update_entry(entry, options=LEND)
    await hass.async_block_till_done()
    assert coordinator.lender.lending is Lending.OFF
    issue = issue_registry.async_get_issue(DOMAIN, "lending_impossible")
    assert issue is not None
    assert "offload.identity is damaged" in issue.translation_placeholders["reason"]
    assert path.read_text() == "{"


async def test_with_a_new_identity_nobody_is_a_guest_any_more(
    hass: HomeAssistant, lent: OffloadCoordinator, offloader: OffloaderClient
) -> None:
    async with offloader.connected() as link:
        before = await async_get_identity(hass)
        after = await lent.lender.async_renew_identity()
        await link.lost()
        assert link.statuses[-1] == {"type": "unpaired"}
    assert after.pin_sha256 != before.pin_sha256
    assert lent.lender.guests.all() == ()
    assert (await offloader.hello()).pin_sha256 == after.pin_sha256


# Pairing


async def test_the_code_is_shown_until_somebody_is_paired(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    client: TestClient,
    tmp_path: Path,
) -> None:
    shown = await open_form(hass, entry, "pairing")
    assert (shown["type"], shown["progress_action"]) == (FlowResultType.SHOW_PROGRESS, "pairing")
    code = shown["description_placeholders"]["code"]
    assert code.replace(" ", "") == lent.lender.pairing.state.code

    # The dialog does not open the window anew.
    again = await hass.config_entries.options.async_configure(shown["flow_id"])
    assert again["description_placeholders"]["code"] == code

    await OffloaderClient(client, tmp_path).pair(code)
    await hass.async_block_till_done(wait_background_tasks=True)
    done = await hass.config_entries.options.async_configure(shown["flow_id"])
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "paired")
    assert done["description_placeholders"] == {"label": "offloader"}


async def test_who_is_paired_learns_the_name_of_today(
    hass: HomeAssistant, lent: OffloadCoordinator, client: TestClient, tmp_path: Path
) -> None:
    await hass.config.async_update(location_name="Attic")
    paired = await OffloaderClient(client, tmp_path).pair(lent.lender.open_window().code)
    assert paired.label == "Attic"


async def test_the_dialog_shows_the_new_code_when_the_window_is_opened_anew(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    shown = await open_form(hass, entry, "pairing")
    new = lent.lender.open_window().code
    await hass.async_block_till_done()
    again = await hass.config_entries.options.async_configure(shown["flow_id"])
    assert again["type"] is FlowResultType.SHOW_PROGRESS
    assert again["description_placeholders"]["code"].replace(" ", "") == new
    hass.config_entries.options.async_abort(shown["flow_id"])
    assert lent.lender.pairing.state is not None, "who closes the dialog may still type the code"


async def test_the_action_opens_the_window_and_returns_the_code(
    hass: HomeAssistant, lent: OffloadCoordinator
) -> None:
    response = await hass.services.async_call(
        DOMAIN, "open_pairing", blocking=True, return_response=True
    )
    assert response["code"] == lent.lender.pairing.state.code
    assert response["seconds"] == 300
    assert response["expires_at"].endswith("+00:00")


async def test_no_window_opens_while_nothing_is_lent(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    with pytest.raises(ServiceValidationError) as refused:
        await hass.services.async_call(DOMAIN, "open_pairing", blocking=True, return_response=True)
    assert refused.value.translation_key == "lending_off"


async def test_three_wrong_codes_close_the_window_and_tell_the_owner(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    client: TestClient,
    tmp_path: Path,
    issue_registry: ir.IssueRegistry,
) -> None:
    shown = await open_form(hass, entry, "pairing")
    code = lent.lender.pairing.state.code
    wrong = f"{(int(code) + 1) % 10**8:08d}"
    left = []
    for _ in range(3):
        with pytest.raises(PairingError) as refused:
            await OffloaderClient(client, tmp_path).pair(wrong)
        assert refused.value.code is ErrorCode.WRONG_CODE
        left.append(refused.value.tries_left)
    assert left == [2, 1, 0]
    with pytest.raises(PairingError) as refused:
        await OffloaderClient(client, tmp_path).pair(code)
    assert refused.value.code is ErrorCode.WINDOW_CLOSED

    await hass.async_block_till_done(wait_background_tasks=True)
    done = await hass.config_entries.options.async_configure(shown["flow_id"])
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "wrong_codes")
    issue = issue_registry.async_get_issue(DOMAIN, "pairing_wrong_codes")
    assert issue is not None
    assert issue.translation_placeholders == {"address": "127.0.0.1"}
    lent.lender.open_window()
    assert issue_registry.async_get_issue(DOMAIN, "pairing_wrong_codes") is None


async def test_wrong_codes_are_no_concern_of_a_machine_that_is_not_lent_any_more(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    issue_registry: ir.IssueRegistry,
) -> None:
    async_create_wrong_codes(hass, "192.0.2.1")
    assert issue_registry.async_get_issue(DOMAIN, "pairing_wrong_codes") is not None
    hass.config_entries.async_update_entry(entry, options={**LEND, "accept_builds": False})
    await hass.async_block_till_done()
    assert issue_registry.async_get_issue(DOMAIN, "pairing_wrong_codes") is None
