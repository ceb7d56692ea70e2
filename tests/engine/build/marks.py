"""Marks of tests that need something of the machine: root, or what contains builds."""

import os

import pytest

from custom_components.esphome_offload.engine.build.cache.ownership import guest_users
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    Degree,
    containment_here,
)
from custom_components.esphome_offload.engine.build.process.reach import can_contain

HERE = containment_here()

needs_containment = pytest.mark.skipif(
    HERE.degree is Degree.UNCONTAINED, reason=f"this machine cannot contain: {HERE.obstacle}"
)
needs_landlock = pytest.mark.skipif(not can_contain(), reason="this kernel has no Landlock")
needs_guest_users = pytest.mark.skipif(
    guest_users() is None, reason="guests have no users of their own here"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this is not root")
