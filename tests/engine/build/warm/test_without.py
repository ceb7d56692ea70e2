"""Where a warm Python cannot be had, or must not be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.process.processes import (
    Processes,
)
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons

from ..processes import gone
from .toolchain import CONFIG, Toolchain, answer, pid_of, remake, run


def break_import(toolchain: Toolchain) -> None:
    (toolchain.package / "config.py").write_text("import os; os._exit(3)")


def remove_environment(toolchain: Toolchain) -> None:
    (toolchain.folder / "pyvenv.cfg").unlink()


@pytest.mark.parametrize("harm", [break_import, remove_environment])
async def test_without_one_a_call_gets_a_python_of_its_own(
    processes: Processes,
    pythons: WarmPythons,
    toolchain: Toolchain,
    harm: Callable[[Toolchain], None],
) -> None:
    harm(toolchain)
    for _ in range(2):
        result, output = await run(processes, toolchain.program("print(6 * 7)"))
        assert (result.exit_code, output) == (0, "42\n")
    assert not pythons._warm


async def test_one_that_cannot_start_is_not_started_again_until_it_is_made_anew(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    config = toolchain.package / "config.py"
    config.write_text(CONFIG + "os._exit(3)\n")
    for _ in range(2):
        await run(processes, toolchain.program("pass"))
    assert toolchain.imports == 1

    config.write_text(CONFIG)
    remake(toolchain)
    await answer(processes, toolchain.command())
    assert pythons._warm


async def test_a_toolchain_that_was_made_anew_is_imported_anew(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    await answer(processes, toolchain.command())
    former = pid_of(pythons)
    remake(toolchain)
    await answer(processes, toolchain.command())
    assert toolchain.imports == 2
    await gone(former)


async def test_there_are_two_at_most(
    processes: Processes, pythons: WarmPythons, tmp_path: Path
) -> None:
    toolchains = [Toolchain(tmp_path / str(number)) for number in range(3)]
    for toolchain in toolchains:
        await answer(processes, toolchain.command())
    assert [each[0] for each in pythons._warm] == [
        str(toolchain.python) for toolchain in toolchains[1:]
    ]


async def test_commands_that_do_not_name_it_never_use_it(
    processes: Processes, pythons: WarmPythons, toolchain: Toolchain
) -> None:
    """Such as those of guests."""
    await run(processes, toolchain.command(warm=None))
    assert not pythons._warm
