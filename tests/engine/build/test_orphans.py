"""What is kept of configurations that are gone: for a week, and not at all afterwards."""

from pathlib import Path
import threading
import time

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.orphans import KEPT_FOR, prune_orphans

LAMP = "lamp.yaml"


@pytest.fixture
def layout(tmp_path: Path) -> CacheLayout:
    layout = CacheLayout(tmp_path / "cache")
    layout.make()
    return layout


def folders(layout: CacheLayout, name: str) -> list[Path]:
    return [layout.tree(name), layout.bundle(name), layout.firmware(name), layout.flash(name)]


def keep(layout: CacheLayout, name: str) -> None:
    for folder in folders(layout, name):
        folder.mkdir(parents=True)
        (folder / "file").touch()


def kept(layout: CacheLayout, name: str) -> bool:
    there = {folder.exists() for folder in folders(layout, name)}
    assert len(there) == 1, "all of a configuration, or nothing"
    return there.pop()


def look(layout: CacheLayout, days: float, *known: str) -> None:
    now = time.time() + days * 24 * 3600.0
    prune_orphans(layout, known, now, threading.Event())


def test_all_of_a_configuration_that_is_gone_for_a_week_goes(layout: CacheLayout) -> None:
    keep(layout, LAMP)
    keep(layout, "fan.yaml")
    look(layout, 0, "fan.yaml")
    look(layout, 6.9, "fan.yaml")
    assert kept(layout, LAMP)
    look(layout, 7.1, "fan.yaml")
    assert not kept(layout, LAMP)
    assert kept(layout, "fan.yaml")
    assert list(layout.orphans.iterdir()) == []


def test_firmware_that_a_device_waits_for_stays(layout: CacheLayout) -> None:
    keep(layout, LAMP)
    (layout.firmware(LAMP) / "digest").mkdir()
    for days, in_use, there in ((0, {"digest"}, True), (8, {"digest"}, True), (9, (), True)):
        now = time.time() + days * 24 * 3600.0
        prune_orphans(layout, ["fan.yaml"], now, threading.Event(), in_use)
        assert kept(layout, LAMP) is there
    look(layout, 17, "fan.yaml")
    assert not kept(layout, LAMP)


def test_the_week_begins_when_it_is_gone_however_long_it_was_not_built(layout: CacheLayout) -> None:
    keep(layout, LAMP)
    look(layout, 20, LAMP)
    look(layout, 21)
    look(layout, 27)
    assert kept(layout, LAMP)
    look(layout, 28.1)
    assert not kept(layout, LAMP)


def test_one_that_comes_back_and_goes_again_has_another_week(layout: CacheLayout) -> None:
    keep(layout, LAMP)
    look(layout, 0)
    look(layout, 6, LAMP)
    look(layout, 8)
    assert kept(layout, LAMP)


def test_a_clock_that_was_set_back_removes_nothing_early(layout: CacheLayout) -> None:
    keep(layout, LAMP)
    look(layout, 0)
    look(layout, -100)
    look(layout, -95)
    assert kept(layout, LAMP)
    look(layout, -92.9)
    assert not kept(layout, LAMP)


def test_it_stops_when_it_is_told_to(layout: CacheLayout) -> None:
    keep(layout, LAMP)
    look(layout, 0)
    stop = threading.Event()
    stop.set()
    prune_orphans(layout, (), time.time() + 2 * KEPT_FOR, stop)
    assert kept(layout, LAMP)
