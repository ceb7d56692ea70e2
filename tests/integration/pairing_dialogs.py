"""Pairing as a person does it, with a builder behind a real connection."""

from dataclasses import dataclass
from ipaddress import ip_address
import json
from pathlib import Path
import socket
from string import Formatter
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import (
    SOURCE_HASSIO,
    SOURCE_USER,
    SOURCE_ZEROCONF,
    ConfigEntryState,
    ConfigFlowContext,
)
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.discovery_flow import DiscoveryKey
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from yarl import URL

from custom_components import esphome_offload as integration
from custom_components.esphome_offload.const import DOMAIN

from ..engine.client.scripted_server import ScriptedServer

type Result = dict[str, Any]

_TEXTS = json.loads((Path(integration.__file__).parent / "translations" / "en.json").read_text())[
    "config"
]


def unused_url() -> str:
    """Return an address at which nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**8:08d}"


def announcement(builder: ScriptedServer, **properties: str | None) -> ZeroconfServiceInfo:
    url = URL(builder.url)
    return ZeroconfServiceInfo(
        ip_address=ip_address("127.0.0.1"),
        ip_addresses=[ip_address("127.0.0.1")],
        port=url.port,
        hostname="attic.local.",
        type="_esphome-offload._tcp.local.",
        name="attic._esphome-offload._tcp.local.",
        properties={
            "pin": builder.identity.pin_sha256,
            "label": builder.label,
            "protocol": "1",
            "url": builder.url,
            **properties,
        },
    )


@dataclass
class Dialog:
    """One flow."""

    hass: HomeAssistant
    result: Result

    def __post_init__(self) -> None:
        self._check_texts()

    @classmethod
    async def add(cls, hass: HomeAssistant) -> Dialog:
        """Choose to add the integration."""
        flow = hass.config_entries.flow
        return cls(hass, await flow.async_init(DOMAIN, context={"source": SOURCE_USER}))

    @classmethod
    async def offered(cls, hass: HomeAssistant, app: HassioServiceInfo) -> Dialog:
        """Get word of the app from Supervisor."""
        flow = hass.config_entries.flow
        context = ConfigFlowContext(
            source=SOURCE_HASSIO,
            discovery_key=DiscoveryKey(domain="hassio", key=app.uuid, version=1),
        )
        return cls(hass, await flow.async_init(DOMAIN, context=context, data=app))

    @classmethod
    async def discover(cls, hass: HomeAssistant, found: ZeroconfServiceInfo) -> Dialog:
        """Discover a builder that announces itself."""
        flow = hass.config_entries.flow
        context = {"source": SOURCE_ZEROCONF}
        return cls(hass, await flow.async_init(DOMAIN, context=context, data=found))

    async def submit(self, **fields: object) -> Result:
        self.result = await self.hass.config_entries.flow.async_configure(
            self.result["flow_id"], fields
        )
        self._check_texts()
        return self.result

    def _check_texts(self) -> None:
        """Check that all texts that are shown are there, and their placeholders filled."""
        given = set(self.result.get("description_placeholders") or ())
        match self.result["type"]:
            case FlowResultType.FORM:
                step = _TEXTS["step"][self.step]
                texts = [step.get("description", ""), *step.get("data_description", {}).values()]
                texts += [_TEXTS["error"][error] for error in (self.errors or {}).values()]
            case FlowResultType.ABORT:
                texts = [_TEXTS["abort"][self.result["reason"]]]
            case FlowResultType.CREATE_ENTRY if self.result.get("description"):
                texts = [_TEXTS["create_entry"][self.result["description"]]]
            case _:
                texts = []
        for text in texts:
            wanted = {field for _, field, _, _ in Formatter().parse(text) if field}
            assert wanted <= given, text

    async def address(self, url: str) -> Result:
        return await self.submit(url=url, verify_ssl=True)

    @property
    def step(self) -> str:
        return self.result["step_id"]

    @property
    def errors(self) -> dict[str, str]:
        return self.result["errors"]

    @property
    def placeholders(self) -> dict[str, str]:
        return self.result["description_placeholders"]


def without_default_port() -> Any:
    """Replace the port that a Home Assistant on this machine might answer at."""
    return patch("custom_components.esphome_offload.engine.client.address.HOME_ASSISTANT_PORT", 1)


async def pairs(hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer) -> None:
    """Enter the right code; the entry is made and set up."""
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["result"].unique_id == builder.identity.pin_sha256
    assert dialog.result["result"].state is ConfigEntryState.LOADED
