"""The real parts put together; nothing is compiled here."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.build import services as services_module
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.process.containment import (
    ContainmentHere,
    Degree,
    GuestContainment,
    Obstacle,
)
from custom_components.esphome_offload.engine.build.services import BuildServices

PIN = "ab" * 32
CONTAINED = ContainmentHere(Degree.CONTAINED, 7, "", "")
UNCONTAINED = ContainmentHere(Degree.UNCONTAINED, 0, "", "", Obstacle.KERNEL)


@pytest.mark.parametrize("here", [CONTAINED, UNCONTAINED])
async def test_a_guest_has_a_builder_of_its_own_that_shares_the_slots(
    tmp_path: Path, here: ContainmentHere
) -> None:
    layout = CacheLayout(tmp_path / "cache")
    private = (tmp_path / "config",)
    with patch.object(services_module, "containment_here", lambda: here):
        services = BuildServices(layout, private)
    own = layout.guest(PIN)
    guest = await services.make_guest(own)

    assert guest.layout == own
    assert isinstance(guest.builder, LocalBuilder)
    assert guest.builder is not services.builder
    assert guest.builder.slots is services.builder.slots
    contained = GuestContainment(own, private) if here is CONTAINED else None
    assert guest.builder._containment == contained
    await services.aclose()


async def test_trees_and_bundles_share_a_budget_and_orphans_are_pruned_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = CacheLayout(tmp_path / "cache")
    services = BuildServices(layout, ())
    await services.start()
    lamp = (layout.tree("lamp.yaml"), layout.bundle("lamp.yaml"), layout.firmware("lamp.yaml"))
    for folder in lamp:
        (folder / "storage").mkdir(parents=True)
        (folder / "storage" / "lamp.yaml.json").write_text("{}")
        os.utime(folder, (0, 0))
    await services.make_room({"lamp.yaml"})
    assert all(folder.exists() for folder in lamp)
    assert services.builder.status().warm == {"lamp.yaml"}

    monkeypatch.setattr(services_module, "TREES_BUDGET", 0)
    await services.make_room(())
    assert [folder.exists() for folder in lamp] == [False, False, True]
    assert services.builder.status().warm == frozenset()

    (mark,) = layout.orphans.iterdir()
    os.utime(mark, (0, 0))
    await services.make_room(None)
    assert lamp[2].exists(), "it is not known which configurations there are"
    await services.make_room(())
    assert not lamp[2].exists()
    await services.aclose()


async def test_what_was_fetched_to_know_devices_and_hashes_counts_and_goes_by_its_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = CacheLayout(tmp_path / "cache")
    services = BuildServices(layout, ())
    await services.start()
    clones = [
        layout.packages / "packages" / "00000000",
        layout.packages / "packages" / "11111111",
        layout.config_hash / "external_components" / "22222222",
    ]
    for folder, used in zip(clones, (2, 3, 1), strict=True):
        folder.mkdir(parents=True)
        (folder / "pack").write_bytes(bytes(1_000_000))
        os.utime(folder, (used, used))
    just_now = layout.packages / "packages" / "33333333"
    just_now.mkdir()
    monkeypatch.setattr(services_module, "TREES_BUDGET", 1_500_000)
    await services.make_room(None)
    assert [folder.exists() for folder in clones] == [False, True, False]
    monkeypatch.setattr(services_module, "TREES_BUDGET", 0)
    await services.make_room(None)
    assert not clones[1].exists()
    assert just_now.exists(), "it may be in use"

    await services.builder.clean("lamp.yaml")
    assert just_now.exists()
    await services.builder.clean("lamp.yaml", tools=True)
    assert not layout.packages.exists()
    assert not layout.config_hash.exists()
    await services.aclose()
