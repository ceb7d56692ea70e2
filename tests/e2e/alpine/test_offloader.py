"""All that an offloader does, on a real Alpine user land; what compiles is a builder on glibc.

Its Python is 3.13, which stands in for the 3.14 of Home Assistant's image.
"""

from aioesphomeapi.client import APIClient
import pytest

from ..harness.device import NEW_VERSION, Device
from .offloader import Answer

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_every_step_was_done(answer: Answer) -> None:
    assert "failed" not in answer, answer["failed"]


async def test_it_knows_that_nothing_can_be_compiled_there(answer: Answer) -> None:
    assert answer["musl"]
    assert not answer["builds_here"]
    assert answer["why_not"] == "not_glibc"


async def test_a_toolchain_is_made_in_spite_of_an_index_with_other_versions(
    answer: Answer,
) -> None:
    assert answer["without_strategy"] == "version_unknown", "what the index does otherwise"
    assert answer["toolchain"] == NEW_VERSION
    assert answer["esphome"] == f"Version: {NEW_VERSION}"


async def test_the_launcher_leaves_nothing_running(answer: Answer) -> None:
    assert answer["left_running"] == []


async def test_the_launcher_contains_a_command(answer: Answer) -> None:
    if "contained" not in answer:
        pytest.skip("this kernel cannot contain builds")
    assert answer["contained"]
    assert not answer["leaked"]


async def test_esphome_there_knows_the_device(answer: Answer, device: Device) -> None:
    assert answer["node_name"] == device.name
    assert answer["config_hash"] == answer["built_hash"], "of the same configuration elsewhere"


async def test_a_builder_builds_for_it_and_it_flashes_the_device(
    answer: Answer, device: Device
) -> None:
    assert answer["source_label"] == "workshop"
    assert answer["stages"][-1] == "uploading"
    assert answer["warm"]
    assert device.firmware_sha256() == answer["firmware_sha256"]
    client = APIClient("127.0.0.1", device.api_port, None)
    await client.connect(login=True)
    try:
        reported = await client.device_info()
    finally:
        await client.disconnect()
    assert reported.esphome_version == NEW_VERSION
    assert reported.compilation_time == answer["build_time"]
