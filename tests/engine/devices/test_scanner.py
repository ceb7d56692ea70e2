"""Which files are looked at and asked about, what changes a fingerprint, and a folder that is away."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import threading
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.devices import folder as looks
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.devices.scanner import (
    FolderUnavailableError,
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


class TestAsking:
    """ESPHome is asked about what changed, and about nothing else."""

    async def test_nothing_is_asked_while_nothing_changes(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include wifi.yaml\n")
        folder.write("wifi.yaml", "ssid: !secret ssid\n")
        folder.write("secrets.yaml", "ssid: x\n")
        first = await folder.scan()

        assert await folder.scan() is first
        assert folder.inspector.asked == [["a.yaml", "wifi.yaml"]]

    async def test_the_files_that_depend_on_a_change_are_asked_about_together(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include common/wifi.yaml\n")
        folder.write("b.yaml", HALL + "wifi: !include common/wifi.yaml\n")
        folder.write("c.yaml", HALL)
        folder.write("common/wifi.yaml", "ssid: x\n")
        await folder.scan()

        folder.write("common/wifi.yaml", "ssid: other\n")
        await folder.scan()

        assert folder.inspector.asked[1:] == [["a.yaml", "b.yaml"]]

    async def test_what_was_looked_for_is_noticed_when_it_appears(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: !include common/wifi.yaml\n")
        await folder.scan()

        folder.write("common/wifi.yaml", "ssid: x\n")
        await folder.scan()

        assert folder.inspector.asked == [["a.yaml"], ["a.yaml"]]

    async def test_a_file_that_appears_in_an_included_folder_is_noticed(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("parts/one.yaml", "x: 1\n")
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="kitchen", reads=("a.yaml", "parts", "parts/one.yaml")
        )
        await folder.scan()

        folder.write("parts/two.yaml", "x: 1\n")
        await folder.scan()

        assert folder.inspector.asked == [["a.yaml"], ["a.yaml"]]

    async def test_devices_come_and_go_with_their_files(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN).rename(folder.path / "b.yaml")
        assert (await folder.scan()).configurations.keys() == {"b.yaml"}

        (folder.path / "b.yaml").rename(folder.path / "c.yaml")

        assert (await folder.scan()).configurations.keys() == {"c.yaml"}

    async def test_another_esphome_is_asked_about_all(self, folder: Folder) -> None:
        folder.inspector.version = None
        folder.write("a.yaml", KITCHEN)
        assert (await folder.scan()).unsure == {"a.yaml"}
        assert folder.inspector.asked == []

        for version in ("2026.10.0", "2026.11.0"):
            folder.inspector.version = version
            assert (await folder.scan()).unsure == set()

        assert folder.inspector.asked == [["a.yaml"], ["a.yaml"]]

    async def test_the_plain_reader_keeps_the_list_while_esphome_does_not_answer(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("b.yaml", "esphome: !include x.yaml\nhost:\n")
        folder.inspector.answers["b.yaml"] = Answer(
            "b.yaml", node_name="hall", platform="host", reads=("b.yaml",)
        )
        before = (await folder.scan()).configurations
        folder.inspector.silent = True
        folder.write("a.yaml", KITCHEN + "#\n")
        folder.write("b.yaml", "esphome: !include y.yaml\nhost:\n")

        result = await folder.scan()
        await folder.scan()

        assert result.configurations == before
        assert result.unsure == {"a.yaml", "b.yaml"}
        # It may need a repair: it is not asked again at each look.
        assert len(folder.inspector.asked) == 2

    async def test_a_file_that_met_a_limit_is_tried_again_but_not_at_once(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", KITCHEN)
        problem = Reason(ReasonKey.CONFIGURATION_TAKES_TIME, {"file": "a.yaml"})
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="kitchen", problem=problem, reads=("a.yaml",)
        )
        for _ in range(3):
            assert (await folder.scan()).problems == {"a.yaml": problem}
        # The second time at once, as after a restart: the machine may have been busy.
        assert folder.inspector.asked == [["a.yaml"]] * 2
        folder.inspector.answers.clear()
        folder.scanner._limits_again.clear()

        assert (await folder.scan()).problems == {}
        await folder.scan()

        assert folder.inspector.asked == [["a.yaml"]] * 3

    async def test_a_quick_scan_asks_nobody(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        result = await folder.scanner.scan(ask=False)
        assert result.configurations["a.yaml"].node_name == "kitchen"
        assert folder.inspector.asked == []


class TestRemotePackages:
    """Remote packages are fetched in the background, once in a while."""

    MISSING = Answer("a.yaml", remote_packages_missing=True, reads=("a.yaml",))

    async def test_they_are_fetched_and_the_next_scan_shows_the_device(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", "packages: [github://x/y/z.yaml]\n")
        folder.write("b.yaml", KITCHEN)
        folder.inspector.answers["a.yaml"] = self.MISSING
        await folder.scan()
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="a", platform="host", reads=("a.yaml",)
        )

        await folder.scanner.fetch_packages()
        await folder.scanner.fetch_packages()

        assert folder.inspector.fetched == [["a.yaml"]]
        assert (await folder.scan()).configurations.keys() == {"a.yaml", "b.yaml"}
        assert folder.inspector.asked == [["a.yaml", "b.yaml"]]

    async def test_what_could_not_be_fetched_is_not_tried_again_at_once(
        self, folder: Folder
    ) -> None:
        folder.write("a.yaml", "packages: [github://x/y/z.yaml]\n")
        folder.inspector.answers["a.yaml"] = self.MISSING
        await folder.scan()
        for _ in range(3):
            await folder.scanner.fetch_packages()
        assert folder.inspector.fetched == [["a.yaml"]]

    async def test_nothing_is_fetched_while_the_folder_is_away(self, folder: Folder) -> None:
        folder.write("a.yaml", "packages: [github://x/y/z.yaml]\n")
        folder.inspector.answers["a.yaml"] = self.MISSING
        await folder.scan()
        folder.path.rename(folder.path.with_name("away"))
        await folder.scanner.fetch_packages()
        assert folder.inspector.fetched == []


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


class TestFingerprints:
    """What changes the fingerprint of a configuration."""

    async def test_it_changes_with_any_file_and_back_again(self, folder: Folder) -> None:
        files = {
            "a.yaml": KITCHEN + "wifi: !include common/wifi.yaml\nx: !secret y\n",
            "common/wifi.yaml": "ssid: home\n",
            "secrets.yaml": "y: one\n",
        }
        for name, text in files.items():
            folder.write(name, text)
        await folder.scan()
        first = await folder.scanner.fingerprint("a.yaml")

        for name, text in files.items():
            folder.write(name, text + "# changed\n")
            assert await folder.scanner.fingerprint("a.yaml") != first
            folder.write(name, text)
            assert await folder.scanner.fingerprint("a.yaml") == first

    async def test_of_what_was_known_before_the_first_toolchain_it_is_of_the_same_files(
        self, folder: Folder
    ) -> None:
        folder.inspector.version = None
        folder.write("a.yaml", KITCHEN)
        folder.write("own.h", "one")
        early = await folder.scanner.fingerprint("a.yaml")
        assert early is not None
        assert not await folder.scanner.same_files("a.yaml", early)
        folder.inspector.version = "2026.10.0"
        folder.inspector.answers["a.yaml"] = Answer(
            "a.yaml", node_name="kitchen", reads=("a.yaml", "own.h")
        )

        assert await folder.scanner.fingerprint("a.yaml") != early
        assert await folder.scanner.same_files("a.yaml", early)
        assert not await folder.scanner.same_files("a.yaml", "another")
        assert not await folder.scanner.same_files("b.yaml", early)

        folder.write("a.yaml", KITCHEN + "# changed\n")
        await folder.scanner.fingerprint("a.yaml")
        assert not await folder.scanner.same_files("a.yaml", early)

    async def test_it_covers_an_include_that_was_not_scanned_yet(self, folder: Folder) -> None:
        file = folder.write("a.yaml", KITCHEN)
        folder.write("more.yaml", "x: 1\n")
        await folder.scan()
        file.write_text(KITCHEN + "sensor: !include more.yaml\n", encoding="utf-8")
        before = await folder.scanner.fingerprint("a.yaml")
        await folder.scan()

        assert await folder.scanner.fingerprint("a.yaml") == before
        assert folder.inspector.asked[1:] == [["a.yaml"]]

    async def test_a_scan_after_it_shows_what_it_found(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        await folder.scan()
        folder.write("a.yaml", HALL)
        await folder.scanner.fingerprint("a.yaml")

        assert (await folder.scan()).configurations["a.yaml"].node_name == "hall"

    async def test_it_is_the_same_for_another_scanner_and_place(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN + "wifi: {ssid: !secret ssid }\n")
        folder.write("secrets.yaml", "ssid: one\n")
        first = await folder.scanner.fingerprint("a.yaml")
        moved = folder.path.rename(folder.path.with_name("moved"))

        assert await Scanner(moved, ScriptedInspector(None)).fingerprint("a.yaml") == first

    async def test_it_changes_with_the_names_in_a_folder(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("parts/one.h", "")
        os.mkfifo(folder.path / "pipe.yaml")
        folder.inspector.answers["a.yaml"] = Answer("a.yaml", reads=("parts", "pipe.yaml", "gone"))
        first = await folder.scanner.fingerprint("a.yaml")
        folder.write("parts/two.h", "")
        assert await folder.scanner.fingerprint("a.yaml") != first

    async def test_its_second_part_is_of_files_that_are_no_yaml(self, folder: Folder) -> None:
        folder.write("a.yaml", KITCHEN)
        folder.write("own.h", "// one")
        assert (await folder.scanner.fingerprint("a.yaml") or "").endswith(".")
        folder.write("a.yaml", HALL)
        folder.inspector.answers["a.yaml"] = Answer("a.yaml", reads=("own.h",))
        first = await folder.scanner.fingerprint("a.yaml") or ""
        folder.write("a.yaml", f"{HALL}# a comment")
        second = await folder.scanner.fingerprint("a.yaml") or ""
        folder.write("own.h", "// two")
        third = await folder.scanner.fingerprint("a.yaml") or ""
        assert first != second
        assert first.partition(".")[2] == second.partition(".")[2] != third.partition(".")[2]

    async def test_the_state_changes_with_the_scans(self, folder: Folder) -> None:
        assert folder.scanner.state("a.yaml") is None
        folder.write("a.yaml", KITCHEN)
        await folder.scan()
        before = folder.scanner.state("a.yaml")
        await folder.scan()
        assert folder.scanner.state("a.yaml") == before
        folder.write("a.yaml", HALL)
        assert folder.scanner.state("a.yaml") == before
        await folder.scan()
        assert folder.scanner.state("a.yaml") != before

    async def test_a_removed_configuration_has_none(self, folder: Folder) -> None:
        folder.write("b.yaml", KITCHEN)
        assert await folder.scanner.fingerprint("a.yaml") is None


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


async def test_a_fingerprint_looks_at_the_files_of_its_configuration_only(folder: Folder) -> None:
    """Many jobs ask for it, one after the other, each several times."""
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        folder.write(name, KITCHEN)
    await folder.scan()
    before = await folder.scanner.fingerprint("a.yaml")
    with patch.object(looks, "signatures", wraps=looks.signatures) as signatures:
        assert await folder.scanner.fingerprint("a.yaml") == before
    ((_, names),) = (call.args for call in signatures.call_args_list)
    assert "a.yaml" in names
    assert not {"b.yaml", "c.yaml"} & set(names)
    folder.write("a.yaml", HALL)
    assert await folder.scanner.fingerprint("a.yaml") != before
