"""Where Home Assistant runs as root, each guest's builds run as a user of their own."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from custom_components.esphome_offload.engine.build.cache import ownership
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.ownership import (
    GUEST_USERS,
    give,
    guest_user,
    guest_users,
    may_read,
)
from custom_components.esphome_offload.engine.build.cache.removal import remove
from custom_components.esphome_offload.engine.build.launcher import descendants
from custom_components.esphome_offload.engine.build.launcher.descendants import (
    GRACE,
    LAST_RESORT,
    Ending,
)
from custom_components.esphome_offload.engine.build.process.containment import (
    Contained,
    ContainmentError,
    GuestContainment,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes

from .containment_harness import ContainmentHarness
from .marks import needs_containment, needs_guest_users
from .processes import LONG, alive

pytestmark = [needs_containment, needs_guest_users]

IDENTITY = """
import os
status = dict(line.split() for line in open("/proc/self/status") if len(line.split()) == 2)
print(os.getresuid(), os.getresgid(), os.getgroups(), status["CapPrm:"], status["CapEff:"],
      status["CapAmb:"], status["NoNewPrivs:"])
"""

WAITING = f"""
import os, sys, time
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep({LONG})
"""


@pytest.mark.parametrize("closed", [False, True], ids=["open folders", "closed folders"])
async def test_a_build_is_a_user_of_its_guest_and_has_no_privileges(
    harness: ContainmentHarness, closed: bool
) -> None:
    # It has to read its own status.
    rules = replace(harness.rules(), search=closed, read=(Path("/proc"),))
    user = harness.layout.root.stat().st_gid
    assert user in GUEST_USERS[0]
    # A folder that all can pass, since the launcher changes to it before anything else.
    command = replace(harness.command(rules, "-c", IDENTITY), cwd=Path("/"))
    _, output = await harness.processes.capture(command, timeout=60)
    ids = f"({user}, {user}, {user})"
    # CAP_DAC_READ_SEARCH, where folders on the way are closed to all but root.
    kept = f"{1 << 2 if closed else 0:016x}"
    assert output == f"{ids} {ids} [] {kept} {kept} {kept} 1\n"


async def test_each_guest_has_a_user_that_stays(harness: ContainmentHarness) -> None:
    trash = harness.cache.trash
    first, second = (guest_user(each.root, trash) for each in (harness.layout, harness.other))
    assert first != second
    assert guest_user(harness.layout.root, trash) == first
    for layout, user in ((harness.layout, first), (harness.other, second)):
        status = layout.root.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, user, 0o710)


async def test_a_user_is_not_given_to_another_while_files_of_it_are_left(
    harness: ContainmentHarness,
) -> None:
    trash, root = harness.cache.trash, harness.layout.root
    first = guest_user(root, trash)
    # It is the first to be tried again, but for what is not deleted yet.
    gone = harness.cache.to_trash(root)
    assert gone is not None
    root.mkdir()
    assert guest_user(root, trash) != first
    remove(gone)
    remove(root)
    root.mkdir()
    assert guest_user(root, trash) == first


def test_two_caches_of_one_machine_begin_with_different_users() -> None:
    guests = (Path(f"/{name}/guests") for name in ("one", "two", "three"))
    first = [next(ownership._candidates(GUEST_USERS[0], each)) for each in guests]
    assert len(set(first)) == 3
    # The next one is for what ends its processes.
    assert all(user % 2 == 0 and user + 1 in GUEST_USERS[0] for user in first)


@pytest.fixture
def open_harness(passable: Path, processes: Processes) -> Iterator[ContainmentHarness]:
    """Return one whose cache users can reach without a capability."""
    harness = ContainmentHarness(passable, processes)
    harness.open_to_users()
    yield harness
    harness.close()


@pytest.mark.parametrize("landlock", [True, False], ids=["with Landlock", "by users alone"])
async def test_a_build_cannot_touch_another_guest(
    open_harness: ContainmentHarness, landlock: bool
) -> None:
    harness = open_harness
    theirs = harness.other.tmp / "pid"
    other = harness.rules(harness.other, by_landlock=landlock)
    running = asyncio.create_task(harness.run(other, "-c", WAITING, str(theirs)))
    async with asyncio.timeout(30):
        while not theirs.exists():  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    victim = int(theirs.read_text())
    harness.files["theirs"].chmod(0o600)
    outcomes = await harness.tries(
        f"os.kill({victim}, signal.SIGTERM)",
        f"os.kill({victim}, 0)",
        "open(at['theirs']).read()",
        "open(at['theirs'], 'a')",
        "os.chmod(at['theirs'], 0o777)",
        "os.chmod(os.path.dirname(at['theirs']), 0o777)",
        "os.utime(at['theirs'])",
        "os.unlink(at['theirs'])",
        "os.chmod(at['storage'], 0o777)",
        "open(at['storage'], 'a')",
        "open(at['module'], 'a')",
        "open(at['yaml'], 'a')",
        "os.rename(at['trees'], at['trees'] + '.old')",
        "os.symlink('/', os.path.dirname(at['trees']) + '/link')",
        by_landlock=landlock,
    )
    assert set(outcomes.split()) <= {"EPERM", "EACCES"}, outcomes
    assert outcomes.split()[0] == "EPERM"
    assert alive(victim)
    assert all(path.read_text() == "content" for path in harness.files.values())
    assert harness.files["theirs"].stat().st_mode & 0o777 == 0o600
    reads = ("open(at['module']).read()", "open(at['yaml']).read()")
    assert await harness.tries(*reads, by_landlock=landlock) == "done done"
    running.cancel()
    await asyncio.wait({running})
    assert not alive(victim)


FORKS = f"""
import os, random, resource, signal, sys, time
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_IGN)
os.setsid()
open(sys.argv[1], "w").close()
# As many as that are there all the time, and hardly any of them for long.
resource.setrlimit(resource.RLIMIT_NPROC, (24, 24))
end = time.monotonic() + {LONG}
while time.monotonic() < end:
    try:
        if os.fork() and random.random() < 0.5:
            os._exit(0)
    except BlockingIOError:
        time.sleep(0.002)
