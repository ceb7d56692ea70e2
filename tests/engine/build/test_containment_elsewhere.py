"""Containment on other machines: older Landlock, none, other processors, other folders."""

import ctypes
from dataclasses import replace
import errno
import os
from pathlib import Path
import struct
import sys

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.launcher import landlock, seccomp
from custom_components.esphome_offload.engine.build.process import (
    machine_containment,
    processes as process,
)
from custom_components.esphome_offload.engine.build.process.containment import (
    Contained,
    ContainmentError,
    GuestContainment,
    Rules,
)
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
    Obstacle,
    containment_here,
)
from custom_components.esphome_offload.engine.build.process.processes import LaunchError
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .containment_harness import ContainmentHarness
from .marks import HERE, needs_containment

NEWEST = 7
by_version = pytest.mark.parametrize(
    "version",
    [
        pytest.param(
            version, marks=pytest.mark.skipif(HERE.abi < version, reason="this kernel is older")
        )
        for version in range(1, NEWEST + 1)
    ],
)


def launcher_that(monkeypatch: pytest.MonkeyPatch, prelude: str) -> None:
    """Have every launcher run some lines before it starts."""
    imports = "import ctypes, sys; sys.path.append(sys.argv[1])"
    imports += "; from launcher import landlock, seccomp"
    start = "from launcher.program import main; main()"
    monkeypatch.setattr(process, "_LAUNCHER", f"{imports}\n{prelude}\n{start}")


class Kernel:
    """Stands in for libc: answers every system call of Landlock with an error, or a version."""

    def __init__(self, error: int, version: int = -1) -> None:
        self.error = error
        self.version = version

    def syscall(self, *_arguments: object) -> int:
        ctypes.set_errno(self.error)
        return self.version


