"""What kept firmware was built from."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
import json
import os
from pathlib import Path
import threading

import pytest

from custom_components.esphome_offload.engine.build import origins as origins_module
from custom_components.esphome_offload.engine.build.bundle import DATA
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import BuildInfo, Firmware
from custom_components.esphome_offload.engine.build.origins import BuildState, KeptBuild, Origins

VERSION = "2026.10.0"
LAMP = "lamp.yaml"


async def wait_for_another_moment(layout: CacheLayout) -> None:
    """Wait until the clock of the files has gone on: they are written by its ticks."""
    (layout.root / "then").touch()
    while True:
        (layout.root / "now").touch()
        if (layout.root / "now").stat().st_ctime_ns > (layout.root / "then").stat().st_ctime_ns:
            return
        await asyncio.sleep(0.001)


class Kept:
    """Firmware of a lamp with a file beside its configuration, and its origin."""

    def __init__(self, folder: Path, layout: CacheLayout) -> None:
        self.layout = layout
        self.store = FirmwareStore(layout)
        self.origins = Origins(layout, self.store)
        self.while_built: Callable[[Kept], object] = lambda _kept: None
        self.folder = folder / "built"
        self.config_dir = folder / "config"
        for path in (self.folder, self.config_dir / "models", layout.toolchain(VERSION)):
            path.mkdir(parents=True)
        (layout.toolchain(VERSION) / "pyvenv.cfg").touch()
        (self.config_dir / "models" / "words.json").write_text('{"model": "words.bin"}')
        (self.config_dir / "models" / "words.bin").write_text("trained")
        (folder / "elsewhere.pem").write_text("certificate")
        self.config: dict[str, object] = {
            "esphome": {"name": "lamp", "platformio_options": {}, "libraries": []},
            "model": {"file": str(self.config_dir / "models" / "words.json")},
            "web": [{"certificate": str(folder / "elsewhere.pem"), "tags": ["other", "a.b"]}],
        }
        self.state = BuildState(LAMP, self.config_dir, "lamp", VERSION, "UTC", "as it was")

    async def build(self, content: bytes = b"image") -> Firmware:
        """Keep firmware; ``config`` is what was validated for it."""
        (self.folder / "firmware.bin").write_bytes(content)
        (self.folder / "validated").write_text(json.dumps({"config": self.config}))
        result = BuildResult(
            self.folder / "firmware.bin",
            BuildInfo(VERSION, "2026-10-20 10:00:00 +0000", 7),
            {"validated.json": self.folder / "validated"},
        )
        return await self.store.keep(LAMP, "lamp", result)

    async def note(self) -> Firmware:
        firmware = await self.build()
        await self.note_of(firmware)
        return firmware

    async def note_of(self, firmware: Firmware, config_hash: int = 7) -> None:
        """Keep what it was built from; ``while_built`` happens after the build began."""
        await wait_for_another_moment(self.layout)
        started = await self.origins.begin()
        assert started is not None
        self.while_built(self)
        await self.origins.note(self.state, KeptBuild(firmware, "local", config_hash), started)

    async def found(self, **changes: object) -> list[Firmware]:
        state = replace(self.state, **changes)  # type: ignore[arg-type]
        return [each.firmware for each in await self.origins.find(state)]


@pytest.fixture
def kept(tmp_path: Path, layout: CacheLayout) -> Kept:
    return Kept(tmp_path, layout)


async def test_firmware_of_the_same_state_is_found(kept: Kept) -> None:
    firmware = await kept.note()

    (found,) = await kept.origins.find(kept.state)

    assert found.firmware == firmware
    assert (found.builder_id, found.config_hash) == ("local", 7)


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "edited"},
        {"esphome_version": "2026.11.0"},
        {"device_name": "other"},
        {"time_zone": "Europe/Berlin"},
        {"config_dir": Path("/elsewhere")},
        {"configuration": "other.yaml"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_no_firmware_of_another_state_is_found(
    kept: Kept, changes: dict[str, object]
) -> None:
    await kept.note()
    (kept.layout.toolchain("2026.11.0")).mkdir()
    (kept.layout.toolchain("2026.11.0") / "pyvenv.cfg").touch()
    assert await kept.found(**changes) == []


def save(name: str) -> Callable[[Kept], object]:
    return lambda kept: (kept.config_dir / name).write_text("edited")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(save("models/words.json"), id="a file that it names"),
        pytest.param(save("models/words.bin"), id="a file that this one names"),
        pytest.param(save("../elsewhere.pem"), id="a file outside of the folder"),
        pytest.param(
            lambda kept: (kept.config_dir / "models" / "words.bin").unlink(), id="a file is gone"
        ),
        pytest.param(
            lambda kept: os.utime(kept.layout.toolchain(VERSION) / "pyvenv.cfg", (0, 0)),
            id="a toolchain that was made anew",
        ),
        pytest.param(
            lambda kept: (kept.layout.toolchain(VERSION) / "pyvenv.cfg").unlink(),
            id="no toolchain",
        ),
    ],
)
async def test_a_change_of_what_is_used_counts(
    kept: Kept, change: Callable[[Kept], object]
) -> None:
    await kept.note()
    assert await kept.found()
    change(kept)
    assert await kept.found() == []


async def test_another_environment_counts(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration can ask for its variables."""
    await kept.note()
    monkeypatch.setenv("LC_PAPER", "xx_XX")
    assert await kept.found() == []