"""


def run_by(user: int) -> list[str]:
    """Return the processes of a user."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == user:
                found.append(process.name)
    return found


@pytest.mark.usefixtures("impatient", "measured_launcher")
async def test_without_landlock_processes_that_fork_all_the_time_end_as_well(
    open_harness: ContainmentHarness,
) -> None:
    rules = open_harness.rules(by_landlock=False)
    assert rules.user is not None
    # Two, since the second is the first one's and goes on when that has ended.
    program = f"import os; os.fork() or exec({FORKS!r}); import time; time.sleep({LONG})"
    begun = open_harness.layout.tmp / "begun"
    running = asyncio.create_task(open_harness.run(rules, "-c", program, str(begun)))
    async with asyncio.timeout(30):
        while not begun.exists():  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert run_by(rules.user) == []


def test_what_does_not_end_otherwise_is_killed_with_all_of_its_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    killed: list[int] = []
    monkeypatch.setattr(descendants, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(descendants, "kill_all_of", killed.append)
    own, guests = Ending(), Ending(77)
    for now[0] in (GRACE, GRACE + LAST_RESORT - 0.1):
        guests.send([])
    assert killed == []
    now[0] = GRACE + LAST_RESORT
    guests.send([])
    own.send([])
    assert killed == [77]


def test_without_landlock_no_build_begins_where_private_files_are_open_or_the_way_is_closed(
    open_harness: ContainmentHarness,
) -> None:
    harness = open_harness
    harness.rules(by_landlock=False)
    storage = harness.files["storage"].parent
    storage.chmod(0o755)
    with pytest.raises(ContainmentError, match=str(storage)):
        harness.rules(by_landlock=False)
    storage.chmod(0o700)
    harness.config.chmod(0o700)
    with pytest.raises(ContainmentError, match="closed to the user"):
        harness.rules(by_landlock=False)
    # Landlock bounds what may be read with the capability to pass.
    assert harness.rules().search


async def test_what_a_guest_wrote_can_be_read_and_removed_by_us(
    harness: ContainmentHarness,
) -> None:
    statement = (
        "os.makedirs(at['tree'] + '/a/b'); open(at['tree'] + '/a/b/c', 'w').write('x');"
        "os.chmod(at['tree'] + '/a/b/c', 0); os.chmod(at['tree'] + '/a', 0)"
    )
    assert await harness.tries(statement) == "done"
    assert (harness.tree / "a" / "b" / "c").read_text() == "x"
    harness.layout.discard(harness.tree)
    assert not harness.tree.exists()
    assert list(harness.layout.trash.iterdir()) == []


def test_a_folder_of_another_owner_is_emptied_before_it_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    (folder / "inner").mkdir(parents=True)
    give(folder, GUEST_USERS[0][0])
    assert list(folder.iterdir()) == []
    assert folder.stat().st_uid == GUEST_USERS[0][0]
    (folder / "kept").touch()
    give(folder, GUEST_USERS[0][0])
    assert (folder / "kept").exists()


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "tools").symlink_to(tmp_path / "ours")
    with pytest.raises(FileExistsError):
        give(tmp_path / "tools", GUEST_USERS[0][0])
    assert (tmp_path / "ours").stat().st_uid == 0


