"""Free memory and disk, read from files like the kernel's."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.engine import libc
from custom_components.esphome_offload.engine.build import resources
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.resources import (
    DISK_MIB,
    MEMORY_MIB,
    Machine,
    Resources,
    check,
    why_not_here,
)
from custom_components.esphome_offload.engine.const import FailureReason

MIB = 1024 * 1024


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with 2048 MiB available and no control groups."""
    machine = Machine(tmp_path / "not" / "yet", tmp_path / "proc", tmp_path / "cgroup")
    (machine.proc / "self").mkdir(parents=True)
    (machine.proc / "meminfo").write_text(
        f"MemTotal:       {4096 * 1024} kB\nMemFree:  1 kB\nMemAvailable:   {2048 * 1024} kB\n"
    )
    return machine


def limit(machine: Machine, group: str, maximum: str, current: int, inactive: int = 0) -> None:
    folder = machine.cgroup / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{maximum}\n")
    (folder / "memory.current").write_text(f"{current * MIB}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive * MIB}\nfile 3\n")
    (machine.proc / "self" / "cgroup").write_text("0::/system.slice/ha.service\n")


def test_memory_is_what_the_kernel_calls_available(machine: Machine) -> None:
    assert machine.read().memory_mib == 2048


def test_a_control_group_leaves_less(machine: Machine) -> None:
    limit(machine, "system.slice/ha.service", str(1000 * MIB), 700)
    assert machine.read().memory_mib == 300


def test_cached_files_in_a_control_group_are_free(machine: Machine) -> None:
    limit(machine, "system.slice/ha.service", str(1000 * MIB), 700, inactive=200)
    assert machine.read().memory_mib == 500


@pytest.mark.parametrize("group", ["system.slice", "."])
def test_an_outer_control_group_counts_as_well(machine: Machine, group: str) -> None:
    limit(machine, "system.slice/ha.service", "max", 700)
    limit(machine, group, str(900 * MIB), 700)
    assert machine.read().memory_mib == 200


def test_a_control_group_without_a_limit_leaves_all(machine: Machine) -> None:
    limit(machine, "system.slice/ha.service", "max", 700)
    assert machine.read().memory_mib == 2048


def test_a_control_group_above_its_limit_leaves_nothing(machine: Machine) -> None:
    limit(machine, "system.slice/ha.service", str(100 * MIB), 101)
    assert machine.read().memory_mib == 0


def test_the_older_control_groups_are_not_misread(machine: Machine) -> None:
    (machine.proc / "self" / "cgroup").write_text("5:memory:/docker/abc\n1:name=systemd:/x\n")
    assert machine.read().memory_mib == 2048


@pytest.mark.parametrize("meminfo", ["", "MemAvailable:", "MemAvailable: much kB", None])
def test_memory_that_cannot_be_read_is_unknown(machine: Machine, meminfo: str | None) -> None:
    if meminfo is None:
        (machine.proc / "meminfo").unlink()
    else:
        (machine.proc / "meminfo").write_text(meminfo)
    assert machine.read().memory_mib is None


def test_disk_is_that_of_the_nearest_folder_that_is_there(machine: Machine, tmp_path: Path) -> None:
    on_disk = Machine(tmp_path).read().disk_mib
    asked = machine.read().disk_mib
    assert on_disk is not None
    assert asked is not None
    assert abs(on_disk - asked) < 1024


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    here = Machine(tmp_path).read()
    assert here.memory_mib is not None
    assert here.disk_mib is not None


@pytest.mark.parametrize(
    ("free", "figures"),
    [
        (Resources(MEMORY_MIB - 1, DISK_MIB), ("memory", f"{MEMORY_MIB - 1} MiB")),
        (Resources(MEMORY_MIB, DISK_MIB - 1), ("disk", f"{DISK_MIB - 1} MiB")),
        (Resources(None, 0), ("disk", "0 MiB")),
    ],
)
def test_too_little_is_refused_with_the_figures(free: Resources, figures: tuple[str, str]) -> None:
    with pytest.raises(BuildError) as caught:
        check(free)
    assert caught.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    for figure in figures:
        assert figure in str(caught.value)


@pytest.mark.parametrize("free", [Resources(MEMORY_MIB, DISK_MIB), Resources(None, None)])
def test_enough_or_unknown_is_no_obstacle(free: Resources) -> None:
    check(free)


def test_a_system_with_musl_says_why_it_cannot_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        libc.sysconfig, "get_config_var", lambda _name: "cpython-314-x86_64-linux-musl"
    )
    assert "musl" in str(why_not_here())


def test_another_system_than_linux_says_why_it_cannot_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources.sys, "platform", "darwin")
    assert "Linux" in str(why_not_here())


def test_this_machine_can_build() -> None:
    assert why_not_here() is None
