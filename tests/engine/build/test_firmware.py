"""Kept firmware."""

from collections.abc import Callable
from dataclasses import replace
import errno
import hashlib
import os
from pathlib import Path
import shutil
import time
from unittest.mock import ANY, patch

import pytest

from custom_components.esphome_offload.engine.build.cache.eviction import make_room
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import (
    BuildResult,
    FirmwareStore,
    verify,
)
from custom_components.esphome_offload.engine.build.model import BuildError, BuildInfo, Firmware
from custom_components.esphome_offload.engine.const import FailureReason, Image

INFO = BuildInfo("2031.2.0", "2031-01-02 03:04:05 +0000", 7)
LAMP = "lamp.yaml"


@pytest.fixture
def store(layout: CacheLayout) -> FirmwareStore:
    return FirmwareStore(layout)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def built(tree: Path, content: bytes = b"image", info: BuildInfo = INFO) -> BuildResult:
    (tree / "firmware.bin").write_bytes(content)
    return BuildResult(tree / "firmware.bin", info)


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


def alter(path: Path) -> None:
    path.write_bytes(b"imagf")


async def keep(store: FirmwareStore, tree: Path, content: bytes) -> Firmware:
    return await store.keep(LAMP, "lamp", built(tree, content))


async def test_firmware_is_named_by_its_image(store: FirmwareStore, tree: Path) -> None:
    firmware = await store.keep(LAMP, "lamp", built(tree))
    assert firmware.sha256 == hashlib.sha256(b"image").hexdigest()
    assert (firmware.configuration, firmware.device_name) == (LAMP, "lamp")
    assert firmware.build_info == INFO


async def test_files_beside_the_image_are_kept_with_it_also_those_of_a_second_build(
    store: FirmwareStore, tree: Path
) -> None:
    result = built(tree)
    assert (await store.keep(LAMP, "lamp", result)).files == {Image.OTA: ANY}
    elf = tree / "firmware.elf"
    elf.write_bytes(b"symbols")
    firmware = await store.keep(LAMP, "lamp", replace(result, images=(elf,)))
    elf.write_bytes(b"the next build")
    assert firmware.files.keys() == {Image.OTA, Image.ELF}
    assert firmware.images[Image.ELF].read_bytes() == b"symbols"
    await store.rename(LAMP, "desk.yaml")
    renamed = await store.latest("desk.yaml")
    assert renamed is not None
    assert renamed.images[Image.ELF].read_bytes() == b"symbols"


async def test_a_program_for_this_machine_is_its_own_elf_file(
    store: FirmwareStore, tree: Path
) -> None:
    (tree / "program").write_bytes(b"\x7fELF")
    firmware = await store.keep(LAMP, "lamp", BuildResult(tree / "program", INFO))
    assert firmware.images == {Image.ELF: firmware.ota}


async def test_a_file_can_be_added_unless_the_firmware_is_gone(
    store: FirmwareStore, tree: Path
) -> None:
    firmware = await store.keep(LAMP, "lamp", built(tree))
    for name in ("firmware.elf", "firmware.factory.bin"):
        (tree / name).write_bytes(b"more")
    added = await store.add_image(firmware, "firmware.elf", tree / "firmware.elf")
    assert added is not None
    assert added.images[Image.ELF].read_bytes() == b"more"
    await store.forget(firmware)
    with pytest.raises(FileNotFoundError):
        await store.add_image(firmware, "firmware.factory.bin", tree / "firmware.factory.bin")


async def test_to_make_room_only_what_nothing_is_flashed_from_is_removed(
    store: FirmwareStore, tree: Path
) -> None:
    (tree / "firmware.elf").write_bytes(b"symbols" * 10_000)
    result = replace(built(tree), images=(tree / "firmware.elf",))
    await store.keep(LAMP, "lamp", result)
    await make_room((store,), 1_000_000)
    kept = await store.latest(LAMP)
    assert kept is not None
    assert Image.ELF in kept.files, "there is room"
    await make_room((store,), 10_000)
    kept = await store.latest(LAMP)
    assert kept is not None
    assert kept.files == {Image.OTA: kept.ota}
    assert kept.ota.read_bytes() == b"image"


async def test_what_is_never_removed_costs_no_other_its_place(
    store: FirmwareStore, layout: CacheLayout, tree: Path
) -> None:
    elf = tree / "firmware.elf"
    for age, (configuration, size) in enumerate({"desk.yaml": 200_000, LAMP: 10}.items()):
        elf.write_bytes(b"symbols" * 10_000)
        result = replace(built(tree, b"i" * size), images=(elf,))
        await store.keep(configuration, "device", result)
        used = time.time() - 1000 * age
        os.utime(layout.firmware(configuration), (used, used))
    # There is room for the other files of one of them, beside which no image counts.
    for _ in range(2):
        await make_room((store,), 100_000)
        desk, lamp = await store.latest("desk.yaml"), await store.latest(LAMP)
        assert desk is not None
        assert lamp is not None
        assert (Image.ELF in desk.files, Image.ELF in lamp.files) == (True, False)