async def test_other_configurations_do_not_count(kept: Kept) -> None:
    await kept.note()
    (kept.config_dir / "models" / "fan.yaml").write_text("esphome:\n  name: fan\n")
    (kept.config_dir / "models" / ".hidden").write_text("of an editor")
    assert await kept.found()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(save("../elsewhere.pem"), id="a certificate"),
        pytest.param(save("models/words.bin"), id="a file beside one that is named"),
        pytest.param(save("models/added.bin"), id="a new file"),
        pytest.param(
            lambda kept: (kept.config_dir / "models" / "words.bin").unlink(), id="a file is gone"
        ),
        pytest.param(
            lambda kept: os.utime(kept.config_dir / "models" / "words.bin", (1, 1)),
            id="with the time of an old file",
        ),
    ],
)
async def test_what_changes_while_it_is_built_has_no_origin(
    kept: Kept, change: Callable[[Kept], object]
) -> None:
    """The build may have read it before."""
    kept.while_built = change
    await kept.note()
    assert await kept.found() == []
    kept.while_built = lambda _kept: None
    await kept.note()
    assert await kept.found()


async def test_all_firmware_can_be_forgotten(kept: Kept) -> None:
    await kept.note()
    await kept.origins.forget("fan.yaml")
    assert await kept.found()
    await kept.origins.forget(None)
    assert await kept.found() == []


async def test_kept_firmware_that_cannot_be_listed_is_not_found(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.note()

    async def failing(_configuration: str) -> list[Firmware]:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(kept.store, "all", failing)
    assert await kept.found() == []


@pytest.mark.parametrize("of", ["tree", "bundle"])
async def test_what_was_fetched_from_the_network_has_no_origin(kept: Kept, of: str) -> None:
    data = kept.layout.tree(LAMP) if of == "tree" else kept.layout.bundle(LAMP) / DATA
    for name in ("build", "storage"):
        (data / name).mkdir(parents=True)
    await kept.note()
    assert await kept.found()

    (data / "packages").mkdir()
    await kept.note()

    assert await kept.found() == []


async def test_more_files_than_are_looked_at_have_no_origin(kept: Kept) -> None:
    for number in range(2001):
        (kept.config_dir / "models" / str(number)).touch()
    await kept.note()
    assert await kept.found() == []


async def test_a_name_that_cannot_be_kept_has_no_origin(kept: Kept) -> None:
    (kept.config_dir / "models" / os.fsdecode(b"k\xfcche")).touch()
    await kept.note()
    assert await kept.found() == []


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"config": 3}'])
async def test_what_was_validated_has_to_be_readable(kept: Kept, content: str) -> None:
    firmware = await kept.build()
    firmware.validated["validated.json"].write_text(content)
    await kept.note_of(firmware)
    assert await kept.found() == []


async def test_firmware_without_what_was_validated_has_no_origin(kept: Kept) -> None:
    firmware = replace(await kept.build(), validated={})
    await kept.note_of(firmware)
    assert await kept.found() == []


async def test_firmware_without_a_hash_has_no_origin(kept: Kept) -> None:
    await kept.note_of(await kept.build(), 0)
    assert await kept.found() == []


async def test_a_damaged_origin_is_none(kept: Kept) -> None:
    firmware = await kept.note()
    (firmware.ota.parent / "origin.json").write_text("{")
    assert await kept.found() == []


async def test_a_build_that_is_not_fully_known_takes_the_former_origin(kept: Kept) -> None:
    firmware = await kept.note()
    await kept.note_of(firmware, 0)
    assert await kept.found() == []


async def test_forgotten_firmware_is_kept_without_its_origin(kept: Kept) -> None:
    await kept.note()
    await kept.origins.forget(LAMP)
    assert await kept.found() == []
    assert await kept.store.latest(LAMP) is not None


async def test_renewed_firmware_is_the_latest(kept: Kept) -> None:
    first = await kept.note()
    os.utime(first.ota.parent / "firmware.json", (0, 0))
    await kept.build(b"another image")
    await kept.store.renew(first)
    latest = await kept.store.latest(LAMP)
    assert latest is not None
    assert latest.sha256 == first.sha256


async def test_a_folder_that_does_not_answer_finds_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    firmware = await kept.note()
    answers = threading.Event()
    monkeypatch.setattr(origins_module, "signature", lambda _path: answers.wait())
    impatient = Origins(kept.layout, kept.store, look_timeout=0.05)
    assert await impatient.find(kept.state) == []
    await impatient.note(kept.state, KeptBuild(firmware, "local", 7), 2**62)
    answers.set()
    # Not before the thread that hung has ended.
    await impatient._threads.run(lambda: None, 30.0)
