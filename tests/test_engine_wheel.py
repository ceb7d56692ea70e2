"""The engine in a program without Home Assistant: a wheel, under another parent package."""

from importlib.metadata import packages_distributions
import json
import os
from pathlib import Path
import subprocess
import sys
import tomllib
import zipfile

from .test_architecture import ENGINE, engine_packages

REPOSITORY = Path(__file__).parents[1]
PARENT = "standalone_engine_parent"

IMPORT_ALL = f"""
import importlib, importlib.util, pkgutil
import {PARENT}.engine as engine
names = [each.name for each in pkgutil.walk_packages(engine.__path__, engine.__name__ + ".")]
for name in names:
    importlib.import_module(name)
assert importlib.util.find_spec("homeassistant") is None
print(*names, sep="\\n")
"""


START = f"""
import asyncio, pathlib, sys
from {PARENT}.engine.build.cache.layout import CacheLayout
from {PARENT}.engine.build.services import BuildServices

async def main():
    services = BuildServices(CacheLayout(pathlib.Path(sys.argv[1])), ())
    await services.start()
    guest = await services.make_guest(services.layout.guest("ab" * 32))
    print(guest.builder.slots is services.builder.slots)
    await services.aclose()

asyncio.run(main())
"""


def requirements() -> list[str]:
    """Return what the engine needs, as pyproject.toml pins it."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        group: list[str] = tomllib.load(file)["dependency-groups"]["engine"]
    return group


def wheel(folder: Path) -> Path:
    """Write a wheel that has the engine in another package."""
    path = folder / f"{PARENT}-1-py3-none-any.whl"
    info = f"{PARENT}-1.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requirements())
    files = {
        f"{PARENT}/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PARENT}\nVersion: 1\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    } | {
        f"{PARENT}/engine/{file.relative_to(ENGINE).as_posix()}": file.read_bytes()
        for file in ENGINE.rglob("*.py")
    }
    record = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(name, content)
    return path


def run(*command: str | Path) -> str:
    environment = os.environ | {"UV_CACHE_DIR": str(REPOSITORY / ".cache" / "uv")}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_runs_under_another_parent_where_home_assistant_is_not(tmp_path: Path) -> None:
    uv = (sys.executable, "-m", "uv", "--quiet")
    environment = tmp_path / "environment"
    run(*uv, "venv", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    run(*uv, "pip", "install", "--python", python, wheel(tmp_path))

    imported = run(python, "-I", "-c", IMPORT_ALL).split()

    files = {
        file for file in ENGINE.rglob("*.py") if file.parent != ENGINE or file.stem != "__init__"
    }
    assert len(imported) == len(files)
    assert run(python, "-I", "-c", START, tmp_path / "cache").split() == ["True"]


def test_the_engine_needs_exactly_what_is_pinned_for_it() -> None:
    distributions = packages_distributions()
    imported = {name for package in engine_packages() for name in distributions[package]}
    assert imported == {each.partition("==")[0] for each in requirements()}


def test_home_assistant_installs_the_same_versions_for_it() -> None:
    manifest = json.loads((ENGINE.parent / "manifest.json").read_bytes())
    assert set(manifest["requirements"]) <= set(requirements())