async def test_what_was_validated_is_kept_with_the_firmware(
    store: FirmwareStore, tree: Path
) -> None:
    (tree / "lamp.yaml.json").write_text("storage")
    (tree / "lamp.yaml.validated.json").write_text("resolved secrets")
    (tree / "lamp.yaml.validated.json").chmod(0o600)
    validated = {
        "json": tree / "lamp.yaml.json",
        "validated.json": tree / "lamp.yaml.validated.json",
    }
    firmware = await store.keep(LAMP, "lamp", replace(built(tree), validated=validated))
    (tree / "lamp.yaml.validated.json").write_text("the next build")
    assert firmware.validated["validated.json"].read_text() == "resolved secrets"
    assert firmware.validated["validated.json"].stat().st_mode & 0o777 == 0o600
    await store.rename(LAMP, "desk.yaml")
    renamed = await store.latest("desk.yaml")
    assert renamed is not None
    assert renamed.validated["json"].read_text() == "storage"


async def test_the_same_image_has_what_was_validated_last(store: FirmwareStore, tree: Path) -> None:
    await keep(store, tree, b"image")
    for text in ("first", "second"):
        (tree / "lamp.yaml.json").write_text(text)
        result = replace(built(tree), validated={"json": tree / "lamp.yaml.json"})
        kept = await store.keep(LAMP, "lamp", result)
        assert kept.validated["json"].read_text() == text
        assert await store.latest(LAMP) == kept


async def test_a_renamed_configuration_takes_its_firmware_along(
    store: FirmwareStore, tree: Path
) -> None:
    before, newest = [await keep(store, tree, content) for content in (b"one", b"two")]
    await store.rename(LAMP, "desk.yaml")
    latest = await store.latest("desk.yaml")
    assert latest is not None
    assert (latest.sha256, latest.configuration) == (newest.sha256, "desk.yaml")
    assert latest.ota.read_bytes() == b"two"
    taken = await store.load("desk.yaml", before.sha256)
    assert taken is not None
    assert taken.ota.read_bytes() == b"one"
    # A flash may still read it.
    assert newest.ota.read_bytes() == b"two"


async def test_altered_firmware_gets_no_new_name(store: FirmwareStore, tree: Path) -> None:
    firmware = await keep(store, tree, b"one")
    firmware.ota.write_bytes(b"altered")
    await store.rename(LAMP, "desk.yaml")
    assert await store.latest("desk.yaml") is None


