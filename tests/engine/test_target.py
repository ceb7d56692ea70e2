"""Targets: a configuration, or one device of it."""

import pytest

from custom_components.esphome_offload.engine.target import (
    configuration_of,
    is_mac,
    mac_of,
    mac_suffix,
    moved,
    target_id,
)

MAC = "aa:bb:cc:00:11:22"


@pytest.mark.parametrize(
    "file", ["lamp.yaml", "l@mp.yml", f"{MAC}.yaml", f"x@{MAC}.yaml", "a\nb.yaml"]
)
@pytest.mark.parametrize("mac", [None, MAC])
def test_a_target_tells_its_parts(file: str, mac: str | None) -> None:
    target = target_id(file, mac)
    assert (configuration_of(target), mac_of(target)) == (file, mac)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("lamp.yaml", "desk.yaml", ["desk.yaml", f"desk.yaml@{MAC}", "plug.yaml"]),
        ("lamp.yaml", f"lamp.yaml@{MAC}", [f"lamp.yaml@{MAC}", f"lamp.yaml@{MAC}", "plug.yaml"]),
        ("other.yaml", "desk.yaml", ["lamp.yaml", f"lamp.yaml@{MAC}", "plug.yaml"]),
    ],
)
def test_what_becomes_of_targets(old: str, new: str, expected: list[str]) -> None:
    targets = ["lamp.yaml", f"lamp.yaml@{MAC}", "plug.yaml"]
    assert [moved(target, old, new) for target in targets] == expected


@pytest.mark.parametrize("text", [None, "", "aabbcc001122", "AA:BB:CC:00:11:22", f"{MAC}:33"])
def test_what_is_no_mac_address(text: str | None) -> None:
    assert not is_mac(text)
    assert is_mac(MAC)


def test_the_suffix() -> None:
    assert mac_suffix(MAC) == "-001122"
