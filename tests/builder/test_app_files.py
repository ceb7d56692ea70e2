"""The files of the app: as Supervisor's documentation wants them, and true of the program."""

from pathlib import Path, PurePath
import re
from typing import Any, cast

import click
from esphome_offload_builder import __version__
from esphome_offload_builder.app.supervisor import SERVICE
from esphome_offload_builder.cli import main, run
from esphome_offload_builder.settings import DataFolder
from PIL import Image
import probatio as vol
import pytest
import yaml

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.engine.const import STANDALONE_PORT

ROOT = Path(__file__).parents[2]
APP = ROOT / "builder" / "app"

# From "App configuration" and "Create an app repository" of Home Assistant's documentation for
# developers. What needs an app without protection is left out: this one must not have it.
URL = vol.Match(r"^https://[\w.-]+/")
OPTION = vol.Match(
    r"^(bool|email|url|port|str|password|int|float"
    r"|(str|password|int|float)\([\d.-]*,[\d.-]*\)|match\(.+\)|list\(.+\))\??$"
)
CONFIG = vol.Schema(
    {
        vol.Required("name"): str,
        vol.Required("version"): str,
        vol.Required("slug"): vol.Match(r"^[-_.A-Za-z0-9]+$"),
        vol.Required("description"): str,
        vol.Required("arch"): [vol.In(["aarch64", "amd64"])],
        "url": URL,
        "startup": vol.In(["initialize", "system", "services", "application", "once"]),
        "boot": vol.In(["auto", "manual", "manual_only"]),
        "init": bool,
        "timeout": vol.All(int, vol.Range(min=10, max=300)),
        "host_network": bool,
        "discovery": [str],
        "ingress": bool,
        "ingress_port": vol.All(int, vol.Range(min=0, max=65535)),
        "ingress_entry": str,
        "panel_icon": vol.Match(r"^mdi:[a-z0-9-]+$"),
        "panel_title": str,
        "panel_admin": bool,
        "watchdog": vol.Match(r"^(https?|tcp)://\[HOST\]:\[PORT:\d+\]"),
        "backup": vol.In(["hot", "cold"]),
        "backup_exclude": [str],
        "environment": {vol.Match(r"^\w+$"): str},
        "options": dict,
        "schema": {str: OPTION},
        "image": vol.Match(r"^[a-z0-9.-]+/[a-z0-9/_-]+$"),
        "stage": vol.In(["stable", "experimental", "deprecated"]),
        "homeassistant": str,
        "tmpfs": bool,
    }
)
TRANSLATIONS = vol.Schema(
    {
        "configuration": {str: {vol.Required("name"): str, "description": str}},
        "network": {str: str},
    }
)
REPOSITORY = vol.Schema({vol.Required("name"): str, "url": URL, "maintainer": str})


def load(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return load(APP / "config.yaml")


def parameters(command: click.Command) -> dict[str, click.Option]:
    return {str(each.name): each for each in command.params if isinstance(each, click.Option)}


def test_config_and_repository_are_what_supervisor_takes(config: dict[str, Any]) -> None:
    CONFIG(config)
    REPOSITORY(load(ROOT / "repository.yaml"))


def test_supervisor_finds_one_app_in_the_repository() -> None:
    """It takes each file of this name for one."""
    found = {
        path.relative_to(ROOT)
        for folder in ("builder", "custom_components", "docs", "script", "tests")
        for path in (ROOT / folder).rglob("config.*")
        if path.suffix in (".yaml", ".yml", ".json")
    }
    assert found == {PurePath("builder/app/config.yaml")}


def test_it_asks_for_no_rights(config: dict[str, Any]) -> None:
    """The schema above does not know these, so that nobody adds one unnoticed."""
    asked = {
        "privileged", "full_access", "docker_api", "hassio_api", "hassio_role", "map",
        "homeassistant_api", "auth_api", "host_pid", "host_ipc", "host_uts", "host_dbus",
        "devices", "usb", "uart", "gpio", "udev", "kernel_modules", "apparmor",
    } & set(config)  # fmt: skip
    assert not asked


def test_its_version_is_the_programs_so_that_it_names_an_image(config: dict[str, Any]) -> None:
    assert config["version"] == __version__
    assert f"## {__version__}\n" in (APP / "CHANGELOG.md").read_text()
    labels = dict(re.findall(r'io\.hass\.(\w+)="([^"]*)"', (APP.parent / "Dockerfile").read_text()))
    architectures = "|".join(sorted(config["arch"]))
    assert labels == {"type": "app", "arch": architectures, "version": __version__}


def test_its_options_are_options_of_the_program_within_their_limits(
    config: dict[str, Any],
) -> None:
    known = parameters(run)
    assert set(config["options"]) == set(config["schema"])
    for name, kind in config["schema"].items():
        option = known[name]
        if limits := re.fullmatch(r"int\((\d+),(\d+)\)", kind):
            allowed = option.type
            assert isinstance(allowed, click.IntRange)
            assert (allowed.min or 0) <= int(limits[1]) <= config["options"][name]
            assert config["options"][name] <= int(limits[2]) <= (allowed.max or 0)
        else:
            assert option.type is click.STRING


def test_its_variables_are_those_that_the_program_reads(config: dict[str, Any]) -> None:
    read = {each.envvar for command in (main, run) for each in parameters(command).values()}
    health = config["environment"]["ESPHOME_OFFLOAD_HEALTH"]
    assert config["watchdog"].endswith(health)
    assert "${ESPHOME_OFFLOAD_HEALTH:-/health}" in (APP.parent / "Dockerfile").read_text()
    assert set(config["environment"]) - {"ESPHOME_OFFLOAD_HEALTH"} <= read
    folder = PurePath(config["environment"]["ESPHOME_OFFLOAD_DATA"])
    assert folder.parent == PurePath("/data"), "the folder that is kept, which others can list"


def test_backups_hold_key_and_guests_alone(config: dict[str, Any]) -> None:
    """Supervisor compares the end of each path with these."""
    folder = DataFolder(Path(config["environment"]["ESPHOME_OFFLOAD_DATA"]))

    def excluded(path: Path) -> bool:
        return any(path.match(each) for each in config["backup_exclude"])

    assert all(map(excluded, (folder.cache, folder.control, folder.lock)))
    assert not any(map(excluded, (folder.identity, folder.guests, folder.attempts, folder.app)))


def test_home_assistant_starts_our_integration_with_its_offer(config: dict[str, Any]) -> None:
    assert config["discovery"] == [SERVICE] == [DOMAIN]


def test_the_watchdog_asks_where_the_program_listens(config: dict[str, Any]) -> None:
    assert config["watchdog"] == f"http://[HOST]:[PORT:{STANDALONE_PORT}]/health/live"


@pytest.mark.parametrize("language", ["en", "de", "nl"])
def test_every_option_is_explained(config: dict[str, Any], language: str) -> None:
    texts = load(APP / "translations" / f"{language}.yaml")
    TRANSLATIONS(texts)
    assert set(texts["configuration"]) == set(config["schema"])


@pytest.mark.parametrize(("name", "size"), [("icon.png", (128, 128)), ("logo.png", (250, 100))])
def test_its_pictures_have_the_recommended_size(name: str, size: tuple[int, int]) -> None:
    with Image.open(APP / name) as image:
        assert (image.format, image.size) == ("PNG", size)
