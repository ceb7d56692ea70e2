"""Marks of tests that need something of the machine: root, or what contains builds.

What they test does not exist elsewhere: there the product refuses, or does without, which other
tests show. A run names what it skipped, with these reasons.
"""

import os

import pytest

from custom_components.esphome_offload.engine.build.cache.ownership import guest_users
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    Degree,
    containment_here,
)
from custom_components.esphome_offload.engine.build.process.reach import can_contain

HERE = containment_here()

# Builds of guests are refused there.
needs_containment = pytest.mark.skipif(
    HERE.degree is Degree.UNCONTAINED, reason=f"this machine cannot contain: {HERE.obstacle}"
)
# Older kernels, and those of some systems: guests have users of their own there, or are refused.
needs_landlock = pytest.mark.skipif(not can_contain(), reason="this kernel has no Landlock")
# Only root may run a build as another user.
needs_guest_users = pytest.mark.skipif(
    guest_users() is None, reason="guests have no users of their own here"
)
# Mounts, other users' files and other users themselves.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this is not root")
