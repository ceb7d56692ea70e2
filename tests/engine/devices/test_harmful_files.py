"""Files that mean harm."""

from unittest.mock import patch

import pytest

from .folder import KITCHEN, Folder


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
def test_values_that_multiply_cost_nothing_while_they_are_not_needed(
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
        ("${ 2 * 3 }", "its name is 6, which is not a text"),
        ("${ [1] * 10 ** 9 }", "cannot be evaluated"),
        ("${ {1, 2} }", "is not valid"),
        ("<% set y = 'A' %><% macro m() %>${ y }<% endmacro %>${ m() }", "'A' is not valid"),
        ("${ ['', ''] | join | trim or none }", "has no 'name:'"),
        ("<% for n in [1] %>${ n }${ s0 }<% endfor %>!", "is not valid"),
    ],
)
def test_an_expression_that_does_harm_or_gives_no_name_is_a_problem(
    folder: Folder, name: str, reason: str
) -> None:
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


def test_packages_that_include_others_twice_over_many_levels_end(
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


def test_a_defect_that_one_file_reveals_hides_no_other(folder: Folder) -> None:
    folder.write("a.yaml", "esphome: {name: a, friendly_name: '${ 1 }'}\n")
    folder.write("kitchen.yaml", KITCHEN)

    with patch(
        "custom_components.esphome_offload.engine.devices.substitutions.render",
        side_effect=ZeroDivisionError,
    ):
        assert "cannot be read (ZeroDivisionError)" in folder.reason()
        assert folder.device("kitchen.yaml")


def test_merges_that_copy_keys_again_and_again_are_a_problem(folder: Folder) -> None:
    keys = ", ".join(f"k{number}: 1" for number in range(1000))
    merges = "".join(f"m{number}: {{<<: *keys}}\n" for number in range(101))
    folder.write("a.yaml", f"{KITCHEN}keys: &keys {{{keys}}}\n{merges}")

    assert "too much is merged" in folder.reason()


def test_an_included_folder_with_too_many_files_is_a_problem(folder: Folder) -> None:
    for number in range(501):
        folder.write(f"parts/{number}.yaml", "")
    folder.write("a.yaml", f"{KITCHEN}sensor: !include_dir_list parts\n")

    assert "parts holds more than 500 files" in folder.reason()
