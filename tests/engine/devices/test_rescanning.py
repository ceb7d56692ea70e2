"""What is read again, and what changes a fingerprint."""

from pathlib import Path
from unittest.mock import patch

from custom_components.esphome_offload.engine.devices.scanner import Scanner
from custom_components.esphome_offload.engine.devices.yaml_reader import YamlReader

from .folder import KITCHEN, Folder

# Reading again


def reads(folder: Folder) -> set[str]:
    """Scan, and return what was read."""
    seen: set[str] = set()
    content = YamlReader.content

    def spy(self: YamlReader, path: str) -> bytes:
        seen.add(str(Path(path).relative_to(folder.path)))
        return content(self, path)

    with patch.object(YamlReader, "content", spy):
        folder.scan()
    return seen


def test_nothing_is_read_again_while_nothing_changes(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "wifi: !include wifi.yaml\n")
    folder.write("wifi.yaml", "ssid: !secret ssid\n")
    folder.write("secrets.yaml", "ssid: x\n")
    folder.write("broken.yaml", "a: [\n")
    folder.write("missing.yaml", "packages: [!include gone.yaml]\n")
    first = folder.scan()

    assert reads(folder) == set()
    assert folder.scan() is first


def test_after_a_change_the_files_that_depend_on_it_are_read_again(folder: Folder) -> None:
    folder.write("a.yaml", "packages: [!include common/base.yaml]\n")
    folder.write("b.yaml", KITCHEN)
    base = folder.write("common/base.yaml", "esphome: {name: before}\n")
    assert folder.device().node_name == "before"

    base.write_text("esphome: {name: after}\n", encoding="utf-8")

    assert reads(folder) == {"a.yaml", "common/base.yaml"}
    assert folder.device().node_name == "after"


def test_an_include_that_appears_is_noticed(folder: Folder) -> None:
    folder.write("a.yaml", "packages: [!include common/base.yaml]\n")
    assert "does not exist" in folder.reason()

    folder.write("common/base.yaml", "esphome: {name: there}\n")

    assert folder.device().node_name == "there"


def test_a_file_that_appears_in_an_included_folder_is_noticed(folder: Folder) -> None:
    folder.write("a.yaml", "packages: !include_dir_list pk\n")
    folder.write("pk/wifi.yaml", "wifi:\n")
    assert folder.scan().configurations == {}

    folder.write("pk/base.yaml", "esphome: {name: there}\n")

    assert folder.device().node_name == "there"


def test_a_secrets_file_that_appears_nearer_is_noticed(folder: Folder) -> None:
    folder.write("a.yaml", "packages: [!include sub/b.yaml]\n")
    folder.write("sub/b.yaml", "esphome: {name: !secret nm }\n")
    folder.write("secrets.yaml", "nm: far\n")
    assert folder.device().node_name == "far"

    folder.write("sub/secrets.yaml", "nm: near\n")

    assert folder.device().node_name == "near"


def test_devices_come_and_go_with_their_files(folder: Folder) -> None:
    file = folder.write("a.yaml", KITCHEN)
    assert folder.device()

    file.rename(folder.path / "b.yaml")

    assert folder.scan().configurations.keys() == {"b.yaml"}


# Fingerprints


def test_the_fingerprint_changes_with_any_file_and_back_again(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "wifi: !include common/wifi.yaml\n")
    folder.write("common/wifi.yaml", "ssid: !secret ssid\n")
    folder.write("secrets.yaml", "ssid: one\n")
    folder.scan()
    first = folder.scanner.fingerprint("a.yaml")

    for name, text in (
        ("a.yaml", KITCHEN),
        ("common/wifi.yaml", "ssid: x\n"),
        ("secrets.yaml", "ssid: two\n"),
    ):
        before = (folder.path / name).read_text(encoding="utf-8")
        folder.write(name, text)
        assert folder.scanner.fingerprint("a.yaml") != first
        folder.write(name, before)
        assert folder.scanner.fingerprint("a.yaml") == first


def test_the_fingerprint_covers_an_include_that_was_not_scanned_yet(folder: Folder) -> None:
    file = folder.write("a.yaml", KITCHEN)
    folder.write("more.yaml", "x: 1\n")
    folder.scan()
    file.write_text(KITCHEN + "sensor: !include more.yaml\n", encoding="utf-8")
    before = folder.scanner.fingerprint("a.yaml")
    folder.scan()

    assert folder.scanner.fingerprint("a.yaml") == before


def test_the_fingerprint_is_the_same_for_another_scanner_and_place(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "wifi: {ssid: !secret ssid }\n")
    folder.write("secrets.yaml", "ssid: one\n")
    first = folder.scanner.fingerprint("a.yaml")
    moved = folder.path.rename(folder.path.with_name("moved"))

    assert Scanner(moved).fingerprint("a.yaml") == first


def test_a_removed_configuration_has_no_fingerprint(folder: Folder) -> None:
    assert folder.scanner.fingerprint("a.yaml") is None
