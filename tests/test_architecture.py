"""Who imports whom: the arrows of the design, and no circles at any level."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
import sys

import pytest

ROOT = Path(__file__).parents[1] / "custom_components" / "esphome_offload"
ENGINE = ROOT / "engine"

# What each part may import beside itself. A part is a folder with all that is in it, or a name for
# several modules: "engine/*" are those that lie directly in that folder.
ARROWS = {
    "platform files": "automatic batch flows page coordinator jobs registry lending peering"
    " inventory issues texts common engine/jobs engine/host engine/build engine/*",
    "batch": "coordinator jobs registry inventory texts common engine/jobs engine/*",
    "page": "batch coordinator registry peering inventory texts common"
    " engine/jobs engine/host engine/build engine/*",
    "flows": "automatic coordinator lending peering texts stores common"
    " engine/client engine/host engine/build engine/protocol engine/*",
    "automatic": "coordinator registry inventory issues texts stores common engine/jobs engine/*",
    "coordinator": "jobs lending peering inventory issues texts stores common"
    " engine/jobs engine/devices engine/build engine/*",
    "jobs": "registry inventory issues texts common engine/jobs engine/build engine/*",
    "registry": "inventory common engine/*",
    "lending": "issues texts stores common engine/host engine/build engine/protocol engine/*",
    "peering": "issues texts stores common"
    " engine/jobs engine/client engine/build engine/protocol engine/*",
    # Home Assistant's side of owning devices: which there are, and the live ones.
    "inventory": "issues texts stores common engine/jobs engine/devices engine/build engine/*",
    "texts": "common engine/jobs engine/*",
    "stores": "common engine/jobs engine/host engine/protocol engine/*",
    "issues": "texts common engine/jobs engine/*",
    "common": "engine/jobs engine/*",
    # Jobs know builders, also those at the other end of a link, by a protocol in engine/build.
    "engine/jobs": "engine/build engine/*",
    "engine/client": "engine/build engine/protocol engine/*",
    "engine/host": "engine/build engine/protocol engine/*",
    "engine/build": "engine/*",
    "engine/devices": "engine/devices/inspection engine/build engine/*",
    # It runs where there is nothing of ours.
    "engine/devices/inspection": "",
    "engine/protocol": "engine/*",
    "engine/*": "",
    # Inside engine/build: its vocabulary lies beneath its folders, which lie beneath the rest.
    "engine/build/toolchain": "engine/build/model engine/build/process engine/build/cache engine/*",
    "engine/build/process": "engine/build/cache engine/build/launcher engine/*",
    "engine/build/model": "engine/build/slots engine/*",
    "engine/build/slots": "engine/*",
    "engine/build/cache": "engine/*",
    "engine/build/launcher": "",
}

MODULES = {"common": "const options"}
"""The parts that are modules at the top; all others there are platform files."""


@cache
def modules() -> dict[str, Path]:
    """Return all modules by path without suffix; a package is its folder's."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in ROOT.rglob("*.py")}
    return {
        (name.parent if name.name == "__init__" else name).as_posix(): path
        for name, path in paths.items()
    }


@cache
def imports() -> dict[str, tuple[set[str], set[str]]]:
    """Return what each module imports: modules of ours, and names of packages.

    Also those in functions and under TYPE_CHECKING.
    """
    return {name: _imports_of(path) for name, path in modules().items()}


def _imports_of(path: Path) -> tuple[set[str], set[str]]:
    ours: set[str] = set()
    packages: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            ours |= set(_ours(path, node))
    return ours, packages


def _ours(path: Path, node: ast.ImportFrom) -> Iterator[str]:
    folder = path.parents[node.level - 1]
    assert folder.is_relative_to(ROOT), f"{path} imports from outside of the integration"
    target = folder.joinpath(*(node.module or "").split(".")).relative_to(ROOT)
    for alias in node.names:
        member = (target / alias.name).as_posix()
        yield member if member in modules() else target.as_posix()


def part(module: str) -> str:
    """Return the part that a module belongs to: the longest name in the table that fits."""
    path = Path(module)
    if module == "engine" or (path.parent == Path("engine") and module not in ARROWS):
        return "engine/*"
    if "/" not in module and module not in ARROWS:
        return next(
            (name for name, has in MODULES.items() if module in has.split()), "platform files"
        )
    return next(each.as_posix() for each in (path, *path.parents) if each.as_posix() in ARROWS)


def allowed(module: str, other: str) -> bool:
    """Return whether one module may import the other."""
    own = part(module)
    return any(
        part(other) == each or part(other).startswith(f"{each}/")
        for each in (own, *ARROWS[own].split())
    )


def arrows() -> Iterator[tuple[str, str]]:
    """Return who imports whom."""
    for module, (ours, _) in imports().items():
        yield from ((module, other) for other in sorted(ours))


def test_there_are_no_arrows_but_those_of_the_design() -> None:
    refused = [
        f"{part(module)} may not import {part(other)}: {module} imports {other}"
        for module, other in arrows()
        if not allowed(module, other)
    ]
    assert not refused, "\n".join(refused)


def test_every_arrow_is_needed() -> None:
    needed = {(part(module), part(other)) for module, other in arrows()}
    unused = [
        f"{own} -> {other}"
        for own, others in ARROWS.items()
        for other in others.split()
        if not any(a == own and (b == other or b.startswith(f"{other}/")) for a, b in needed)
    ]
    assert not unused, unused


def test_the_table_names_nothing_that_does_not_exist() -> None:
    there = {part(module) for module in modules()}
    assert there == set(ARROWS)
    assert set(" ".join(ARROWS.values()).split()) - there == set()


@pytest.mark.parametrize("folder", sorted({Path(each).parent.as_posix() for each in modules()}))
def test_the_modules_and_folders_of_a_folder_import_each_other_without_a_circle(
    folder: str,
) -> None:
    """Each folder counts as one: what any of its modules imports."""
    inside = ROOT / folder
    graph: dict[str, set[str]] = {}
    for module, other in arrows():
        ends = [ROOT / module, ROOT / other]
        if all(end.is_relative_to(inside) and end != inside for end in ends):
            begin, end = (end.relative_to(inside).parts[0] for end in ends)
            if begin != end:
                graph.setdefault(begin, set()).add(end)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{folder}: {' -> '.join(reversed(error.args[1]))}")


def engine_packages() -> set[str]:
    """Return the packages outside of the standard library that the engine imports."""
    engine = [has for module, (_, has) in imports().items() if part(module).startswith("engine")]
    return set().union(*engine) - sys.stdlib_module_names


def test_the_engine_imports_nothing_of_home_assistant() -> None:
    assert not engine_packages() & {"homeassistant", "voluptuous", "probatio"}


def test_the_launcher_and_the_inspection_are_of_the_standard_library_alone() -> None:
    """The latter imports ESPHome where it runs."""
    for module, (_, packages) in imports().items():
        if part(module) in ("engine/build/launcher", "engine/devices/inspection"):
            assert packages <= sys.stdlib_module_names, module


def test_nothing_of_ours_is_imported_by_its_full_name() -> None:
    """It would not be found under another parent package."""
    for module, (_, packages) in imports().items():
        assert "custom_components" not in packages, module
