"""The real parts as they are put together; nothing is compiled here."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from custom_components.esphome_offload import build_services as workshop_module
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.process.containment import (
    ContainmentHere,
    Degree,
    GuestContainment,
    Obstacle,
)

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
        workshop = workshop_module.make_build_services(layout, private)
    own = layout.guest(PIN)
    guest = await workshop.make_guest(own)

    assert guest.layout == own
    assert isinstance(guest.builder, LocalBuilder)
    assert guest.builder is not workshop.builder
    assert guest.builder.slots is workshop.slots is workshop.builder.slots
    contained = GuestContainment(own, private) if here is CONTAINED else None
    assert guest.builder._containment == contained
    await workshop.aclose()


async def test_trees_and_bundles_share_a_budget_and_what_is_gone_goes_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = CacheLayout(tmp_path / "cache")
    workshop = workshop_module.make_build_services(layout, ())
    await workshop.begin()
    lamp = (layout.tree("lamp.yaml"), layout.bundle("lamp.yaml"), layout.firmware("lamp.yaml"))
    for folder in lamp:
        (folder / "storage").mkdir(parents=True)
        (folder / "storage" / "lamp.yaml.json").write_text("{}")
        os.utime(folder, (0, 0))
    await workshop.make_room({"lamp.yaml"})
    assert all(folder.exists() for folder in lamp)
    assert workshop.builder.status().warm == {"lamp.yaml"}

    monkeypatch.setattr(workshop_module, "TREES_BUDGET", 0)
    await workshop.make_room(())
    assert [folder.exists() for folder in lamp] == [False, False, True]
    assert workshop.builder.status().warm == frozenset()

    (mark,) = layout.gone.iterdir()
    os.utime(mark, (0, 0))
    await workshop.make_room(None)
    assert lamp[2].exists(), "nobody knows which configurations there are"
    await workshop.make_room(())
    assert not lamp[2].exists()
    await workshop.aclose()
