"""Which files are problems, with which reason."""

import os
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.devices.scanner import FOLDER
from custom_components.esphome_offload.engine.devices.yaml_reader import YamlReader

from .folder import KITCHEN, Folder


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("esphome:\n  name: x\n bad: y\n", "line 3"),
        ("esphome: {name: x\n", "line"),
        ("esphome:\n  name: x\n  name: y\n", "line 3: the key 'name' is there twice"),
        ("a: *nothing\n", "line 1"),
        ("a: 1\n---\nb: 2\n---\nesphome: {name: x}\n", "3 YAML documents"),
        ("esphome: {name: !include }\n", "needs the name of a file"),
        ("<<: !include $x.yaml\n", "cannot use substitutions"),
        ("<<: 5\n", "needs a mapping"),
        ("<<: !include missing.yaml\n", "line 1: it includes missing.yaml, which does not exist"),
        ("esphome: !!map x\n", "expected a mapping"),
        ("a: !!int x\nesphome: {name: x}\n", "does not fit its tag"),
        ("a: 2026-13-99\nesphome: {name: x}\n", "does not fit its tag"),
        ("a: &a [*a]\n", "line 1"),
        ("a: \x07\n", "not valid YAML"),
    ],
)
def test_what_is_not_valid_yaml_is_a_problem_with_its_line(
    folder: Folder, text: str, reason: str
) -> None:
    folder.write("a.yaml", text)
    folder.write("kitchen.yaml", KITCHEN)

    assert reason in folder.reason()
    assert folder.device("kitchen.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "wifi: {password: !!int hunter2}\nesphome: {name: x}\n",
        "wifi: {password: !!float hunter2}\n",
        "wifi:\n  password: hunter2\n bad: y\n",
        "wifi:\n  password: hunter2\n  hunter2 without a colon\n  x: y\n",
        'wifi: {password: "hunter2\n',
        'substitutions: {p: hunter2}\nesphome: {name: "${ int(p) }"}\n',
        'substitutions: {p: hunter2}\nesphome: {name: "${ p * p }"}\n',
    ],
)
def test_a_problem_quotes_no_value(folder: Folder, text: str) -> None:
    folder.write("a.yaml", text)
    assert "hunter2" not in folder.reason()


def test_what_is_not_utf_8_is_a_problem_with_its_line(folder: Folder) -> None:
    (folder.path / "a.yaml").write_bytes(b"esphome:\n  name: k\xfcche\n")

    assert "line 2: it is not UTF-8" in folder.reason()


def test_a_file_without_permission_is_a_problem_until_it_has_it(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN)
    # A real refusal needs another user than root, who may read everything.
    with patch.object(YamlReader, "content", side_effect=PermissionError(13, "Permission denied")):
        assert "Permission denied" in folder.reason()
    os.chmod(folder.path / "a.yaml", 0o640)  # noqa: PTH101

    assert folder.device().node_name == "kitchen"


def test_a_pipe_or_a_dangling_link_is_a_problem_and_is_not_waited_for(folder: Folder) -> None:
    os.mkfifo(folder.path / "a.yaml")
    (folder.path / "b.yaml").symlink_to("nowhere")
    (folder.path / "c.yaml").symlink_to("c.yaml")
    folder.write("kitchen.yaml", KITCHEN)

    assert "not a regular file" in folder.reason("a.yaml")
    assert "no such file" in folder.reason("b.yaml")
    assert "symbolic links" in folder.reason("c.yaml")
    assert folder.device("kitchen.yaml")


def test_a_name_that_is_not_utf_8_is_a_problem_that_can_be_shown(folder: Folder) -> None:
    folder.write(os.fsdecode(b"k\xfcche.yaml"), KITCHEN)
    folder.write("hall.yaml", "esphome: {name: hall}\n")

    result = folder.scan()

    assert result.configurations.keys() == {"hall.yaml"}
    assert result.problems["k\N{REPLACEMENT CHARACTER}che.yaml"].reason.endswith("rename it")


def test_a_missing_include_that_the_name_needs_is_a_problem(folder: Folder) -> None:
    folder.write("a.yaml", "# first\npackages: {b: !include gone.yaml}\n")

    assert folder.reason() == "line 2: it includes gone.yaml, which does not exist"


def test_a_missing_include_that_the_name_does_not_need_keeps_the_device(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "sensor: !include gone.yaml\n")

    result = folder.scan()

    assert result.configurations["a.yaml"].node_name == "kitchen"
    assert "gone.yaml" in result.problems["a.yaml"].reason


