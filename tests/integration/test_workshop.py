"""The real parts as they are put together; nothing is compiled here."""

from pathlib import Path
from unittest.mock import patch

import pytest

from custom_components.esphome_offload import workshop as workshop_module
from custom_components.esphome_offload.builders.containment import (
    ContainmentHere,
    Degree,
    GuestContainment,
    Obstacle,
)
from custom_components.esphome_offload.builders.layout import CacheLayout
from custom_components.esphome_offload.builders.local import LocalBuilder

PIN = "ab" * 32
CONTAINED = ContainmentHere(Degree.CONTAINED, 7, "", "")
UNCONTAINED = ContainmentHere(Degree.UNCONTAINED, 0, "", "", Obstacle.KERNEL)


@pytest.mark.parametrize("here", [CONTAINED, UNCONTAINED])
async def test_a_guest_gets_a_builder_of_its_own_with_the_machines_slots(
    tmp_path: Path, here: ContainmentHere
) -> None:
    layout = CacheLayout(tmp_path / "cache")
    private = (tmp_path / "config",)
    with patch.object(workshop_module, "containment_here", lambda: here):
        workshop = workshop_module.make_workshop(layout, private)
    own = layout.guest(PIN)
    guest = await workshop.make_guest(own)

    assert guest.layout == own
    assert isinstance(guest.builder, LocalBuilder)
    assert guest.builder is not workshop.builder
    assert guest.builder.slots is workshop.slots is workshop.builder.slots
    contained = GuestContainment(own, private) if here is CONTAINED else None
    assert guest.builder._containment == contained
    await workshop.aclose()
