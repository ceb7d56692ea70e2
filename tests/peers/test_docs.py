from pathlib import Path

import pytest

from custom_components.esphome_offload.peers import greetings, messages, protocol
from custom_components.esphome_offload.peers.messages import AttemptState
from custom_components.esphome_offload.peers.payloads import FirmwarePart
from custom_components.esphome_offload.peers.protocol import Capability, ErrorCode

PROTOCOL_PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()

TYPES = [
    each.TYPE
    for module in (greetings, messages)
    for each in vars(module).values()
    if isinstance(each, type) and hasattr(each, "TYPE")
]
URLS = [
    protocol.URL_INFO,
    protocol.URL_PAIR,
    protocol.URL_TICKET,
    protocol.URL_BUNDLE,
    protocol.URL_FIRMWARE,
]


@pytest.mark.parametrize("word", [*TYPES, *ErrorCode, *Capability, *AttemptState, *FirmwarePart])
def test_every_word_of_the_protocol_is_documented(word: str) -> None:
    assert f"`{word}`" in PROTOCOL_PAGE


@pytest.mark.parametrize("url", URLS)
def test_every_url_is_documented(url: str) -> None:
    assert f"{url}`" in PROTOCOL_PAGE