def test_a_broken_file_that_many_include_is_one_problem(folder: Folder) -> None:
    for index in range(3):
        folder.write(
            f"{index}.yaml", f"esphome: {{name: n{index}}}\nwifi: !include common/wifi.yaml\n"
        )
    folder.write("common/wifi.yaml", "ssid: [\n")

    result = folder.scan()

    assert len(result.configurations) == 3
    assert result.problems.keys() == {"common/wifi.yaml"}


def test_broken_secrets_are_one_problem_and_hide_no_device(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "wifi: {ssid: !secret ssid }\n")
    folder.write("b.yaml", "esphome: {name: !secret nm }\n")
    folder.write("secrets.yaml", "ssid: [\n")

    result = folder.scan()

    assert result.configurations.keys() == {"a.yaml"}
    assert result.problems.keys() == {"b.yaml", "secrets.yaml"}
    assert result.problems["b.yaml"].reason.startswith("in secrets.yaml: line ")


def test_an_unknown_secret_in_the_name_is_a_problem(folder: Folder) -> None:
    folder.write("a.yaml", "esphome: {name: !secret nm }\n")
    folder.write("secrets.yaml", "other: x\n")

    assert "the secret 'nm' is not in secrets.yaml" in folder.reason()


def test_a_broken_package_that_may_hold_the_name_is_the_reason(folder: Folder) -> None:
    folder.write("a.yaml", "packages: {b: !include common/b.yaml}\nesphome: {name: '${n}'}\n")
    folder.write("common/b.yaml", "substitutions: {n: x\n")

    assert folder.reason().startswith("in common/b.yaml: line ")


@pytest.mark.parametrize(
    "files",
    [
        {"a.yaml": "packages: {a: !include a.yaml}\n"},
        {"a.yaml": "packages: {b: !include b.yaml}\n", "b.yaml": "packages: [!include a.yaml]\n"},
        {"a.yaml": "<<: !include b.yaml\n", "b.yaml": "<<: !include a.yaml\n"},
        {"a.yaml": "packages: !include a.yaml\n"},
        {"a.yaml": "!include a.yaml\n"},
        {"a.yaml": "substitutions: !include a.yaml\nesphome: {name: '$x'}\n"},
    ],
)
def test_files_that_include_each_other_in_a_circle_are_problems(
    folder: Folder, files: dict[str, str]
) -> None:
    for name, text in files.items():
        folder.write(name, text)
    folder.write("kitchen.yaml", KITCHEN)

    result = folder.scan()

    assert result.configurations.keys() == {"kitchen.yaml"}
    assert any("includes" in problem.reason for problem in result.problems.values())


def test_a_circle_that_the_name_does_not_need_keeps_the_device(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "sensor: !include s.yaml\n")
    folder.write("s.yaml", "x: !include t.yaml\n")
    folder.write("t.yaml", "x: !include s.yaml\n")

    result = folder.scan()

    assert result.configurations.keys() == {"a.yaml"}
    assert "in turn includes this file" in result.problems["t.yaml"].reason


def test_a_file_that_others_include_need_not_have_a_name_of_its_own(folder: Folder) -> None:
    folder.write("base.yaml", "esphome: {name: '${name}'}\nhost:\n")
    folder.write("boot.yaml", "esphome: {on_boot: []}\n")
    folder.write(
        "a.yaml",
        "substitutions: {name: a}\npackages: [!include base.yaml, !include boot.yaml]\n",
    )

    result = folder.scan()

    assert result.configurations.keys() == {"a.yaml"}
    assert result.problems == {}


def test_a_file_without_a_name_that_no_other_includes_is_a_problem(folder: Folder) -> None:
    folder.write("base.yaml", "esphome: {name: '${name}'}\nhost:\n")
    folder.write("boot.yaml", "esphome: {on_boot: []}\n")

    assert "'name' is not defined" in folder.reason("base.yaml")
    assert "no 'name:'" in folder.reason("boot.yaml")


def test_a_file_that_is_no_longer_included_becomes_a_problem(folder: Folder) -> None:
    folder.write("base.yaml", "esphome: {name: '${name}'}\nhost:\n")
    main = folder.write("a.yaml", "substitutions: {name: a}\npackages: [!include base.yaml]\n")
    assert folder.scan().problems == {}

    main.unlink()

    assert "base.yaml" in folder.scan().problems


def test_a_missing_folder_is_a_problem_and_keeps_what_was_known(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN)
    before = folder.scan().configurations
    folder.path.rename(folder.path.with_name("away"))

    result = folder.scan()

    assert result.configurations == before
    assert "No such file" in result.problems[FOLDER].reason
