"""The package: its version, and that it needs what the engine needs."""

import json
from pathlib import Path
import tomllib

from esphome_offload_builder import __version__
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def project(path: str) -> dict[str, list[str]]:
    with (ROOT / path).open("rb") as file:
        content: dict[str, dict[str, list[str]]] = tomllib.load(file)
    return content["project"] | content.get("dependency-groups", {})


def test_its_version_is_the_integrations() -> None:
    manifest = ROOT / "custom_components" / "esphome_offload" / "manifest.json"
    assert json.loads(manifest.read_bytes())["version"] == __version__


def test_it_allows_what_the_engine_is_tested_with() -> None:
    ranges = {
        each.name: each
        for each in map(Requirement, project("builder/pyproject.toml")["dependencies"])
    }
    for pinned in project("pyproject.toml")["engine"]:
        name, _, version = pinned.partition("==")
        assert ranges[name].specifier.contains(version), pinned
    assert all(each.specifier for each in ranges.values())


def test_it_brings_the_engine_of_the_integration() -> None:
    engine = ROOT / "builder" / "esphome_offload_builder" / "engine"
    assert engine.resolve() == ROOT / "custom_components" / "esphome_offload" / "engine"