def test_only_folders_of_the_guest_are_given(tmp_path: Path) -> None:
    call = Contained(
        python=Path("/usr/bin/python3"),
        toolchain=tmp_path,
        config_dir=tmp_path,
        data_dir=tmp_path / "elsewhere",
        env={},
    )
    layout = CacheLayout(tmp_path / "guests" / "one")
    layout.make()
    with pytest.raises(ContainmentError, match="elsewhere"):
        GuestContainment(layout, ())(call)


def test_folders_on_the_way_decide_what_may_be_read(tmp_path: Path) -> None:
    user = GUEST_USERS[0][0]
    way = tmp_path / "way"
    folder = way / "folder"
    folder.mkdir(parents=True)
    readable = all(parent.stat().st_mode & 0o001 for parent in folder.parents)
    assert may_read(folder, user) == readable
    way.chmod(0o700)
    assert not may_read(folder, user)
    way.chmod(0o711)
    folder.chmod(0o711)
    assert not may_read(folder, user)
    os.chown(folder, user, user)
    folder.chmod(0o700)
    assert may_read(folder, user) == readable


@pytest.mark.parametrize(
    ("user", "status", "uid_map", "expected"),
    [
        (1000, "CapEff:\t000001ffffffffff\n", "0 0 4294967295\n", None),
        (0, "CapEff:\t00000000a80425fb\n", "0 0 4294967295\n", GUEST_USERS[0]),
        (0, "CapEff:\t0000000000000000\n", "0 0 4294967295\n", None),
        (0, "CapEff:\t00000000000000eb\n", "0 0 4294967295\n", GUEST_USERS[0]),
        (0, "CapEff:\t000001ffffffffff\n", "0 100000 65536\n", GUEST_USERS[1]),
        (0, "CapEff:\t000001ffffffffff\n", "0 1000 1\n1 100000 999\n", None),
    ],
    ids=["not root", "container", "no capabilities", "just enough", "65536 users", "one user"],
)
def test_users_for_guests_depend_on_what_root_may_do(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    user: int,
    status: str,
    uid_map: str,
    expected: range | None,
) -> None:
    (tmp_path / "status").write_text(status)
    for name in ("uid_map", "gid_map"):
        (tmp_path / name).write_text(uid_map)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(ownership, "_PROCESS", tmp_path)
    assert guest_users() == expected


def test_json_of_rules_names_the_user(harness: ContainmentHarness) -> None:
    assert json.loads(json.dumps(harness.rules().spec()))["uid"] == guest_user(
        harness.layout.root, harness.cache.trash
    )
