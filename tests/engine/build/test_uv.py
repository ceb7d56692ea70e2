"""What uv is not asked, but looked up."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.toolchain.uv import runs_here


def packages(folder: Path, requires: str) -> Path:
    info = folder / "esphome-2026.10.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: esphome\n{requires}\n\ntext\n")
    return folder


@pytest.mark.parametrize(
    ("requires", "runs"),
    [
        ("Requires-Python: >=3.12", True),
        ("Requires-Python: >=3.12,<3.13", False),
        ("Summary: it says nothing", True),
    ],
)
def test_both_bounds_of_the_python_version_are_looked_at(
    tmp_path: Path, requires: str, *, runs: bool
) -> None:
    assert runs_here(packages(tmp_path, requires)) is runs


def test_where_there_is_no_esphome_nothing_runs(tmp_path: Path) -> None:
    assert not runs_here(tmp_path)
