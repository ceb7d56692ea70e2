"""Names under the cache folder."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import (
    CacheLayout,
    configuration_key,
)


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


def test_nobody_else_may_look_into_the_cache(tmp_path: Path) -> None:
    layout = CacheLayout(tmp_path / "cache")
    layout.make()
    assert layout.root.stat().st_mode & 0o077 == 0


def test_a_discarded_folder_is_gone_and_leaves_nothing(layout: CacheLayout) -> None:
    tree = layout.tree("lamp.yaml")
    (tree / "build").mkdir(parents=True)
    layout.discard(tree)
    assert not tree.exists()
    assert list(layout.trash.iterdir()) == []


def test_discarding_what_is_not_there_is_no_error(layout: CacheLayout) -> None:
    layout.discard(layout.tree("lamp.yaml"))


def test_leftovers_of_earlier_processes_go(layout: CacheLayout) -> None:
    (layout.tmp / "half-deleted" / "tree").mkdir(parents=True)
    layout.empty_tmp()
    assert list(layout.tmp.iterdir()) == []
