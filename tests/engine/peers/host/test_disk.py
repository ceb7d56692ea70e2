"""The guests' share of the disk: least recently used first out, never one in use."""

import asyncio
import os
from pathlib import Path
import threading

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import configuration_key
from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.protocol.definitions import (
    MIB,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.messages import AttemptState

from ...jobs.fakes import Block
from .lender import Lender, Offloader, until


async def heavy(request: BuildRequest, _sink: BuildSink) -> None:
    """Leave a MiB in the tree."""
    tree = request.config_dir.parent.parent / "trees" / configuration_key(request.configuration)
    (tree / "objects").write_bytes(os.urandom(MIB))


async def build(lender: Lender, guest: Offloader, name: str, used: int) -> str:
    """Build a device whose files were last used at ``used``."""
    lender.script = [heavy]
    configuration = f"{name}.yaml"
    attempt_id = await guest.submit({configuration: name.encode()}, configuration=configuration)
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    layout = lender.layout.guest(guest.pin)
    digest = layout.source_digest(configuration_key(configuration))
    os.utime(digest, (used, used))
    return attempt_id


def kept(lender: Lender, guest: Offloader) -> set[str]:
    layout = lender.layout.guest(guest.pin)
    found = [path.name.rsplit("-", 1)[0] for path in layout.trees.iterdir() if path.is_dir()]
    for parent in (layout.sources, layout.all_firmware):
        assert sorted(found) == sorted(
            path.name.rsplit("-", 1)[0] for path in parent.iterdir() if path.is_dir()
        )
    return set(found)


async def limited(lender: Lender, limit: int) -> None:
    lender.host.limit_disk(limit)
    task = lender.host._tidying
    assert task is not None
    await task


async def test_without_a_limit_everything_stays(lender: Lender, pi: Offloader) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    await pi.acknowledge(await build(lender, pi, "b", 2))
    assert kept(lender, pi) == {"a", "b"}
    await until(lambda: lender.host.disk_used > 2 * MIB)


async def test_what_was_used_longest_ago_goes_whoever_s_it_is(
    lender: Lender, pi: Offloader
) -> None:
    attic = await lender.pair("attic")
    for guest, name, used in ((pi, "a", 30), (attic, "b", 10), (pi, "c", 20), (attic, "d", 40)):
        await guest.acknowledge(await build(lender, guest, name, used))
    await limited(lender, int(2.5 * MIB))
    assert (kept(lender, pi), kept(lender, attic)) == ({"a"}, {"d"})
    assert lender.host.disk_used <= int(2.5 * MIB)


async def test_what_the_guest_has_not_fetched_stays(lender: Lender, pi: Offloader) -> None:
    waiting = await build(lender, pi, "a", 1)
    await pi.acknowledge(await build(lender, pi, "b", 2))
    await limited(lender, 0)
    assert kept(lender, pi) == {"a"}
    assert (await pi.fetch(waiting))[1] == b"firmware of a"


async def test_what_is_being_built_stays(lender: Lender, pi: Offloader) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    block = Block()
    lender.script = [block]
    running = await pi.submit({"a.yaml": b"a"}, configuration="a.yaml")
    await block.entered.wait()
    await limited(lender, 0)
    assert kept(lender, pi) == {"a"}
    block.release.set()
    assert (await pi.end(running)).state is AttemptState.COMPLETED


async def test_what_is_over_the_limit_after_a_build_goes_by_itself(
    lender: Lender, pi: Offloader
) -> None:
    await limited(lender, int(1.5 * MIB))
    await pi.acknowledge(await build(lender, pi, "a", 1))
    await build(lender, pi, "b", 2)
    tidying = lender.host._tidying
    assert tidying is not None
    await tidying
    assert kept(lender, pi) == {"b"}


async def test_tools_go_after_the_devices_of_their_guest(lender: Lender, pi: Offloader) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    tools = lender.layout.guest(pi.pin).tools
    (tools / "gcc").write_bytes(os.urandom(MIB))
    await limited(lender, int(1.5 * MIB))
    assert kept(lender, pi) == set()
    assert (tools / "gcc").exists()
    (lender.layout.guest(pi.pin).home / "cache").write_bytes(os.urandom(MIB))
    await limited(lender, MIB // 2)
    assert not tools.exists()
    assert not lender.layout.guest(pi.pin).home.exists()
    await build(lender, pi, "a", 1)


async def test_what_builds_leave_in_tmpdir_counts_and_goes(lender: Lender, pi: Offloader) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    left = lender.layout.guest(pi.pin).tmp / "left"
    left.write_bytes(os.urandom(8 * MIB))
    await limited(lender, 4 * MIB)
    assert not left.exists()
    assert lender.host.disk_used <= 4 * MIB


async def test_bundles_that_wait_count_and_are_refused_when_they_fill_the_limit(
    lender: Lender, pi: Offloader
) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    await limited(lender, 4 * MIB)
    big = {"lamp.yaml": os.urandom(2 * MIB)}
    for kept_now in ({"a"}, set()):
        attempt_id = lender.new_id()
        await pi.put(attempt_id, pi.sealer(attempt_id, big))
        await limited(lender, 4 * MIB)
        assert kept(lender, pi) == kept_now
    attempt_id = lender.new_id()
    with pytest.raises(ProtocolError) as refusal:
        await pi.put(attempt_id, pi.sealer(attempt_id))
    assert refusal.value.code is ErrorCode.NO_SPACE


async def test_nothing_is_measured_any_more_once_the_host_has_stopped(
    lender: Lender, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def walk(_path: Path, stop: threading.Event) -> int:
        begun.set()
        assert stop.wait(10)
        ended.set()
        return 0

    await pi.acknowledge(await build(lender, pi, "a", 1))
    await until(lambda: lender.host.disk_used > 0)
    monkeypatch.setattr("custom_components.esphome_offload.engine.host.disk_quota.disk_usage", walk)
    await build(lender, pi, "b", 2)
    await asyncio.to_thread(begun.wait)
    await lender.host.stop()
    assert ended.is_set()


async def test_a_bundle_that_went_with_its_device_is_sent_again(
    lender: Lender, pi: Offloader
) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    await limited(lender, 0)
    assert kept(lender, pi) == set()
    attempt_id = await build(lender, pi, "a", 2)
    assert (await pi.fetch(attempt_id))[1] == b"firmware of a"


async def test_guests_that_are_not_connected_since_a_restart_count_too(
    lender: Lender, pi: Offloader
) -> None:
    await pi.acknowledge(await build(lender, pi, "a", 1))
    await lender.restart()
    await limited(lender, 0)
    assert kept(lender, pi) == set()


async def test_links_are_not_followed(lender: Lender, pi: Offloader, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(os.urandom(MIB))
    await pi.acknowledge(await build(lender, pi, "a", 1))
    (lender.layout.guest(pi.pin).tree("a.yaml") / "link").symlink_to(outside)
    (lender.layout.guest(pi.pin).trees / "b-0").symlink_to(outside)
    await limited(lender, 0)
    assert (outside / "secret").exists()


async def test_a_disk_that_cannot_be_read_does_no_harm(
    lender: Lender, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr("custom_components.esphome_offload.engine.host.disk_quota._items", broken)
    await limited(lender, 0)
    assert (await pi.end(await pi.submit())).state is AttemptState.COMPLETED
