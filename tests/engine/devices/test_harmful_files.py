"""Files that mean harm cost only themselves: their device, with a reason, and nobody else's."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
import time

import pytest

from custom_components.esphome_offload.engine.devices import inspector
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.reason import ReasonKey as Key

from .folder import KITCHEN, ask_esphome, write

pytestmark = pytest.mark.slow


def bomb(levels: int, line: str) -> str:
    return ".l0: &l0 {k: v}\n" + "".join(
        f".l{level}: &l{level} " + line.format(below=level - 1) + "\n" for level in range(1, levels)
    )


DOUBLING = "substitutions:\n  s0: x\n" + "".join(
    f"  s{i}: '${{s{i - 1}}}${{s{i - 1}}}'\n" for i in range(1, 60)
)
HOST = "host:\n"
NESTED_LOOPS = "<% for a in range(10**5) %><% for b in range(10**5) %><% endfor %><% endfor %>${1}"

HARMFUL = {
    "13.yaml": "esphome: {name: dev-a, comment: \"${'x'|center(10**9)|length}\"}\n" + HOST,
    "texts.yaml": DOUBLING + ".use: ${s59}\nesphome: {name: texts}\n" + HOST,
    "factorial.yaml": "esphome: {name: maths, comment: '${math.factorial(10**7)}'}\n" + HOST,
    "loops.yaml": f"esphome: {{name: loops, comment: '{NESTED_LOOPS}'}}\n" + HOST,
    "lists.yaml": bomb(40, "[" + ", ".join(["*l{below}"] * 9) + "]") + KITCHEN,
    "name.yaml": "esphome: {name: \"${ 'x' * 10 ** 9 }\"}\n" + HOST,
    "power.yaml": "esphome: {name: '${ 10 ** 10 ** 10 }'}\n" + HOST,
    "brackets.yaml": "esphome: {name: x}\nhost:\na: " + "[" * 100_000,
    "indents.yaml": "esphome: {name: x}\nhost:\n" + "".join(f"{' ' * i}a:\n" for i in range(1200)),
    "chain.yaml": "substitutions:\n"
    + "".join(f"  v{i}: ${{v{i + 1}}}\n" for i in range(5000))
    + "esphome: {name: '${v0}'}\nhost:\n",
    "exit.yaml": 'esphome: {name: "${ [].__class__.__base__.__subclasses__() | length }"}\n' + HOST,
}
HARMLESS = {f"kitchen{index}.yaml": KITCHEN for index in range(4)} | {
    "zz.yaml": KITCHEN,
    "merges.yaml": bomb(40, "{{<<: [" + ", ".join(["*l{below}"] * 9) + "]}}") + KITCHEN,
}


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Mapping[str, Answer]:
    # Ten on a small board.
    limits = replace(inspector._READING, seconds=1.0)
    monkeypatch_module.setattr(inspector, "_READING", limits)
    folder = tmp_path_factory.mktemp("harmful")
    write(folder, HARMFUL | HARMLESS)
    for level in range(18):
        text = f"packages: [!include {level + 1}.yaml, !include {level + 1}.yaml]\n"
        write(folder, {f"p/{level}.yaml": text})
    write(folder, {"p/18.yaml": "wifi:\n"})
    write(folder, {"twice.yaml": "packages: [!include p/0.yaml]\nesphome: {name: a}\nhost:\n"})
    names = sorted(path.name for path in folder.glob("*.yaml"))
    began = time.monotonic()
    answers = asyncio.run(ask_esphome(folder, names))
    assert time.monotonic() - began < 60
    return answers


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("name", HARMLESS)
def test_no_other_file_suffers(answers: Mapping[str, Answer], name: str) -> None:
    assert answers[name].node_name == "kitchen"
    assert answers[name].problem is None


@pytest.mark.parametrize("name", [*HARMFUL, "twice.yaml"])
def test_a_harmful_file_is_a_problem(answers: Mapping[str, Answer], name: str) -> None:
    problem = answers[name].problem
    assert problem is not None
    assert problem.parameters["file"] == name


@pytest.mark.parametrize(
    ("name", "node_name", "key"),
    [
        ("13.yaml", "dev-a", Key.CONFIGURATION_TAKES_MEMORY),
        ("loops.yaml", "loops", Key.CONFIGURATION_TAKES_TIME),
    ],
)
def test_the_device_is_known_in_spite_of_it(
    answers: Mapping[str, Answer], name: str, node_name: str, key: Key
) -> None:
    answer = answers[name]
    assert answer.node_name == node_name
    assert answer.problem is not None
    assert answer.problem.key is key
