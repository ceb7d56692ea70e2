"""Which files of a folder are looked at, and what is known of them after a restart."""

import json
import os
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.devices.scanner import (
    Scanner,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .folder import KITCHEN, Folder, ScriptedInspector

HALL = "esphome: {name: hall}\nhost:\n"


class TestFiles:
    """Which files are configurations."""

    async def test_yaml_files_in_the_folder_are_devices(self, folder: Folder) -> None:
        for name in ("kitchen.yaml", "secrets.yaml", "secrets.yml", ".hidden.yaml", "notes.txt"):
            folder.write(name, KITCHEN)
        folder.write("hall.yml", HALL)
        folder.write("folder.yaml/inner.yaml", KITCHEN)
        folder.write("common.yaml", "wifi: {ssid: x}\n")

        result = await folder.scan()

        assert result.configurations.keys() == {"kitchen.yaml", "hall.yml"}
        assert result.problems == {}

    async def test_what_is_no_file_is_not_waited_for(self, folder: Folder) -> None:
        os.mkfifo(folder.path / "pipe.yaml")
        (folder.path / "dangling.yaml").symlink_to("nowhere")
        (folder.path / "loop.yaml").symlink_to("loop.yaml")
        folder.inspector.version = None
        folder.write("a.yaml", KITCHEN)

        assert (await folder.scan()).configurations.keys() == {"a.yaml"}

    async def test_two_configurations_may_have_the_same_name(self, folder: Folder) -> None:
        folder.write("one.yaml", KITCHEN)
        folder.write("two.yaml", KITCHEN)

        assert (await folder.scan()).configurations.keys() == {"one.yaml", "two.yaml"}

    async def test_a_name_that_is_not_utf_8_is_a_problem_that_can_be_shown(
        self, folder: Folder
    ) -> None:
        folder.write(os.fsdecode(b"k\xfcche.yaml"), KITCHEN)
        folder.write("hall.yaml", HALL)

        result = await folder.scan()

        assert result.configurations.keys() == {"hall.yaml"}
        (reason,) = result.problems.values()
        assert reason.key is ReasonKey.CONFIGURATION_FILE_NAME
        assert "\N{REPLACEMENT CHARACTER}" in reason.parameters["file"]


class TestOfFolders:
    """What counts of a folder that a configuration takes components from."""

    async def test_what_python_and_editors_leave_there_is_no_change(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("parts/foo/__init__.py", "")
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="kitchen", reads=("a.yaml", "parts/foo")
        )
        before = await folder.scanner.fingerprint("a.yaml")

        folder.write("parts/foo/__pycache__/__init__.pyc", "x")
        folder.write("parts/foo/.__init__.py.swp", "x")
        assert await folder.scanner.fingerprint("a.yaml") == before

        folder.write("parts/foo/sensor.py", "")
        assert await folder.scanner.fingerprint("a.yaml") != before


class TestAllFiles:
    """Whether a fingerprint covers all that a build reads."""

    @pytest.mark.parametrize(
        ("answer", "known"),
        [
            (Answer("a.yaml", node_name="kitchen", complete=True), True),
            (Answer("a.yaml", node_name="kitchen"), False),
            (
                Answer(
                    "a.yaml",
                    node_name="kitchen",
                    complete=True,
                    problem=Reason(ReasonKey.CONFIGURATION_REFUSED, {"file": "a.yaml"}),
                ),
                False,
            ),
            (
                Answer("a.yaml", node_name="kitchen", complete=True, reads=("a.yaml",) * 2001),
                False,
            ),
        ],
        ids=["all", "some may be elsewhere", "refused", "more than are listed"],
    )
    async def test_as_esphome_says(self, folder: Folder, answer: Answer, known: bool) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.inspector.answers["a.yaml"] = answer
        await folder.scanner.fingerprint("a.yaml")
        assert (folder.scanner.all_files("a.yaml") is not None) is known

    async def test_not_before_esphome_was_asked(self, folder: Folder) -> None:
        folder.inspector.version = None
        folder.write("a.yaml", KITCHEN)
        await folder.scanner.fingerprint("a.yaml")
        assert folder.scanner.all_files("a.yaml") is None
        assert folder.scanner.all_files("another.yaml") is None

    async def test_they_differ_when_one_is_saved_again(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.inspector.answers["a.yaml"] = Answer("a.yaml", node_name="kitchen", complete=True)
        before = await folder.scanner.fingerprint("a.yaml"), folder.scanner.all_files("a.yaml")
        folder.write("a.yaml", "another")
        folder.write("a.yaml", KITCHEN)
        after = await folder.scanner.fingerprint("a.yaml"), folder.scanner.all_files("a.yaml")
        assert before[0] == after[0]
        assert before[1] != after[1]


class TestRestart:
    """What is known outlives a restart."""

    async def test_nothing_is_asked_again_after_a_restart(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include w.yaml\n")
        before = await folder.scan()
        assert folder.scanner.unsaved
        stored = await folder.scanner.stored()
        assert not folder.scanner.unsaved
        inspector = ScriptedInspector()
        scanner = Scanner(folder.path, inspector)

        await scanner.restore(stored)

        assert scanner.result == before
        assert await scanner.scan() == before
        assert inspector.asked == []
        assert not scanner.unsaved

    @pytest.mark.parametrize("broken", [None, {}, {"config_dir": 1, "files": []}])
    async def test_what_cannot_be_read_is_asked_anew(
        self, folder: Folder, broken: dict[str, object] | None
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        await folder.scanner.restore(broken)
        assert (await folder.scan()).configurations.keys() == {"a.yaml"}

    async def test_what_is_of_another_folder_is_not_taken(
        self, folder: Folder, tmp_path: Path
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        await folder.scan()
        scanner = Scanner(tmp_path, ScriptedInspector())
        await scanner.restore(await folder.scanner.stored())
        assert scanner.result.configurations == {}

    @pytest.mark.parametrize("name", [b"k\xfcche.yaml", b"two\nlines.yaml"])
    async def test_a_name_that_cannot_be_shown_keeps_nothing_else_from_being_stored(
        self, folder: Folder, name: bytes
    ) -> None:
        folder.write(os.fsdecode(name), KITCHEN)
        folder.write("hall.yaml", HALL)
        before = await folder.scan()
        inspector = ScriptedInspector()
        scanner = Scanner(folder.path, inspector)

        await scanner.restore(json.loads(json.dumps(await folder.scanner.stored()).encode()))

        assert scanner.result.configurations == before.configurations
        await scanner.scan()
        assert inspector.asked == []
