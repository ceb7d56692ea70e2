"""The real parts put together; nothing is compiled here."""

import asyncio
from functools import partial
import os
from pathlib import Path
import sys
import threading
import time
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.build import local, services as services_module
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.ownership import guest_user
from custom_components.esphome_offload.engine.build.cache.shared_folders import sweep
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.process import containment
from custom_components.esphome_offload.engine.build.process.containment import (
    GuestContainment,
)
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
    Obstacle,
)
from custom_components.esphome_offload.engine.build.services import BuildServices

from .marks import needs_guest_users

PIN = "ab" * 32
CONTAINED = ContainmentHere(Degree.CONTAINED, 7, "", "")
BY_USERS = ContainmentHere(Degree.BY_USERS, 0, "", "", Obstacle.KERNEL, guest_users=True)
UNCONTAINED = ContainmentHere(Degree.UNCONTAINED, 0, "", "", Obstacle.KERNEL)


@pytest.mark.parametrize("here", [CONTAINED, UNCONTAINED])
async def test_a_guest_has_a_builder_of_its_own_that_shares_the_slots(
    tmp_path: Path, here: ContainmentHere
) -> None:
    layout = CacheLayout(tmp_path / "cache")
    private = (tmp_path / "config",)
    with patch.object(services_module, "containment_here", lambda *_: here):
        services = BuildServices(layout, private)
    own = layout.guest(PIN)
    guest = await services.make_guest(own)

    assert guest.layout == own
    assert isinstance(guest.builder, LocalBuilder)
    assert guest.builder is not services.builder
    assert guest.builder.slots is services.builder.slots
    contained = GuestContainment(own, private, by_users=False) if here is CONTAINED else None
    assert guest.builder._containment == contained
    await services.aclose()


def built(layout: CacheLayout) -> None:
    for folder in (layout.tree("lamp.yaml"), layout.tools / "platformio"):
        folder.mkdir(parents=True)
        (folder / "file").touch()


async def test_what_is_cleaned_for_a_guest_is_deleted_in_the_background(tmp_path: Path) -> None:
    services = BuildServices(CacheLayout(tmp_path / "cache"), ())
    guest = await services.make_guest(services.layout.guest(PIN))
    built(guest.layout)
    await guest.builder.clean("lamp.yaml", tools=True)
    await services._background.wait()
    assert not list(guest.layout.trees.iterdir())
    assert not list(guest.layout.tools.iterdir())
    assert not list(guest.layout.trash.iterdir())
    await services.aclose()


async def test_a_guest_does_not_wait_until_all_is_deleted_nor_does_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = BuildServices(CacheLayout(tmp_path / "cache"), ())
    guest = await services.make_guest(services.layout.guest(PIN))
    built(guest.layout)

    def remove(_folder: Path, stop: threading.Event) -> None:
        assert stop.wait(30)

    monkeypatch.setattr(local, "remove", remove)
    await guest.builder.clean("lamp.yaml", tools=True)
    assert not list(guest.layout.trees.iterdir())
    assert not list(guest.layout.tools.iterdir())
    await services.aclose()
    assert len(list(guest.layout.trash.iterdir())) == 2, "deleted at the next start"


FORKS = """
import os, sys, time
os.setresgid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
os.setresuid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
print("begun", flush=True)
while time.monotonic() < float(sys.argv[2]):
    # Each has ended before its turn comes.
    if os.fork():
        os._exit(0)
"""


@needs_guest_users
async def test_nothing_of_a_guest_is_left_when_its_builds_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    monkeypatch.setattr(containment, "sweep", partial(sweep, shared=(shared,)))
    layout = CacheLayout(tmp_path / "cache")
    with patch.object(services_module, "containment_here", lambda *_: BY_USERS):
        services = BuildServices(layout, ())
    own = layout.guest(PIN)
    own.make()
    layout.share()
    user = guest_user(own.root, layout.trash)
    assert user is not None
    forker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", FORKS, str(user), str(time.monotonic() + 60)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert forker.stdout is not None
    assert await forker.stdout.readline() == b"begun\n"
    (shared / "left").touch()
    os.chown(shared / "left", user, user)
    (shared / "ours").touch()
    await services.make_guest(own)
    async with asyncio.timeout(30):
        assert await forker.stdout.read() == b"", "nobody holds it open any more"
    assert [path.name for path in shared.iterdir()] == ["ours"]
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


@needs_guest_users
async def test_users_of_guests_reach_nothing_that_was_made_at_the_start(tmp_path: Path) -> None:
    layout = CacheLayout(tmp_path / "cache")
    layout.make()
    (layout.staging / "left").mkdir(parents=True)
    services = BuildServices(layout, ())
    await services.start()
    await services.aclose()
    open_ = {path for path in layout.root.iterdir() if path.stat().st_mode & 0o077}
    assert open_ == {layout.guests, layout.toolchains}
    assert all(path.stat().st_mode & 0o066 == 0 for path in (layout.root, *open_))
