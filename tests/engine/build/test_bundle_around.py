"""Bundles by the real ESPHome, with files from around the folder: those, and no others."""

import json
import os
from pathlib import Path
import re
import shutil
import tarfile
import threading

import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundle, Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.config_hash import ConfigHashes
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.host.unpack import unpack
from custom_components.esphome_offload.engine.reason_key import ReasonKey

from .conftest import Sink, uv_of
from .requests import build_request
from .test_with_esphome import CACHE, VERSION

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("socket_enabled")]

HOST = "esphome:\n  name: lamp\nhost:\nlogger:\n"
UNUSED = "house-alarm-4711"
FOO = "external_components:\n  - source: {type: local, path: %s}\nfoo:\n"
PICTURES = """\
esphome:
  name: lamp
esp32:
  board: esp32dev
  framework: {type: esp-idf}
i2c: {sda: 21, scl: 22}
display:
  - platform: ssd1306_i2c
    model: SSD1306 128x64
    lambda: return;
image:
  - platform: file
    file: ../www/logo.svg
    id: logo
    type: BINARY
    resize: 8x8
"""


class Home:
    """Home Assistant's configuration folder, with ESPHome's in it."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.layout = CacheLayout(CACHE)
        self.layout.make()
        toolchains = Toolchains(self.layout, processes, uv_of(self.layout))
        self.folder = folder / "home"
        self.bundles = Bundles(self.layout, processes, toolchains, around=self.folder)
        self.hashes = ConfigHashes(self.layout, processes, toolchains)
        self.config_dir = self.folder / "esphome"
        self.config_dir.mkdir(parents=True)
        self.elsewhere = folder / "elsewhere"
        self.write(".storage/auth", f"refresh_token: {UNUSED}\n")
        self.write("secrets.yaml", f"wifi: hunter2\nalarm: {UNUSED}\n")
        self.write("home-assistant_v2.db", UNUSED)
        self.write("esphome/secrets.yaml", f"wifi: hunter2\nother: {UNUSED}\n")

    def write(self, name: str, content: str = "#pragma once\n") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content)
        return path

    def link(self, name: str, target: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def configure(self, text: str) -> None:
        self.write("esphome/lamp.yaml", text)

    async def make(self, sink: Sink | None = None) -> Bundle:
        request = build_request(self.config_dir, VERSION)
        return await self.bundles.make(request, (sink or Sink()).lines)

    async def content(self) -> dict[str, bytes]:
        """Make a bundle and return what is in it, but for the manifest."""
        bundle = await self.make()
        with tarfile.open(bundle.path) as archive:
            files = {each.name: archive.extractfile(each) for each in archive}
            found = {name: file.read() for name, file in files.items() if file is not None}
        assert not [name for name, content in found.items() if UNUSED.encode() in content]
        return {name: found[name] for name in found if not name.endswith("manifest.json")}

    async def config_hash(self, config_dir: Path) -> int | None:
        return await self.hashes.calculate("lamp.yaml", config_dir, VERSION, "UTC")

    async def is_the_same_elsewhere(self) -> bool:
        """Unpack a bundle as a builder does, and ask ESPHome there, where nothing else is."""
        bundle = await self.make()
        shutil.rmtree(self.elsewhere, ignore_errors=True)
        inside = unpack(bundle.path, self.elsewhere, threading.Event())
        here = await self.config_hash(self.config_dir)
        moved = self.folder.rename(self.folder.with_name("moved"))
        there = await self.config_hash(self.elsewhere / inside)
        moved.rename(self.folder)
        return here is not None and here == there


@pytest.fixture
async def home(tmp_path: Path, processes: Processes) -> Home:
    home = Home(tmp_path, processes)
    shutil.rmtree(home.layout.bundle("lamp.yaml"), ignore_errors=True)
    return home


async def test_a_chain_of_files_from_around_the_folder_is_the_same_configuration_elsewhere(
    home: Home,
) -> None:
    home.configure(
        f"{HOST}packages:\n  base: !include ../common/base.yaml\n" + FOO % "../my_components"
    )
    # From the folder around to one below, and back into the configuration's own.
    home.write("common/base.yaml", "packages:\n  deep: !include sub/deep.yaml\n")
    home.write("common/sub/deep.yaml", "packages:\n  own: !include ../../esphome/parts/own.yaml\n")
    home.write(
        "esphome/parts/own.yaml", "esphome:\n  comment: !secret wifi\n  friendly_name: Lamp\n"
    )
    home.write("common/unused.yaml", UNUSED)
    home.write("my_components/foo/__init__.py", "CONFIG_SCHEMA = {}\n")
    home.write("my_components/foo/foo.h")
    home.write("my_components/.git/config", UNUSED)
    home.write("my_components/secrets.yaml", f"alarm: {UNUSED}")
    assert await home.content() == {
        "common/base.yaml": b"packages:\n  deep: !include sub/deep.yaml\n",
        "common/sub/deep.yaml": b"packages:\n  own: !include ../../esphome/parts/own.yaml\n",
        "esphome/lamp.yaml": (home.config_dir / "lamp.yaml").read_bytes(),
        "esphome/parts/own.yaml": (home.config_dir / "parts/own.yaml").read_bytes(),
        "esphome/secrets.yaml": b"wifi: hunter2\n",
        "my_components/foo/__init__.py": b"CONFIG_SCHEMA = {}\n",
        "my_components/foo/foo.h": b"#pragma once\n",
    }
    assert await home.is_the_same_elsewhere()
    assert not (await home.make()).fresh
    # ESPHome has imported the component, and left nothing beside it.
    assert not list(home.folder.rglob("__pycache__"))


async def test_a_file_that_is_reached_by_two_spellings_is_in_the_bundle_once(home: Home) -> None:
    """And the paths that lead out of the folder and back in are there at the other end."""
    home.configure(
        "esphome:\n  name: lamp\nhost:\n"
        "packages: [!include logger.yaml, !include ../common/base.yaml]\n"
        "substitutions: {a: !secret wifi}\n" + FOO % "../esphome/components"
    )
    home.write("common/base.yaml", "packages: [!include ../esphome/logger.yaml]\n")
    home.write("esphome/logger.yaml", "logger:\nesphome: {comment: !secret other}\n")
    home.write("esphome/components/foo/__init__.py", "CONFIG_SCHEMA = {}\n")
    home.write("esphome/secrets.yaml", f"wifi: hunter2\nother: used\nalarm: {UNUSED}\n")
    content = await home.content()
    with tarfile.open((await home.make()).path) as archive:
        names = archive.getnames()
    assert sorted(names) == [
        "common/base.yaml",
        "esphome/components/foo/__init__.py",
        "esphome/lamp.yaml",
        "esphome/logger.yaml",
        "esphome/manifest.json",
        "esphome/secrets.yaml",
    ]
    assert content["esphome/secrets.yaml"] == b"wifi: hunter2\nother: used\n"
    assert await home.is_the_same_elsewhere()
    # Nothing lies outside, but a path leads there.
    home.write("esphome/parts.yaml", "packages: [!include ../esphome/logger.yaml]\n")
    home.configure(
        "esphome:\n  name: lamp\nhost:\npackages: [!include logger.yaml, !include parts.yaml]\n"
    )
    assert sorted(await home.content()) == [
        f"esphome/{name}.yaml" for name in ("lamp", "logger", "parts", "secrets")
    ]
    assert await home.is_the_same_elsewhere()


async def test_pictures_and_headers_from_around_the_folder_travel(home: Home) -> None:
    home.configure(PICTURES.replace("name: lamp", "name: lamp\n  includes: [../lib/x.h, ../more]"))
    home.write("www/logo.svg", '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>')
    home.write("lib/x.h")
    home.write("more/a.h")
    home.write("more/b.log", UNUSED)
    assert sorted(await home.content()) == [
        "esphome/lamp.yaml",
        "lib/x.h",
        "more/a.h",
        "www/logo.svg",
    ]


async def test_links_into_the_folder_around_are_as_if_the_files_were_there(home: Home) -> None:
    home.configure(HOST + FOO % "components" + "packages:\n  base: !include common/base.yaml\n")
    home.link("esphome/common", "../shared")
    home.write("shared/base.yaml", "esphome:\n  comment: !secret wifi\n")
    home.link("esphome/components/foo", "../../dev/foo")
    home.write("dev/foo/__init__.py", "CONFIG_SCHEMA = {}\n")
    home.link("dev/foo/again", "../foo")
    home.link("esphome/secrets.yaml", "../secrets.yaml")
    # Nothing lies outside by name, so the paths are ESPHome's own.
    assert await home.content() == {
        "common/base.yaml": b"esphome:\n  comment: !secret wifi\n",
        "components/foo/__init__.py": b"CONFIG_SCHEMA = {}\n",
        "lamp.yaml": (home.config_dir / "lamp.yaml").read_bytes(),
        "secrets.yaml": b"wifi: hunter2\n",
    }
    assert await home.is_the_same_elsewhere()


async def test_a_configuration_that_is_itself_a_link_travels(home: Home) -> None:
    home.write("shared/everybody.yaml", f"{HOST}packages: [!include common.yaml]\n")
    home.link("esphome/lamp.yaml", "../shared/everybody.yaml")
    # Beside the link, as ESPHome sees it.
    home.write("esphome/common.yaml", "esphome:\n  comment: here\n")
    bundle = await home.make()
    assert sorted(await home.content()) == ["common.yaml", "lamp.yaml"]
    with tarfile.open(bundle.path) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)["config_filename"] == "lamp.yaml"
    assert await home.is_the_same_elsewhere()


@pytest.mark.parametrize(
    ("text", "also"),
    [
        ("<<: !include ../secrets.yaml\n", {}),
        ("!include ../secrets.yaml\n", {}),
        ("<<: !include passwords.yaml\n", {"esphome/passwords.yaml": f"wifi: a\nx: {UNUSED}\n"}),
        (
            "<<: !include ../secrets.yaml\n",
            {"secrets.yaml": "<<: !include p.yaml\n", "p.yaml": f"wifi: a\nx: {UNUSED}\n"},
        ),
    ],
)
async def test_secrets_that_secrets_include_travel_cut_down_to_what_is_used(
    home: Home, text: str, also: dict[str, str]
) -> None:
    home.configure(HOST.replace("host:", "  comment: !secret wifi\nhost:"))
    home.write("esphome/secrets.yaml", text)
    for name, content in also.items():
        home.write(name, content)
    content = await home.content()
    assert list(content) == ["secrets.yaml", "lamp.yaml"]
    assert content["secrets.yaml"] in (b"wifi: hunter2\n", b"wifi: a\n")
    assert not (await home.make()).fresh
    # A change there makes another bundle.
    home.write(next(reversed(also), "secrets.yaml"), f"wifi: another\nx: {UNUSED}\n")
    assert (await home.content())["secrets.yaml"] == b"wifi: another\n"


async def test_each_folder_has_the_secrets_that_its_own_files_use(home: Home) -> None:
    home.configure(f"{HOST}packages: [!include ../base.yaml]\nsubstitutions: {{a: !secret wifi}}\n")
    home.write("base.yaml", "esphome:\n  comment: !secret of_home\n")
    home.write("secrets.yaml", f"of_home: read\nwifi: {UNUSED}\nalarm: {UNUSED}\n")
    home.write("esphome/secrets.yaml", f"wifi: hunter2\nof_home: {UNUSED}\n")
    content = await home.content()
    assert content["secrets.yaml"] == b"of_home: read\n"
    assert content["esphome/secrets.yaml"] == b"wifi: hunter2\n"
    assert await home.is_the_same_elsewhere()


REFUSED = """\
esphome:
  name: lamp
  includes:
    - passwd.h
    - ../.storage/x.h
    - auth.h
    - database.h
    - secrets.h
    - ../../outside/x.h
