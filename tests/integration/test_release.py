"""What a release ships."""

import json
from pathlib import Path
from unittest.mock import patch
from zipfile import ZipFile

import pytest

from script import release_zip

from .sources import REPOSITORY


def test_a_release_has_the_built_page_and_nothing_that_was_left_behind(tmp_path: Path) -> None:
    release_zip.pack(tmp_path / "first.zip")
    release_zip.pack(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with ZipFile(tmp_path / "first.zip") as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {"manifest.json", "page/built/page.js", "translations/en.json"} <= names
    assert not [name for name in names if "__pycache__" in name or ".stamp" in name]
    assert (tmp_path / "installed" / "page" / "built" / "page.js").stat().st_size > 10_000
    hacs = json.loads((REPOSITORY / "hacs.json").read_text())
    assert hacs["zip_release"] is True
    assert hacs["filename"] == "esphome_offload.zip"


def test_a_release_without_the_page_is_refused(tmp_path: Path) -> None:
    with (
        patch.object(release_zip, "BUILT", tmp_path / "missing.js"),
        pytest.raises(FileNotFoundError, match="not built"),
    ):
        release_zip.pack(tmp_path / "release.zip")
