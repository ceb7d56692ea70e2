"""Names under the cache folder."""

from pathlib import Path
import threading

import pytest

from custom_components.esphome_offload.engine.build.cache import layout as layout_module
from custom_components.esphome_offload.engine.build.cache.layout import (
    CacheLayout,
    configuration_key,
)

from .marks import needs_guest_users


@pytest.mark.parametrize(
    "configuration",
    [
        "../../etc/passwd",
        "..",
        ".",
        "",
        "a/b.yaml",
        "küche.yaml",
        "x" * 300 + ".yaml",
        "a b\n.yaml",
    ],
)
def test_a_key_is_one_harmless_folder_name(configuration: str) -> None:
    key = configuration_key(configuration)
    assert Path(key).name == key
    assert key.isascii()
    assert 10 <= len(key) < 60
    assert not key.startswith(".")


def test_configurations_that_look_alike_have_different_keys() -> None:
    names = ["lamp.yaml", "lamp.yml", "Lamp.yaml", "la mp.yaml", "la-mp.yaml"]
    assert len({configuration_key(name) for name in names}) == len(names)


def test_a_key_says_which_configuration_it_is_for() -> None:
    assert configuration_key("kitchen-lamp.yaml").startswith("kitchen-lamp-")


def test_the_cache_is_closed_to_other_users(tmp_path: Path) -> None:
    layout = CacheLayout(tmp_path / "cache")
    layout.make()
    assert layout.root.stat().st_mode & 0o077 == 0


def test_a_cache_that_was_open_is_closed_where_guests_have_no_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout_module, "guest_users", lambda: None)
    layout = CacheLayout(tmp_path / "cache")
    layout.root.mkdir(mode=0o755)
    layout.make()
    assert layout.root.stat().st_mode & 0o777 == 0o700


def test_a_discarded_folder_leaves_nothing(layout: CacheLayout) -> None:
    tree = layout.tree("lamp.yaml")
    (tree / "build").mkdir(parents=True)
    layout.discard(tree)
    assert not tree.exists()
    assert list(layout.trash.iterdir()) == []


def test_discarding_what_is_not_there_is_no_error(layout: CacheLayout) -> None:
    layout.discard(layout.tree("lamp.yaml"))


def test_what_earlier_processes_left_is_moved_away_at_once_and_deleted_later(
    layout: CacheLayout,
) -> None:
    """Deleting 100,000 files took 3 s, and the start waited for it."""
    guest = layout.guest("a" * 64)
    for each in (layout, guest):
        each.make()
        (each.tmp / "half-deleted" / "tree").mkdir(parents=True)
        (each.staging / "half-made").mkdir(parents=True)
        each.empty_tmp()
        assert list(each.tmp.iterdir()) == []
        assert not each.staging.exists()
        assert len(list(each.trash.iterdir())) == 2
    stop = threading.Event()
    stop.set()
    layout.empty_trash(stop)
    assert len(list(layout.trash.rglob("*"))) == 5
    layout.empty_trash(threading.Event())
    assert list(layout.trash.iterdir()) == list(guest.trash.iterdir()) == []


def test_an_empty_trash_is_no_error(layout: CacheLayout) -> None:
    layout.empty_trash(threading.Event())


@needs_guest_users
def test_guests_can_pass_to_what_is_shared_and_nothing_else(layout: CacheLayout) -> None:
    layout.share()
    modes = {path.name: path.stat().st_mode & 0o777 for path in layout.root.iterdir()}
    assert layout.root.stat().st_mode & 0o777 == 0o711
    assert modes.pop("toolchains") == modes.pop("guests") == 0o711
    assert modes.pop("running.lock") == 0o600
    assert set(modes.values()) == {0o700}


def test_nothing_is_shared_where_guests_have_no_users(
    layout: CacheLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout_module, "guest_users", lambda: None)
    layout.share()
    assert layout.root.stat().st_mode & 0o777 == 0o700
