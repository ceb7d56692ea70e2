"""Home Assistant's test plugin finds the integration in this checkout; a failure stays one."""

from collections.abc import Generator
from datetime import UTC
import threading

from homeassistant.util import dt as dt_util
from hypothesis import HealthCheck, settings
import pytest
from pytest_homeassistant_custom_component.common import INSTANCES

import custom_components  # noqa: F401 else the plugin's own package of that name is used

# The same examples each time, however long one takes on a busy machine.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# pytest --hypothesis-profile=fuzz: many more, others each time.
settings.register_profile(
    "fuzz", settings.get_profile("tests"), derandomize=False, max_examples=3000, print_blob=True
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _remove_unfinished_instance(verify_cleanup: None) -> Generator[None]:
    """Keep a ``hass`` fixture that fails from failing every later test of the process.

    The plugin never stops an instance whose fixture fails half-way, and leaves its time zone.
    Each later cleanup would try to stop it, on an event loop that is closed by then.
    """
    yield
    if len(INSTANCES) == 1:  # more than one is what the plugin's own cleanup reports
        INSTANCES.clear()
        dt_util.set_default_time_zone(UTC)


@pytest.fixture(autouse=True)
def _end_unreliable_threads(verify_cleanup: None) -> Generator[None]:
    """Wait for threads whose work has ended: the plugin's cleanup refuses those that are left.

    On a busy machine one may be a moment behind the answer that it gave.
    """
    yield
    for thread in threading.enumerate():
        if thread.name == "unreliable work":
            thread.join(10)
