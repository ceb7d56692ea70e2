"""What a guest's builds left where everybody may write is removed, and nothing else."""

import os
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.cache.shared_folders import (
    SHARED_FOLDERS,
    sweep,
)

from .marks import needs_root

USER = 0x7000FFF0
OTHER = USER + 2

pytestmark = needs_root


def owned(path: Path, user: int) -> Path:
    os.chown(path, user, user, follow_symlinks=False)
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return a folder like /tmp."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    return shared


def swept(shared: Path) -> set[str]:
    sweep(USER, (shared, shared / "missing"))
    return {str(path.relative_to(shared)) for path in shared.rglob("*")}


def test_files_folders_links_and_pipes_of_a_user_go(shared: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (shared / "file").touch()
    (shared / "link").symlink_to(kept)
    os.mkfifo(shared / "pipe")
    deep = shared / "folder" / "inner"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    (deep / "link").symlink_to(kept)
    for path in list(shared.rglob("*")):
        owned(path, USER)
    assert swept(shared) == set()
    assert (kept / "file").exists()


def test_what_belongs_to_others_stays(shared: Path) -> None:
    (shared / "root").touch()
    owned(shared / "root", 0)
    (shared / "theirs").mkdir()
    (shared / "theirs" / "file").touch()
    for path in (shared / "theirs" / "file", shared / "theirs"):
        owned(path, OTHER)
    assert swept(shared) == {"root", "theirs", "theirs/file"}


def test_folders_of_others_are_searched_where_everybody_may_write(shared: Path) -> None:
    for name, mode in (("open", 0o1777), ("closed", 0o755)):
        folder = shared / name
        folder.mkdir()
        (folder / "left").touch()
        owned(folder / "left", USER)
        (folder / "theirs").touch()
        owned(folder / "theirs", OTHER)
        folder.chmod(mode)
    # In a closed one a user can leave nothing: what is there was put there by who owns it.
    assert swept(shared) == {"open", "open/theirs", "closed", "closed/left", "closed/theirs"}


def test_a_link_in_the_place_of_a_shared_folder_is_not_followed(
    shared: Path, tmp_path: Path
) -> None:
    (shared / "file").touch()
    owned(shared / "file", USER)
    link = tmp_path / "link"
    link.symlink_to(shared)
    sweep(USER, (link,))
    assert (shared / "file").exists()


def test_the_folders_that_everybody_may_write_to_here_are_known() -> None:
    """A system may have more; the documentation names these."""
    named = Path(__file__).parents[3].joinpath("docs", "security.md").read_text()
    assert all(f"`{folder}`" in named for folder in SHARED_FOLDERS)