@needs_containment
@by_version
async def test_every_version_of_landlock_protects_files_and_newer_ones_more(
    harness: ContainmentHarness, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    launcher_that(monkeypatch, f"landlock.abi = lambda: {version}")
    said = await harness.tries(
        "open(at['storage']).read()",
        "os.truncate(at['storage'], 0)",
        "open(at['ours'], 'w').write('x')",
        "os.rename(at['ours'], at['home'] + '/moved')",
        "os.kill(at['victim'], signal.SIGKILL)",
    )
    assert harness.files["storage"].read_text() == "content"
    assert said.split() == [
        "EACCES",
        "EACCES",
        "done",
        "done" if version >= 2 else "EXDEV",
        "EPERM" if version >= landlock.SIGNALS_ABI or HERE.guest_users else "done",
    ]


@pytest.mark.parametrize(
    "prelude",
    [
        (
            "class Kernel:\n"
            "    def syscall(self, *arguments):\n"
            f"        ctypes.set_errno({error})\n"
            "        return -1\n"
            "landlock._libc = Kernel()"
        )
        for error in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
    ]
    + ["seccomp._AUDIT_ARCH.clear()"],
    ids=["no Landlock", "switched off", "forbidden", "unknown machine"],
)
async def test_what_cannot_be_contained_does_not_run(
    harness: ContainmentHarness, monkeypatch: pytest.MonkeyPatch, prelude: str
) -> None:
    launcher_that(monkeypatch, prelude)
    with pytest.raises(LaunchError, match="contain"):
        await harness.tries("open(at['ours'], 'w')")
    assert harness.files["ours"].read_text() == "content"


@needs_containment
@pytest.mark.parametrize("call", ["landlock.restrict", "landlock._allow", "seccomp.restrict"])
async def test_a_command_that_is_half_contained_does_not_run(
    harness: ContainmentHarness, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    launcher_that(monkeypatch, f"def refuse(*_, **__): raise OSError(22, 'no')\n{call} = refuse")
    with pytest.raises(LaunchError, match="no"):
        await harness.tries("open(at['ours'], 'w')")
    assert harness.files["ours"].read_text() == "content"


@needs_containment
async def test_a_folder_to_write_that_is_missing_is_named(harness: ContainmentHarness) -> None:
    rules = harness.rules()
    harness.layout.tools.rmdir()
    with pytest.raises(LaunchError, match=str(harness.layout.tools)):
        await harness.run(rules, "-c", "")


async def test_rules_that_are_not_known_start_nothing(
    harness: ContainmentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**harness.rules().spec(), "network": []}
    monkeypatch.setattr(Rules, "spec", lambda _self: spec)
    with pytest.raises(LaunchError, match="network"):
        await harness.tries("open(at['ours'], 'w')")
    assert harness.files["ours"].read_text() == "content"


@pytest.mark.parametrize(
    ("kernel", "users", "degree", "obstacle"),
    [
        (Kernel(errno.ENOSYS), False, Degree.UNCONTAINED, Obstacle.KERNEL),
        (Kernel(errno.ENOSYS), True, Degree.BY_USERS, Obstacle.KERNEL),
        (Kernel(errno.EOPNOTSUPP), False, Degree.UNCONTAINED, Obstacle.SWITCHED_OFF),
        (Kernel(errno.EPERM), False, Degree.UNCONTAINED, Obstacle.FORBIDDEN),
        (Kernel(0, 1), False, Degree.SIGNALS_OPEN, None),
        (Kernel(0, 5), False, Degree.SIGNALS_OPEN, None),
        (Kernel(0, 5), True, Degree.CONTAINED, None),
        (Kernel(0, 6), False, Degree.CONTAINED, None),
        (Kernel(0, 99), True, Degree.CONTAINED, None),
    ],
)
def test_the_degree_depends_on_landlock_and_on_users_for_guests(
    monkeypatch: pytest.MonkeyPatch,
    kernel: Kernel,
    users: bool,
    degree: Degree,
    obstacle: Obstacle | None,
) -> None:
    monkeypatch.setattr(landlock, "_libc", kernel)
    found = range(2) if users else Reason(ReasonKey.GUEST_USERS_NOT_ROOT)
    monkeypatch.setattr(machine_containment, "look_for_guest_users", lambda: found)
    here = containment_here()
    assert (here.degree, here.obstacle, here.guest_users) == (degree, obstacle, users)
    assert here.abi == max(kernel.version, 0)
    assert here.why_no_users == (None if users else found)


def test_what_is_missing_for_containment_is_said_in_one_sentence() -> None:
    why = Reason(ReasonKey.GUEST_USERS_WEAK_ROOT, {"capabilities": "SETUID, SETGID"})
    here = ContainmentHere(Degree.UNCONTAINED, 0, "5.4", "x86_64", Obstacle.KERNEL, False, why)
    said = str(here.reason)
    assert said.startswith("Nothing contains builds of guests on this machine")
    assert "Landlock: the kernel 5.4 has none" in said
    assert "capabilities SETUID, SETGID" in said
    assert "riscv32" in str(
        ContainmentHere(Degree.UNCONTAINED, 0, "5.4", "riscv32", Obstacle.MACHINE).reason
    )


@pytest.mark.parametrize("obstacle", [*Obstacle, None])
@pytest.mark.parametrize("degree", Degree)
def test_each_sentence_has_all_that_it_mentions(degree: Degree, obstacle: Obstacle | None) -> None:
    said = str(ContainmentHere(degree, 1, "5.4", "x86_64", obstacle).reason)
    assert "?" not in said
    assert "guests" in said


class TestUsersAlone:
    """Without Landlock, what is private has to be closed to others, and the way open."""

    @pytest.fixture(autouse=True)
    def no_landlock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(landlock, "_libc", Kernel(errno.ENOSYS))
        monkeypatch.setattr(machine_containment, "look_for_guest_users", lambda: range(2))

    @pytest.fixture
    def data(self, passable: Path) -> Path:
        """Return a data folder as the standalone builder has it."""
        data = passable / "data"
        data.mkdir(mode=0o711)
        (data / "identity").touch(mode=0o600)
        (data / "cache").mkdir(mode=0o711)
        (data / "cache" / "toolchains").mkdir()
        (data / "link").symlink_to("identity")
        return data

    def here(self, data: Path) -> ContainmentHere:
        return containment_here(data / "cache", (data,))

    def test_they_contain_where_nothing_private_is_open(self, data: Path) -> None:
        assert self.here(data).degree is Degree.BY_USERS

    @pytest.mark.parametrize("mode", [0o604, 0o602, 0o601])
    def test_not_where_a_private_file_is_open_to_others(self, data: Path, mode: int) -> None:
        (data / "identity").chmod(mode)
        here = self.here(data)
        assert here.degree is Degree.UNCONTAINED
        assert str(data / "identity") in str(here.reason)

    def test_not_where_its_folder_is(self, data: Path) -> None:
        data.chmod(0o755)
        assert self.here(data).degree is Degree.UNCONTAINED

    def test_nor_one_on_the_way_to_the_cache(self, data: Path) -> None:
        (data / "cache").chmod(0o700)
        way = data / "way"
        way.mkdir(mode=0o711)
        (way / "cache").mkdir()
        assert containment_here(way / "cache", (data,)).degree is Degree.BY_USERS
        way.chmod(0o755)
        assert containment_here(way / "cache", (data,)).degree is Degree.UNCONTAINED

    def test_not_where_the_way_is_closed(self, data: Path) -> None:
        data.chmod(0o700)
        here = self.here(data)
        assert here.degree is Degree.UNCONTAINED
        assert str(here.reason).count(str(data)) == 1
        # Where users may be let pass by a capability, which Landlock bounds.
        assert containment_here(None, (data,)).degree is Degree.BY_USERS

    def test_what_is_private_elsewhere_may_be_closed_as_a_whole(
        self, data: Path, passable: Path
    ) -> None:
        private = passable / "private"
        private.mkdir(mode=0o700)
        (private / "file").touch()
        assert containment_here(data / "cache", (data, private)).degree is Degree.BY_USERS

    def test_with_landlock_but_no_right_to_pass_landlock_contains_alone(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(landlock, "_libc", Kernel(0, 7))
        monkeypatch.setattr(machine_containment, "can_let_pass", lambda: False)
        (data / "identity").chmod(0o644)
        assert self.here(data).guest_users
        data.chmod(0o700)
        here = self.here(data)
        assert (here.degree, here.guest_users) == (Degree.CONTAINED, False)


def test_an_unknown_machine_and_system_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "supported", lambda: False)
    assert containment_here().obstacle is Obstacle.MACHINE
    monkeypatch.setattr(sys, "platform", "darwin")
    assert containment_here().obstacle is Obstacle.KERNEL


def contained(folder: Path) -> Contained:
    for path in (folder / "toolchain", folder / "sources"):
        path.mkdir(exist_ok=True)
    return Contained(
        python=Path(sys.executable),
        toolchain=folder / "toolchain",
        config_dir=folder / "sources",
        data_dir=folder / "trees" / "lamp",
        env={},
    )


@pytest.mark.parametrize("private", [".", "toolchain", "toolchain/share", "home"])
def test_rules_that_would_show_a_private_folder_are_refused(tmp_path: Path, private: str) -> None:
    rules = GuestContainment(CacheLayout(tmp_path), (tmp_path / "toolchain" / "private",))
    if private == ".":
        call = replace(contained(tmp_path), config_dir=tmp_path)
    else:
        rules = replace(rules, private=(tmp_path / private,))
        call = contained(tmp_path)
    with pytest.raises(ContainmentError, match=str(tmp_path)):
        rules(call)


def test_a_private_folder_behind_a_link_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "toolchain")
    rules = GuestContainment(CacheLayout(tmp_path), (tmp_path / "link" / "config",))
    with pytest.raises(ContainmentError):
        rules(contained(tmp_path))


def test_nothing_that_builds_could_replace_by_a_link_is_granted(
    tmp_path: Path,
) -> None:
    inside = tmp_path / "trees" / "lamp" / "sources"
    call = replace(contained(tmp_path), config_dir=inside)
    rules = GuestContainment(CacheLayout(tmp_path), (), by_users=False)(call)
    assert inside not in rules.read


def test_the_certificates_of_this_network_are_granted(tmp_path: Path) -> None:
    call = replace(
        contained(tmp_path),
        env={"SSL_CERT_FILE": "/opt/ca.pem", "SSL_CERT_DIR": "/opt/a:/opt/b", "CURL_CA_BUNDLE": ""},
    )
    read = GuestContainment(CacheLayout(tmp_path), ())(call).read
    assert {Path("/opt/ca.pem"), Path("/opt/a"), Path("/opt/b")} <= set(read)
    assert all(path.is_absolute() for path in read)


ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
ALLOWED = 0


def verdict(code: bytes, number: int, architecture: int, *arguments: int) -> int:
    """Run a filter as the kernel does; return 0 or the error that a system call ends with."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0, *padded)
    program = list(struct.iter_unpack("=HBBI", code))
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x15:
            at += if_true if accumulator == operand else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= operand else if_false
        elif operation == 0x45:
            at += if_true if accumulator & operand else if_false
        else:
            assert operation == 0x06
            return ALLOWED if operand == 0x7FFF0000 else operand & 0xFFFF


PID = 4711
CALLS = {
    # number on x86_64, on the others, arguments, expected
    "own limits": (302, 261, (0, 0), ALLOWED),
    "limits of another": (302, 261, (PID, 0), errno.EPERM),
    "own priority": (141, 140, (0, 0, 5), ALLOWED),
    "priority of another": (141, 140, (0, PID, 5), errno.EPERM),
    "priority of all of this user": (141, 140, (2, 0, 5), errno.EPERM),
    "own disk priority": (251, 30, (1, 0, 0), ALLOWED),
    "disk priority of another": (251, 30, (1, PID, 0), errno.EPERM),
    "disk priority of all of this user": (251, 30, (3, 0, 0), errno.EPERM),
    "parameters of another": (142, 118, (PID,), errno.EPERM),
    "attributes of another": (314, 274, (PID,), errno.EPERM),
    "internet socket": (41, 198, (2, 1, 0), ALLOWED),
    "socket with a path": (41, 198, (1, 1, 0), errno.EACCES),
    "socket with a path, upper half set": (41, 198, (1 << 32 | 1, 1, 0), errno.EACCES),
    "pair of streams that closes on exec": (53, 199, (1, 0o2000001, 0), ALLOWED),
    "pair of datagrams": (53, 199, (1, 0o2000002, 0), errno.EACCES),
    "virtual machine socket": (41, 198, (40, 1, 0), errno.EAFNOSUPPORT),
    "routes of the kernel": (41, 198, (16, 3, 0), ALLOWED),
    "events of the kernel": (41, 198, (16, 3, 15), errno.EAFNOSUPPORT),
    "ring": (425, 425, (1, 0), errno.ENOSYS),
    "clone whose flags are in memory": (435, 435, (), errno.ENOSYS),
    "open whose mode is in memory": (437, 437, (), errno.ENOSYS),
    "thread": (56, 220, (0x3D0F00,), ALLOWED),
    "child": (56, 220, (0x01200011,), ALLOWED),
    "child in a user namespace": (56, 220, (0x10000011,), errno.EPERM),
    "child in a network namespace": (56, 220, (0x40000011,), errno.EPERM),
    "unshare": (272, 97, (0x10000000,), errno.EPERM),
    "enter a namespace": (308, 268, (3, 0), errno.EPERM),
    "mode": (91, 52, (3, 0o755), ALLOWED),
    "set-user-id": (91, 52, (3, 0o4755), errno.EPERM),
    "set-group-id by path": (268, 53, (-100 % 2**64, 0, 0o2755), errno.EPERM),
    "set-user-id by the newest call": (452, 452, (3, 0, 0o4755), errno.EPERM),
    "set-user-id when made": (257, 56, (3, 0, 0o101, 0o4755), errno.EPERM),
    "set-user-id when made without a name": (257, 56, (3, 0, 0o20200001, 0o4755), errno.EPERM),
    "anything for a mode that is not looked at": (257, 56, (3, 0, 0, 0o6777), ALLOWED),
    "set-user-id of a node": (259, 33, (3, 0, 0o104755), errno.EPERM),
    "keyring": (250, 219, (), errno.EPERM),
    "add to a keyring": (248, 217, (), errno.EPERM),
    "shared memory": (29, 194, (), errno.EPERM),
    "shared memory of others": (31, 195, (), errno.EPERM),
    "semaphores": (64, 190, (), errno.EPERM),
    "messages": (68, 186, (), errno.EPERM),
    "message queue": (240, 180, (), errno.EPERM),
    "trace": (101, 117, (), errno.EPERM),
    "memory of another": (310, 270, (), errno.EPERM),
    "files of another": (438, 438, (), errno.EPERM),
    "program in the kernel": (321, 280, (), errno.EPERM),
    "mount": (165, 40, (), errno.EPERM),
    "truncate": (76, 45, (0, 0), ALLOWED),
    "open": (257, 56, (0, 0), ALLOWED),
}


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("call", CALLS)
def test_the_filter_on_each_machine(machine: str, call: str) -> None:
    on_x86, elsewhere, arguments, expected = CALLS[call]
    number = on_x86 if machine == "x86_64" else elsewhere
    code = seccomp.program(machine, truncate=True)
    assert verdict(code, number, ARCHITECTURES[machine], *arguments) == expected


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_truncating_by_path_can_be_denied(machine: str) -> None:
    number = 76 if machine == "x86_64" else 45
    code = seccomp.program(machine, truncate=False)
    assert verdict(code, number, ARCHITECTURES[machine]) == errno.EACCES


def test_system_calls_of_another_set_are_denied() -> None:
    code = seccomp.program("x86_64", truncate=True)
    i386, x32 = 0x40000003, 0x40000000
    assert verdict(code, 41, i386, 2) == errno.ENOSYS
    assert verdict(code, 41 | x32, ARCHITECTURES["x86_64"], 2) == errno.ENOSYS


@pytest.mark.skipif(os.uname().machine not in ARCHITECTURES, reason="not one of these")
def test_this_machine_is_known() -> None:
    assert seccomp.supported()
