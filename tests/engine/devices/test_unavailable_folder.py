"""A folder that is away, empty, or does not answer."""

from collections.abc import Iterator
import threading
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.devices import folder as looks
from custom_components.esphome_offload.engine.devices.scanner import (
    FolderUnavailableError,
    Scanner,
)
from custom_components.esphome_offload.engine.reason import ReasonKey

from .folder import KITCHEN, Folder, ScriptedInspector

HALL = "esphome: {name: hall}\nhost:\n"


class TestUnavailable:
    """A folder that is away keeps its devices, and holds up nobody."""

    @pytest.fixture
    def hanging(self) -> Iterator[threading.Event]:
        """Let every look at a folder hang until the event is set."""
        go_on = threading.Event()
        listed = looks.configuration_names

        def hang(config_dir: str) -> list[str]:
            go_on.wait(10)
            return listed(config_dir)

        with patch.object(looks, "configuration_names", hang):
            yield go_on
            go_on.set()

    async def test_a_missing_folder(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        before = await folder.scan()
        away = folder.path.rename(folder.path.with_name("away"))

        result = await folder.scan()

        assert result.configurations == before.configurations
        assert result.unavailable is not None
        assert result.unavailable.key is ReasonKey.FOLDER_MISSING
        with pytest.raises(FolderUnavailableError):
            await folder.scanner.fingerprint("a.yaml")
        away.rename(folder.path)
        assert await folder.scan() == before

    async def test_a_folder_that_is_none(self, folder: Folder) -> None:
        folder.path.rmdir()
        folder.path.touch()
        unavailable = (await folder.scan()).unavailable
        assert unavailable is not None
        assert unavailable.key is ReasonKey.FOLDER_UNREADABLE

    @pytest.mark.parametrize("names", [["a.yaml"], ["a.yaml", "b.yaml"]])
    async def test_a_folder_that_is_empty_all_at_once(
        self, folder: Folder, names: list[str]
    ) -> None:
        for name in names:
            folder.write(name, KITCHEN)
        before = await folder.scan()
        if len(names) > 1:
            folder.write("notes.txt", "")
        for name in names:
            (folder.path / name).unlink()

        result = await folder.scan()

        assert result.configurations == before.configurations
        assert result.unavailable is not None
        assert result.unavailable.key is ReasonKey.FOLDER_EMPTY

    async def test_the_last_configuration_can_be_removed(self, folder: Folder) -> None:
        folder.write("secrets.yaml", "a: b\n")
        folder.write("a.yaml", KITCHEN).unlink()
        folder.write("b.yaml", KITCHEN)
        await folder.scan()
        (folder.path / "b.yaml").unlink()
        result = await folder.scan()
        assert (result.configurations, result.unavailable) == ({}, None)

    async def test_a_folder_that_was_always_empty_is_available(self, folder: Folder) -> None:
        assert (await folder.scan()).unavailable is None

    async def test_a_share_that_is_not_mounted_yet_after_a_restart(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        before = await folder.scan()
        stored = await folder.scanner.stored()
        (folder.path / "a.yaml").unlink()
        scanner = Scanner(folder.path, ScriptedInspector())
        await scanner.restore(stored)

        result = await scanner.scan()

        assert result.configurations == before.configurations
        assert result.unavailable is not None

    async def test_a_share_that_hangs(self, folder: Folder, hanging: threading.Event) -> None:
        hanging.set()
        folder.write("a.yaml", KITCHEN)
        scanner = Scanner(folder.path, folder.inspector, look_timeout=2)
        before = await scanner.scan()
        hanging.clear()

        for _ in range(2):
            result = await scanner.scan()
            assert result.unavailable is not None
            assert result.unavailable.key is ReasonKey.FOLDER_SILENT
            assert result.configurations == before.configurations
        stuck = [each for each in threading.enumerate() if each.name == "unreliable work"]
        # What hangs is not looked at twice.
        assert len(stuck) == 1

        hanging.set()
        stuck[0].join(10)
        assert await scanner.scan() == before
