"""A mistake deletes no device: neither in its own file nor in what it includes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import override

import pytest

from custom_components.esphome_offload.engine.devices.answers import Answer, Fault
from custom_components.esphome_offload.engine.devices.inspector import Inspector
from custom_components.esphome_offload.engine.devices.scanner import Scanner
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .folder import KITCHEN, VERSION, Folder, ScriptedInspector, ask_esphome

NAMES = ("a.yaml", "b.yaml")
READS = {name: (name, "base.yaml") for name in NAMES}
SYNTAX = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": "base.yaml", "row": "1"})


def device(name: str) -> Answer:
    node_name = name.removesuffix(".yaml")
    return Answer(name, node_name=node_name, platform="host", reads=READS[name], complete=True)


def hidden(name: str) -> Answer:
    """Return what is known of an includer of a broken package that has the name."""
    return Answer(name, faults=(Fault("base.yaml", SYNTAX),), reads=READS[name])


@pytest.fixture
def packaged(folder: Folder) -> Folder:
    """Two devices that are made from one package, and another file."""
    for name in NAMES:
        folder.write(name, f"substitutions: {{name: {name[0]}}}\npackages: [!include base.yaml]\n")
        folder.inspector.answers[name] = device(name)
    folder.write("base.yaml", "esphome: {name: '${name}'}\nhost:\n")
    folder.write("kitchen.yaml", KITCHEN)
    return folder


def break_package(folder: Folder) -> None:
    folder.write("base.yaml", "esphome: [\n")
    for name in NAMES:
        folder.inspector.answers[name] = hidden(name)
    folder.inspector.answers["base.yaml"] = Answer("base.yaml", broken=True, problem=SYNTAX)


def empty_package(folder: Folder) -> None:
    folder.write("base.yaml", "# esphome:\n")
    for name in NAMES:
        folder.inspector.answers[name] = Answer(name, reads=READS[name])


def break_themselves(folder: Folder) -> None:
    for name in NAMES:
        folder.write(name, "packages: [\n")
        reason = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": name, "row": "2"})
        folder.inspector.answers[name] = Answer(name, broken=True, problem=reason, reads=(name,))


async def restarted(folder: Folder) -> None:
    stored = await folder.scanner.stored()
    folder.scanner = Scanner(folder.path, folder.inspector)
    await folder.scanner.restore(stored)


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (break_package, {"base.yaml"}),
        (empty_package, set(NAMES)),
        (break_themselves, set(NAMES)),
    ],
)
async def test_devices_stay_as_they_were_until_the_mistake_is_mended(
    packaged: Folder, break_it: Callable[[Folder], None], told: set[str]
) -> None:
    before = (await packaged.scan()).configurations
    assert before.keys() == {*NAMES, "kitchen.yaml"}

    break_it(packaged)
    found = [await packaged.scan()]
    packaged.write("kitchen.yaml", KITCHEN + "# changed\n")
    found.append(await packaged.scan())
    await restarted(packaged)
    found.append(packaged.scanner.result)
    packaged.write("kitchen.yaml", KITCHEN + "# changed again\n")
    found.append(await packaged.scanner.scan(ask=False))
    found.append(await packaged.scan())
    for result in found:
        assert result.configurations == before
        assert result.problems.keys() == told

    for name in NAMES:
        packaged.write(name, "packages: [!include base.yaml]\n")
        packaged.inspector.answers[name] = device(name)
    packaged.write("base.yaml", "esphome: {name: '${name}'}\nhost: {}\n")
    packaged.inspector.answers.pop("base.yaml", None)
    result = await packaged.scan()
    assert (result.configurations, result.problems) == (before, {})


async def test_a_kept_device_goes_with_its_file(packaged: Folder) -> None:
    await packaged.scan()
    break_package(packaged)
    await packaged.scan()
    (packaged.path / "a.yaml").unlink()
    assert (await packaged.scan()).configurations.keys() == {"b.yaml", "kitchen.yaml"}


async def test_only_the_plain_reader_took_a_fragment_for_a_device(folder: Folder) -> None:
    folder.inspector.version = None
    folder.write("a.yaml", "esphome: {name: a}\npackages: []\n")
    assert (await folder.scan()).configurations.keys() == {"a.yaml"}
    folder.inspector.version = VERSION
    folder.inspector.answers["a.yaml"] = Answer(
        "a.yaml", node_name="a", complete=True, reads=("a.yaml",)
    )
    result = await folder.scan()
    assert (result.configurations, result.problems) == ({}, {})


@pytest.mark.parametrize("first", [VERSION, None])
async def test_a_device_stays_while_esphome_does_not_answer(
    folder: Folder, first: str | None
) -> None:
    folder.inspector.version = first
    folder.write("a.yaml", KITCHEN)
    await folder.scan()
    folder.inspector.version = None
    folder.write("a.yaml", KITCHEN + "# changed\n")
    await folder.scan()
    folder.inspector.version = VERSION
    folder.inspector.answers["a.yaml"] = Answer("a.yaml", broken=True, problem=SYNTAX)
    assert (await folder.scan()).configurations.keys() == {"a.yaml"}


async def test_what_became_a_fragment_is_no_device_again_when_it_breaks(packaged: Folder) -> None:
    await packaged.scan()
    packaged.write("a.yaml", "wifi: {ssid: x}\n")
    packaged.inspector.answers["a.yaml"] = Answer("a.yaml", reads=("a.yaml",))
    assert "a.yaml" not in (await packaged.scan()).configurations

    break_themselves(packaged)

    result = await packaged.scan()
    assert result.configurations.keys() == {"b.yaml", "kitchen.yaml"}
    assert result.problems.keys() == {"b.yaml"}


class RealInspector(Inspector):
    """Asks the real ESPHome."""

    @property
    @override
    def version(self) -> str:
        return VERSION

    @override
    async def ask(
        self, config_dir: Path, names: Sequence[str], *, fetch: bool = False
    ) -> Mapping[str, Answer]:
        return await ask_esphome(config_dir, names, fetch=fetch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("esphome: [\n", {"base.yaml"}),
        ("# esphome:\n", set(NAMES)),
        ("esphome: {name: '${name}'}\n", set(NAMES)),
        (None, set(NAMES)),
    ],
)
async def test_with_the_answers_of_the_real_esphome(
    packaged: Folder, mistake: str | None, told: set[str]
) -> None:
    scanner = Scanner(packaged.path, RealInspector())
    before = (await scanner.scan()).configurations
    assert before.keys() == {*NAMES, "kitchen.yaml"}
    base = packaged.path / "base.yaml"
    if mistake is None:
        base.rename(packaged.path / "base.inc")
    else:
        base.write_text(mistake, encoding="utf-8")

    for text in (KITCHEN, KITCHEN + "# changed\n"):
        packaged.write("kitchen.yaml", text)
        result = await scanner.scan()
        assert result.configurations == before
        assert result.problems.keys() == told
    other = Scanner(packaged.path, ScriptedInspector(VERSION))
    await other.restore(await scanner.stored())
    assert other.result.configurations == before


async def test_a_file_that_is_renamed_while_it_is_broken_keeps_its_device(
    packaged: Folder,
) -> None:
    before = (await packaged.scan()).configurations
    break_themselves(packaged)
    await packaged.scan()
    (packaged.path / "a.yaml").rename(packaged.path / "c.yaml")
    problem = replace(packaged.inspector.answers.pop("a.yaml"), file="c.yaml", reads=("c.yaml",))
    packaged.inspector.answers["c.yaml"] = problem

    result = await packaged.scan()

    assert result.configurations.keys() == {"b.yaml", "c.yaml", "kitchen.yaml"}
    kept = result.configurations["c.yaml"]
    assert (kept.file_name, kept.node_name) == ("c.yaml", before["a.yaml"].node_name)
    assert kept.files == (packaged.path / "c.yaml", packaged.path / "base.yaml")
    assert result.problems.keys() == {"b.yaml", "c.yaml"}


async def test_another_file_with_a_mistake_is_not_the_one_that_was_removed(
    packaged: Folder,
) -> None:
    await packaged.scan()
    break_themselves(packaged)
    await packaged.scan()
    (packaged.path / "a.yaml").unlink()
    packaged.write("c.yaml", "packages: [\n")
    packaged.inspector.answers["c.yaml"] = Answer("c.yaml", broken=True, reads=("c.yaml",))

    assert (await packaged.scan()).configurations.keys() == {"b.yaml", "kitchen.yaml"}
