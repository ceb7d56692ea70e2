"""The guests' share of the disk: least recently used first out, never one in use."""

import asyncio
import os
from pathlib import Path
import threading

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import (
    CacheLayout,
    configuration_key,
)
from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import MIB
from custom_components.esphome_offload.engine.host import disk_quota
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.messages import AttemptState

from .builder import BuilderMachine, GuestCalls, refused, until


async def heavy(request: BuildRequest, _sink: BuildSink) -> None:
    """Leave a MiB in the tree."""
    tree = request.config_dir.parent.parent / "trees" / configuration_key(request.configuration)
    (tree / "objects").write_bytes(os.urandom(MIB))


async def build(builder: BuilderMachine, guest: GuestCalls, name: str, used: int) -> str:
    """Build a device whose files were last used at ``used``."""
    builder.script = [heavy]
    configuration = f"{name}.yaml"
    attempt_id = await guest.submit({configuration: name.encode()}, configuration=configuration)
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    layout = builder.layout.guest(guest.pin)
    digest = layout.source_digest(configuration_key(configuration))
    os.utime(digest, (used, used))
    return attempt_id


def kept(builder: BuilderMachine, guest: GuestCalls) -> set[str]:
    layout = builder.layout.guest(guest.pin)
    found = [path.name.rsplit("-", 1)[0] for path in layout.trees.iterdir() if path.is_dir()]
    for parent in (layout.sources, layout.all_firmware):
        assert sorted(found) == sorted(
            path.name.rsplit("-", 1)[0] for path in parent.iterdir() if path.is_dir()
        )
    return set(found)


async def eviction(builder: BuilderMachine) -> None:
    await until(lambda: not builder.host._eviction._tasks)


async def limited(builder: BuilderMachine, limit: int) -> None:
    builder.host.limit_disk(limit)
    await eviction(builder)


async def test_without_a_limit_everything_stays(builder: BuilderMachine, guest: GuestCalls) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await guest.acknowledge(await build(builder, guest, "b", 2))
    assert kept(builder, guest) == {"a", "b"}
    await until(lambda: builder.host.disk_used > 2 * MIB)


