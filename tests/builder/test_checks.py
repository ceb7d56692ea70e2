"""What is refused before anything runs, and what the settings may be."""

from pathlib import Path
import platform
from types import SimpleNamespace
from typing import cast

from esphome_offload_builder import checks
from esphome_offload_builder.checks import (
    check_containment,
    check_folder,
    check_machine,
    only_one,
)
from esphome_offload_builder.engine import libc
from esphome_offload_builder.engine.build.cache.ownership import GUEST_USERS
from esphome_offload_builder.engine.build.model import BuilderStatus
from esphome_offload_builder.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
    Obstacle,
)
from esphome_offload_builder.engine.build.services import BuildServices
from esphome_offload_builder.engine.reason import Reason, ReasonKey
from esphome_offload_builder.settings import DataFolder, RefusedError, read_pins
import pytest

PIN = "ab" * 32
OTHER = "cd" * 32


# Users of guests, where there are any, pass it on the way to their own folders.
CLOSED = {None: 0o700, GUEST_USERS[0]: 0o711}


@pytest.fixture(params=CLOSED, ids=["no users of guests", "users of guests"])
def closed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the mode of a data folder."""
    monkeypatch.setattr(checks, "guest_users", lambda: request.param)
    return CLOSED[request.param]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_folder_is_made_that_others_cannot_read(tmp_path: Path, closed: int) -> None:
    folder = DataFolder(tmp_path / "new" / "data")
    check_folder(folder)
    assert mode_of(folder.root) == closed


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o700])
def test_an_empty_folder_is_closed_to_others(tmp_path: Path, closed: int, mode: int) -> None:
    tmp_path.chmod(mode)
    check_folder(DataFolder(tmp_path))
    assert mode_of(tmp_path) == closed


@pytest.mark.parametrize("mode", [0o700, 0o711])
def test_a_folder_in_use_stays_closed_to_others(tmp_path: Path, closed: int, mode: int) -> None:
    (tmp_path / "identity").touch()
    tmp_path.chmod(mode)
    check_folder(DataFolder(tmp_path))
    assert mode_of(tmp_path) == closed


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o702, 0o740, 0o1777])
def test_a_folder_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "identity").touch()
    tmp_path.chmod(mode)
    with pytest.raises(RefusedError, match="chmod 700"):
        check_folder(DataFolder(tmp_path))
    assert mode_of(tmp_path) == mode


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(checks.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(RefusedError, match="another user"):
        check_folder(DataFolder(tmp_path))


def test_nobody_else_can_take_the_lock_of_the_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.lock.touch(0o644)
    with only_one(folder):
        assert mode_of(folder.lock) == 0o600


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="cannot be used"):
        check_folder(DataFolder(tmp_path / "file" / "data"))


def test_musl_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc.platform, "libc_ver", lambda: ("musl", "1.2"))
    with pytest.raises(RefusedError, match="musl"):
        check_machine(DataFolder(tmp_path))


def test_a_full_disk_is_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "free_disk", lambda _folder: 5 * 1024**2)
    with pytest.raises(RefusedError, match="5 MiB"):
        check_machine(DataFolder(tmp_path))


def test_a_disk_that_its_own_cache_may_fill_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "free_disk", lambda _folder: 5 * 1024**2)
    folder = DataFolder(tmp_path)
    folder.cache.mkdir()
    checks.check_machine(folder)


def test_a_disk_that_cannot_be_asked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_folder: Path) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checks, "free_disk", broken)
    with pytest.raises(RefusedError, match="Input/output error"):
        check_machine(DataFolder(tmp_path))


def services(here: ContainmentHere, status: BuilderStatus | None = None) -> BuildServices:
    status = status or BuilderStatus(available=True)
    builder = SimpleNamespace(status=lambda: status)
    return cast("BuildServices", SimpleNamespace(containment=here, builder=builder))


def nothing_contains(obstacle: Obstacle) -> ContainmentHere:
    return ContainmentHere(Degree.UNCONTAINED, 0, "5.10", "riscv64", obstacle)


@pytest.mark.parametrize("obstacle", Obstacle)
def test_without_containment_it_has_to_be_wanted(obstacle: Obstacle) -> None:
    here = nothing_contains(obstacle)
    with pytest.raises(RefusedError, match="--uncontained") as refused:
        check_containment(services(here), uncontained=False)
    assert str(here.reason) in str(refused.value)
    check_containment(services(here), uncontained=True)


def test_with_containment_nothing_has_to_be_wanted() -> None:
    here = ContainmentHere(Degree.CONTAINED, 7, "6.12", platform.machine())
    check_containment(services(here), uncontained=False)


def test_what_cannot_build_at_all_is_refused_in_any_case() -> None:
    cannot = BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC))
    with pytest.raises(RefusedError, match="glibc"):
        check_containment(services(nothing_contains(Obstacle.KERNEL), cannot), uncontained=True)


def test_pins_come_as_people_write_them() -> None:
    text = f"# kitchen\n{PIN.upper()}\n{OTHER}, {PIN} # both\n\n"
    assert read_pins(text) == (PIN, OTHER)
    assert read_pins("") == ()


@pytest.mark.parametrize("text", [PIN[1:], f"{PIN}0", "nonsense", f"{PIN} g{PIN[1:]}"])
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="not a pin"):
        read_pins(text)
