"""One failure is one failure: the fixtures of all tests, run by a pytest of their own."""

import asyncio
from pathlib import Path
import re
import sys

ROOT = Path(__file__).parent.parent

BROKEN = """
from unittest.mock import patch
from homeassistant.core import HomeAssistant
import pytest

@pytest.fixture(autouse=True)
def mock_recorder_before_hass(request):
    if not request.node.name.startswith("test_broken"):
        yield
        return
    with patch("homeassistant.helpers.translation.async_load_integrations", side_effect=OSError):
        yield

async def test_broken(hass: HomeAssistant): pass
async def test_broken_again(hass: HomeAssistant): pass
async def test_with_home_assistant(hass: HomeAssistant): pass
def test_without(): pass
"""


async def test_a_failing_hass_fixture_fails_no_later_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import _remove_unfinished_instance\n"
    )
    (tmp_path / "test_broken.py").write_text(BROKEN)
    pytest = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.home_assistant_2026_11",
        "-p",
        "no:respx",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        "--rootdir",
        tmp_path,
        "-q",
        tmp_path,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await pytest.communicate())[0].decode()
    # Each of the two broken ones may also be said to leave something behind.
    assert "2 passed" in output, output
    assert set(re.findall(r"^ERROR .*::(\w+)", output, re.MULTILINE)) == {
        "test_broken",
        "test_broken_again",
    }