async def test_the_least_recently_used_is_removed_whichever_guest_has_it(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other = await builder.pair("other")
    for each, name, used in (
        (guest, "a", 30),
        (other, "b", 10),
        (guest, "c", 20),
        (other, "d", 40),
    ):
        await each.acknowledge(await build(builder, each, name, used))
    await limited(builder, int(2.5 * MIB))
    assert (kept(builder, guest), kept(builder, other)) == ({"a"}, {"d"})
    assert builder.host.disk_used <= int(2.5 * MIB)


async def test_firmware_that_was_not_fetched_stays(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    waiting = await build(builder, guest, "a", 1)
    await guest.acknowledge(await build(builder, guest, "b", 2))
    await limited(builder, 0)
    assert kept(builder, guest) == {"a"}
    assert (await guest.fetch(waiting))[1] == b"firmware of a"


async def test_a_device_that_is_being_built_stays(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    running, block = await builder.start_blocked(guest, {"a.yaml": b"a"}, configuration="a.yaml")
    await limited(builder, 0)
    assert kept(builder, guest) == {"a"}
    block.release.set()
    assert (await guest.end(running)).state is AttemptState.COMPLETED


async def test_the_limit_is_kept_after_each_build(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await limited(builder, int(1.5 * MIB))
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await build(builder, guest, "b", 2)
    await eviction(builder)
    assert kept(builder, guest) == {"b"}


async def test_tools_are_removed_after_the_devices_of_their_guest(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    tools = builder.layout.guest(guest.pin).tools
    (tools / "gcc").write_bytes(os.urandom(MIB))
    await limited(builder, int(1.5 * MIB))
    assert kept(builder, guest) == set()
    assert (tools / "gcc").exists()
    (builder.layout.guest(guest.pin).home / "cache").write_bytes(os.urandom(MIB))
    await limited(builder, MIB // 2)
    assert not tools.exists()
    assert not builder.layout.guest(guest.pin).home.exists()
    await build(builder, guest, "a", 1)


async def test_no_build_begins_while_tools_are_taken_from_their_places(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await eviction(builder)
    layout = builder.layout.guest(guest.pin)
    entered, go_on = threading.Event(), threading.Event()
    move = CacheLayout.to_trash

    def slowly(self: CacheLayout, path: Path) -> Path | None:
        if path == layout.home:
            entered.set()
            assert go_on.wait(10)
        return move(self, path)

    monkeypatch.setattr(CacheLayout, "to_trash", slowly)
    running = asyncio.create_task(builder.host.make_room(0))
    await asyncio.to_thread(entered.wait, 10)
    assert not layout.tools.exists()
    attempt_id = await guest.submit()
    for _ in range(10):
        await asyncio.sleep(0)
    assert builder.slots.busy == 0
    go_on.set()
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    await running


async def test_a_build_that_begins_while_tools_are_deleted_keeps_its_own(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await eviction(builder)
    layout = builder.layout.guest(guest.pin)
    (layout.tools / "gcc").write_bytes(os.urandom(MIB))
    entered, go_on = threading.Event(), threading.Event()
    remove = disk_quota.remove

    def slowly(path: Path, stop: threading.Event) -> None:
        if (path / "gcc").exists():
            entered.set()
            assert go_on.wait(10)
        remove(path, stop)

    async def download(_request: BuildRequest, _sink: BuildSink) -> None:
        layout.make()
        for folder in folders:
            (folder / "new").touch()

    monkeypatch.setattr(disk_quota, "remove", slowly)
    running = asyncio.create_task(builder.host.make_room(0))
    await asyncio.to_thread(entered.wait, 10)
    folders = (layout.tools, layout.home, layout.tmp)
    assert not any(folder.exists() for folder in folders)
    builder.script = [download]
    assert (await guest.end(await guest.submit())).state is AttemptState.COMPLETED
    go_on.set()
    await running
    assert all((folder / "new").exists() for folder in folders)
    assert list(layout.trash.iterdir()) == []


async def test_files_left_in_tmpdir_count_and_are_removed(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    left = builder.layout.guest(guest.pin).tmp / "left"
    left.write_bytes(os.urandom(8 * MIB))
    await limited(builder, 4 * MIB)
    assert not left.exists()
    assert builder.host.disk_used <= 4 * MIB


async def test_what_a_crash_left_in_tmpdir_is_deleted_at_the_next_start(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    layout = builder.layout.guest(guest.pin)
    (layout.tmp / "left").touch()
    await builder.restart()
    assert not list(layout.tmp.iterdir())
    await until(lambda: not list(layout.trash.iterdir()))


async def test_waiting_bundles_count_and_are_refused_when_they_fill_the_limit(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await limited(builder, 4 * MIB)
    big = {"lamp.yaml": os.urandom(2 * MIB)}
    for kept_now in ({"a"}, set()):
        attempt_id = builder.new_id()
        await guest.put(attempt_id, guest.bundle(big))
        await limited(builder, 4 * MIB)
        assert kept(builder, guest) == kept_now
    attempt_id = builder.new_id()
    assert await refused(guest.put(attempt_id, guest.bundle())) is ErrorCode.NO_SPACE


async def test_nothing_is_measured_any_more_once_the_host_has_stopped(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def walk(_path: Path, stop: threading.Event) -> int:
        begun.set()
        assert stop.wait(10)
        ended.set()
        return 0

    await guest.acknowledge(await build(builder, guest, "a", 1))
    await until(lambda: builder.host.disk_used > 0)
    monkeypatch.setattr("custom_components.esphome_offload.engine.host.disk_quota.disk_usage", walk)
    await build(builder, guest, "b", 2)
    await asyncio.to_thread(begun.wait)
    await builder.host.stop()
    assert ended.is_set()


async def test_a_bundle_removed_with_its_device_is_sent_again(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await limited(builder, 0)
    assert kept(builder, guest) == set()
    attempt_id = await build(builder, guest, "a", 2)
    assert (await guest.fetch(attempt_id))[1] == b"firmware of a"


async def test_guests_not_connected_since_a_restart_count_too(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await guest.acknowledge(await build(builder, guest, "a", 1))
    await builder.restart()
    await limited(builder, 0)
    assert kept(builder, guest) == set()


async def test_links_are_not_followed(
    builder: BuilderMachine, guest: GuestCalls, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(os.urandom(MIB))
    await guest.acknowledge(await build(builder, guest, "a", 1))
    (builder.layout.guest(guest.pin).tree("a.yaml") / "link").symlink_to(outside)
    (builder.layout.guest(guest.pin).trees / "b-0").symlink_to(outside)
    await limited(builder, 0)
    assert (outside / "secret").exists()


async def test_builds_go_on_when_the_disk_cannot_be_measured(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr("custom_components.esphome_offload.engine.host.disk_quota._items", broken)
    await limited(builder, 0)
    assert (await guest.end(await guest.submit())).state is AttemptState.COMPLETED


@pytest.mark.parametrize("name", ["a", "b"], ids=["while it is measured", "before its turn"])
async def test_a_device_built_while_folders_are_measured_is_measured_again(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = guest.pin[:32]
    for each in ("a", "b"):
        await guest.acknowledge(await build(builder, guest, each, 1))
    await limited(builder, 100 * MIB)
    quota = builder.host._disk
    everything = quota.used
    quota._sizes.clear()
    entered, go_on = threading.Event(), threading.Event()

    def measure(_path: Path, _stop: threading.Event) -> int:
        entered.set()
        assert go_on.wait(10)
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(disk_quota, "disk_usage", measure)
        running = asyncio.create_task(quota.make_room())
        await asyncio.to_thread(entered.wait)
        quota.invalidate(folder, configuration_key(f"{name}.yaml"))
        go_on.set()
        await running
    assert quota.used < MIB
    await quota.make_room()
    assert MIB < quota.used < everything