host:
packages:
  - !include ../../outside/a.yaml
  - !include ../.storage/b.yaml
  - !include home/.storage/c.yaml
  - !include link.yaml
  - !include {home}/absolute.yaml
  - !include {{file: ../d.yaml}}
substitutions: !include ../secrets.yaml
external_components:
  - source: {{type: local, path: ..}}
  - source: {{type: local, path: ../.storage}}
  - source: {{type: local, path: ../../outside}}
"""


async def test_what_lies_elsewhere_or_is_private_is_named(home: Home) -> None:
    home.configure(REFUSED.format(home=home.folder))
    for name in ("outside/a", "outside/link", "home/.storage/b", "home/.storage/c"):
        home.write(f"../{name}.yaml", "{}")
    home.write("absolute.yaml", "{}")
    home.write("d.yaml", "{}")
    home.write("secrets.yaml", "wifi: hunter2")
    home.write("../outside/x.h")
    home.write(".storage/x.h")
    home.link("esphome/passwd.h", "/etc/passwd")
    home.link("esphome/auth.h", "../.storage/auth")
    home.link("esphome/database.h", "../home-assistant_v2.db")
    home.link("esphome/secrets.h", "../secrets.yaml")
    home.link("esphome/home", "..")
    home.link("esphome/link.yaml", "../../outside/link.yaml")
    sink = Sink()
    with pytest.raises(BuildError) as failure:
        await home.make(sink)
    assert failure.value.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    assert failure.value.reason.key is ReasonKey.BUNDLE_LEAVES_OUT_MORE
    refused = {
        os.path.relpath(found[1], home.folder)
        for line in sink.output
        if (found := re.search("outside config directory: (.+)", line)) is not None
    }
    assert refused == {
        os.path.relpath("/etc/passwd", home.folder),
        ".",
        ".storage",
        ".storage/auth",
        ".storage/b.yaml",
        ".storage/c.yaml",
        ".storage/x.h",
        "../outside",
        "../outside/a.yaml",
        "../outside/link.yaml",
        "../outside/x.h",
        "absolute.yaml",
        "home-assistant_v2.db",
        "secrets.yaml",
    }


async def test_home_assistants_storage_stays_where_the_folder_is_home_assistants(
    home: Home,
) -> None:
    home.config_dir = home.folder
    home.write("lamp.yaml", HOST.replace("host:", "  includes: [.storage/x.h]\nhost:"))
    home.write(".storage/x.h")
    with pytest.raises(BuildError, match=r"\.storage/x\.h"):
        await home.make()


async def test_an_include_that_might_be_chosen_takes_nothing_from_around_the_folder(
    home: Home,
) -> None:
    home.configure(
        f"{HOST}substitutions: {{which: own}}\npackages: [!include '../$${{which}}.yaml']\n".replace(
            "$$", "$"
        )
    )
    home.write("own.yaml", "esphome:\n  comment: own\n")
    home.write("automations.yaml", "- alias: !secret alarm\n")
    assert sorted(await home.content()) == ["esphome/lamp.yaml", "own.yaml"]
