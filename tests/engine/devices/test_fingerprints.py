"""What changes the fingerprint of a configuration."""

import os
from unittest.mock import patch

from custom_components.esphome_offload.engine.devices import folder as looks
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.devices.scanner import (
    Scanner,
)

from .folder import KITCHEN, Folder, ScriptedInspector

HALL = "esphome: {name: hall}\nhost:\n"


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