async def test_firmware_that_cannot_be_taken_along_is_said(
    store: FirmwareStore, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    firmware = await keep(store, tree, b"one")
    firmware.ota.unlink()
    await store.rename(LAMP, "desk.yaml")
    assert "The firmware of lamp.yaml is not taken over to desk.yaml" in caplog.text
    await store.rename("never-built.yaml", "desk.yaml")


async def test_the_next_build_does_not_touch_what_is_kept(store: FirmwareStore, tree: Path) -> None:
    firmware = await keep(store, tree, b"image")
    # In place, as a copy over the old file does.
    with (tree / "firmware.bin").open("r+b") as file:
        file.write(b"other")
    assert firmware.ota.read_bytes() == b"image"


async def test_an_image_may_have_the_name_of_the_manifest(store: FirmwareStore, tree: Path) -> None:
    (tree / "firmware.json").write_bytes(b"image")
    firmware = await store.keep(LAMP, "lamp", BuildResult(tree / "firmware.json", INFO))
    assert firmware.ota.read_bytes() == b"image"
    assert await store.latest(LAMP) == firmware


async def test_what_was_kept_is_there_after_a_restart(
    store: FirmwareStore, layout: CacheLayout, tree: Path
) -> None:
    firmware = await keep(store, tree, b"image")
    later = FirmwareStore(layout)
    assert await later.latest(LAMP) == firmware
    assert await later.load(LAMP, firmware.sha256) == firmware


async def test_an_unchanged_build_is_not_copied_again(store: FirmwareStore, tree: Path) -> None:
    firmware = await keep(store, tree, b"image")
    before = firmware.ota.stat()
    assert await keep(store, tree, b"image") == firmware
    after = firmware.ota.stat()
    # It may have been read.
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


async def test_another_record_of_the_same_image_replaces_the_old_one(
    store: FirmwareStore, tree: Path
) -> None:
    await keep(store, tree, b"image")
    info = replace(INFO, config_hash=8)
    firmware = await store.keep(LAMP, "lamp", built(tree, b"image", info))
    assert firmware.build_info == info
    assert await store.latest(LAMP) == firmware


async def test_the_latest_is_what_was_built_last_even_if_it_was_built_before(
    store: FirmwareStore, tree: Path
) -> None:
    first = await keep(store, tree, b"first")
    second = await keep(store, tree, b"second")
    assert await store.latest(LAMP) == second
    await keep(store, tree, b"first")
    assert await store.latest(LAMP) == first


async def test_the_two_newest_are_kept(
    store: FirmwareStore, layout: CacheLayout, tree: Path
) -> None:
    first = await keep(store, tree, b"1")
    second = await keep(store, tree, b"2")
    third = await keep(store, tree, b"3")
    assert await store.load(LAMP, first.sha256) is None
    assert await store.load(LAMP, second.sha256) == second
    assert await store.load(LAMP, third.sha256) == third
    assert list(layout.tmp.iterdir()) == []


async def test_what_was_built_last_is_the_latest_also_after_a_clock_that_was_ahead(
    store: FirmwareStore, tree: Path
) -> None:
    first, second = [await keep(store, tree, content) for content in (b"1", b"2")]
    for seconds, firmware in enumerate((first, second), 7_200):
        ahead = time.time() + seconds
        os.utime(firmware.ota.parent / "firmware.json", (ahead, ahead))
    third = await keep(store, tree, b"3")
    assert await store.all(LAMP) == [third, second]
    assert await store.load(LAMP, first.sha256) is None
    await store.renew(second)
    assert await store.all(LAMP) == [second, third]


async def test_what_is_in_use_is_kept_however_much_is_built_after_it(
    store: FirmwareStore, tree: Path
) -> None:
    waited_for = await keep(store, tree, b"0")
    store.in_use = lambda: {waited_for.sha256}
    first, *_newer = [await keep(store, tree, content) for content in (b"1", b"2", b"3")]
    assert await store.load(LAMP, waited_for.sha256) == waited_for
    assert await store.load(LAMP, first.sha256) is None
    await store.rename(LAMP, "desk.yaml")
    assert await store.load("desk.yaml", waited_for.sha256) is not None
    store.in_use = frozenset
    await keep(store, tree, b"4")
    assert await store.load(LAMP, waited_for.sha256) is None


async def test_one_that_is_forgotten_leaves_the_others(store: FirmwareStore, tree: Path) -> None:
    first, second = [await keep(store, tree, content) for content in (b"1", b"2")]
    await store.forget(second)
    assert await store.load(LAMP, second.sha256) is None
    assert await store.load(LAMP, first.sha256) == first


async def test_configurations_do_not_share(store: FirmwareStore, tree: Path) -> None:
    lamp = await keep(store, tree, b"image")
    assert await store.latest("fan.yaml") is None
    fan = await store.keep("fan.yaml", "fan", built(tree))
    assert fan.sha256 == lamp.sha256
    assert fan.ota != lamp.ota
    await store.forget(fan)
    assert await store.latest("fan.yaml") is None
    assert await store.latest(LAMP) == lamp


async def test_altered_firmware_is_an_integrity_failure(store: FirmwareStore, tree: Path) -> None:
    firmware = await keep(store, tree, b"image")
    firmware.ota.write_bytes(b"imagf")
    with pytest.raises(BuildError) as caught:
        await store.load(LAMP, firmware.sha256)
    assert caught.value.failure_reason is FailureReason.INTEGRITY
    assert "lamp" in str(caught.value)


async def test_firmware_without_its_image_is_no_firmware(store: FirmwareStore, tree: Path) -> None:
    firmware = await keep(store, tree, b"image")
    firmware.ota.unlink()
    with pytest.raises(BuildError) as caught:
        await verify(firmware)
    assert caught.value.failure_reason is FailureReason.NO_FIRMWARE


async def test_firmware_that_cannot_be_read_is_as_good_as_gone(
    store: FirmwareStore, tree: Path
) -> None:
    firmware = await keep(store, tree, b"image")
    make_unreadable(firmware.ota)
    with pytest.raises(BuildError) as caught:
        await store.load(LAMP, firmware.sha256)
    assert caught.value.failure_reason is FailureReason.NO_FIRMWARE
    assert "Is a directory" in str(caught.value)


@pytest.mark.parametrize("harm", [make_unreadable, alter, Path.unlink])
async def test_a_build_that_makes_it_again_mends_firmware_that_was_damaged(
    store: FirmwareStore, tree: Path, harm: Callable[[Path], None]
) -> None:
    firmware = await keep(store, tree, b"image")
    harm(firmware.ota)
    assert await keep(store, tree, b"image") == firmware
    assert await store.load(LAMP, firmware.sha256) == firmware


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"configuration": "lamp.yaml"}'])
async def test_a_record_that_was_cut_off_is_as_good_as_none(
    store: FirmwareStore, tree: Path, content: bytes
) -> None:
    older = await keep(store, tree, b"older")
    newer = await keep(store, tree, b"newer")
    (newer.ota.parent / "firmware.json").write_bytes(content)
    assert await store.load(LAMP, newer.sha256) is None
    assert await store.latest(LAMP) == older
    assert await keep(store, tree, b"newer") == newer


@pytest.mark.parametrize("name", ["", ".", "..", "../../lamp", "A" * 64])
async def test_only_a_digest_names_firmware(store: FirmwareStore, name: str) -> None:
    assert await store.load(LAMP, name) is None


async def test_a_copy_that_fails_leaves_nothing(
    store: FirmwareStore, layout: CacheLayout, tree: Path
) -> None:
    with (
        patch.object(shutil, "copyfile", side_effect=OSError(errno.ENOSPC, "No space left")),
        pytest.raises(OSError, match="No space left"),
    ):
        await keep(store, tree, b"image")
    assert await store.latest(LAMP) is None
    assert list(layout.staging.iterdir()) == []
