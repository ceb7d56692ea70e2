"""Which files are devices, which are problems, and what is read again."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.devices.scanner import FOLDER, Scanner
from custom_components.esphome_offload.devices.yaml_reader import YamlReader

from .folder import Folder

KITCHEN = "esphome: {name: kitchen}\nhost:\n"


def test_yaml_files_with_an_esphome_block_are_devices(folder: Folder) -> None:
    folder.write("kitchen.yaml", KITCHEN)
    folder.write("hall.yml", "esphome: {name: hall}\n")
    folder.write("secrets.yaml", KITCHEN)
    folder.write("secrets.yml", KITCHEN)
    folder.write(".hidden.yaml", KITCHEN)
    folder.write("notes.txt", KITCHEN)
    folder.write("folder.yaml/inner.yaml", KITCHEN)
    folder.write("common.yaml", "wifi: {ssid: x}\n")
    folder.write("empty.yaml", "")

    result = folder.scan()

    assert result.configurations.keys() == {"kitchen.yaml", "hall.yml"}
    assert result.problems == {}


def test_two_configurations_may_have_the_same_name(folder: Folder) -> None:
    folder.write("one.yaml", KITCHEN)
    folder.write("two.yaml", KITCHEN)

    assert folder.scan().configurations.keys() == {"one.yaml", "two.yaml"}


def test_files_name_everything_that_went_in_the_main_file_first(folder: Folder) -> None:
    folder.write(
        "z.yaml",
        """
        packages: {b: !include common/base.yaml}
        sensor: !include common/sensors.yaml
        switch: !include_dir_list common/switches
        """,
    )
    folder.write("common/base.yaml", "esphome: {name: z}\nwifi: {ssid: !secret ssid }\n")
    folder.write("common/sensors.yaml", "- platform: uptime\n- !include more.yaml\n")
    folder.write("common/more.yaml", "platform: x\n")
    folder.write("common/switches/one.yaml", "platform: gpio\n")
    folder.write("secrets.yaml", "ssid: home\n")

    files = [str(file.relative_to(folder.path)) for file in folder.device("z.yaml").files]

    assert files[0] == "z.yaml"
    assert files[1:] == [
        "common/base.yaml",
        "common/more.yaml",
        "common/sensors.yaml",
        "common/switches/one.yaml",
        "secrets.yaml",
    ]


def test_a_file_outside_the_folder_is_followed(folder: Folder) -> None:
    folder.write("../shared/base.yaml", "esphome: {name: outside}\n")
    folder.write("a.yaml", "packages: {b: !include ../shared/base.yaml}\n")

    assert folder.device().node_name == "outside"


# Problems


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
        ("a: !!int x\nesphome: {name: x}\n", "cannot be understood"),
        ("a: 2026-13-99\nesphome: {name: x}\n", "cannot be understood"),
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


def test_what_is_not_utf_8_is_a_problem_with_its_line(folder: Folder) -> None:
    (folder.path / "a.yaml").write_bytes(b"esphome:\n  name: k\xfcche\n")

    assert "line 2: it is not UTF-8" in folder.reason()


def test_a_file_without_permission_is_a_problem_until_that_is_mended(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN)
    # A real refusal needs another user than root, who may read everything.
    with patch.object(YamlReader, "content", side_effect=PermissionError(13, "Permission denied")):
        assert "Permission denied" in folder.reason()
    os.chmod(folder.path / "a.yaml", 0o640)  # noqa: PTH101

    assert folder.device().node_name == "kitchen"


def test_a_pipe_or_a_dangling_link_is_a_problem_and_nobody_waits_for_it(folder: Folder) -> None:
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


def test_broken_secrets_are_one_problem_and_cost_no_device(folder: Folder) -> None:
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


def test_a_file_without_a_name_that_nobody_includes_is_a_problem(folder: Folder) -> None:
    folder.write("base.yaml", "esphome: {name: '${name}'}\nhost:\n")
    folder.write("boot.yaml", "esphome: {on_boot: []}\n")

    assert "'name' is not defined" in folder.reason("base.yaml")
    assert "no 'name:'" in folder.reason("boot.yaml")


def test_a_file_that_includers_leave_becomes_a_problem(folder: Folder) -> None:
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


# Files that mean harm


def bomb(levels: int, line: str) -> str:
    return ".l0: &l0 {k: v}\n" + "".join(
        f".l{level}: &l{level} " + line.format(below=level - 1) + "\n" for level in range(1, levels)
    )


@pytest.mark.parametrize(
    "text",
    [
        bomb(40, "[" + ", ".join(["*l{below}"] * 9) + "]"),
        bomb(40, "{{<<: [" + ", ".join(["*l{below}"] * 9) + "]}}"),
        "substitutions:\n  bomb: &b0 {k: v}\n"
        + "".join(
            f"  b{level}: &b{level} {{x: *b{level - 1}, y: *b{level - 1}}}\n"
            for level in range(1, 40)
        ),
        "substitutions:\n  s0: x\n"
        + "".join(f"  s{i}: '${{s{i - 1}}}${{s{i - 1}}}'\n" for i in range(1, 60))
        + ".use: ${s59}\n",
    ],
    ids=["lists", "merges", "mappings", "texts"],
)
def test_values_that_multiply_cost_nothing_while_nobody_needs_them(
    folder: Folder, text: str
) -> None:
    folder.write("a.yaml", text + KITCHEN)

    assert folder.device().node_name == "kitchen"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("${s59}", "too long"),
        ("${ 'x' * 10 ** 9 }", "cannot be evaluated"),
        ("${ 10 ** 10 ** 10 }", "cannot be evaluated"),
        ("${ ''.__class__.__mro__[1].__subclasses__() }", "cannot be evaluated"),
        ("${ s0.__class__ }", "cannot be evaluated"),
    ],
)
def test_names_that_do_harm_are_refused(folder: Folder, name: str, reason: str) -> None:
    doubling = "".join(f"  s{i}: '${{s{i - 1}}}${{s{i - 1}}}'\n" for i in range(1, 60))
    folder.write("a.yaml", f'substitutions:\n  s0: x\n{doubling}esphome:\n  name: "{name}"\n')

    folder.write("kitchen.yaml", KITCHEN)

    result = folder.scan()
    assert result.configurations.keys() == {"kitchen.yaml"}
    assert reason in result.problems["a.yaml"].reason


def test_deep_nesting_is_a_problem(folder: Folder) -> None:
    folder.write("a.yaml", "[" * 100_000)
    folder.write("b.yaml", "".join(f"{' ' * i}a:\n" for i in range(1200)))
    folder.write(
        "c.yaml",
        "substitutions:\n"
        + "".join(f"  v{i}: ${{v{i + 1}}}\n" for i in range(5000))
        + "esphome: {name: '${v0}'}\n",
    )
    folder.write("kitchen.yaml", KITCHEN)

    result = folder.scan()

    assert result.configurations.keys() == {"kitchen.yaml"}
    assert {"a.yaml", "b.yaml", "c.yaml"} <= result.problems.keys()


def test_packages_that_include_others_twice_over_many_levels_come_to_an_end(
    folder: Folder,
) -> None:
    for level in range(18):
        folder.write(
            f"p/{level}.yaml",
            f"packages: [!include {level + 1}.yaml, !include {level + 1}.yaml]\n",
        )
    folder.write("p/18.yaml", "wifi:\n")
    folder.write("a.yaml", "packages: [!include p/0.yaml]\nesphome: {name: a}\n")

    assert "packages" in folder.reason()


def test_a_file_larger_than_a_mebibyte_is_a_problem(folder: Folder) -> None:
    folder.write("a.yaml", KITCHEN + "#" * 1024 * 1024)

    assert "larger than 1 MiB" in folder.reason()


def test_a_defect_that_one_file_brings_out_costs_no_other(folder: Folder) -> None:
    folder.write("a.yaml", "esphome: {name: a, friendly_name: '${ 1 }'}\n")
    folder.write("kitchen.yaml", KITCHEN)

    with patch(
        "custom_components.esphome_offload.devices.substitutions.render",
        side_effect=ZeroDivisionError,
    ):
        assert "cannot be understood" in folder.reason()
        assert folder.device("kitchen.yaml")


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


def test_a_change_of_any_file_reads_those_that_it_went_into(folder: Folder) -> None:
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


def test_secrets_that_appear_nearer_are_noticed(folder: Folder) -> None:
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


def test_the_fingerprint_changes_with_any_file_and_back(folder: Folder) -> None:
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


def test_the_fingerprint_knows_an_include_that_no_scan_has_seen(folder: Folder) -> None:
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


def test_a_configuration_that_is_gone_has_no_fingerprint(folder: Folder) -> None:
    assert folder.scanner.fingerprint("a.yaml") is None
