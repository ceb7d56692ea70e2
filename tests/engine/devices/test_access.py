"""How a device is reached and flashed, as the real ESPHome reads its configuration."""

import json
from pathlib import Path
import subprocess

import pytest

from custom_components.esphome_offload.engine.device_access import DeviceAccess, OtaPlatform
from custom_components.esphome_offload.engine.devices.inspection.facts import OTA_PORTS

from .folder import CACHE, VERSION, Cases

pytestmark = pytest.mark.slow

ESP32 = "esphome: {name: hall}\nesp32: {board: esp32dev}\n"
OTA = "ota: [{platform: esphome}]\n"
NATIVE = OtaPlatform("esphome", 3232)
WEB = OtaPlatform("web_server", 80)


def access(**known: object) -> DeviceAccess:
    return DeviceAccess(**{"ota": (), "api": False, "good_after": 0.0, **known})  # type: ignore[arg-type]


CASES: dict[str, tuple[str, DeviceAccess]] = {
    "nothing": (ESP32, access()),
    "plain": (
        ESP32 + OTA + "wifi:\napi:\n",
        access(ota=(NATIVE,), address="hall.local", api=True, good_after=60.0),
    ),
    "another platform": (
        "esphome: {name: hall}\nesp8266: {board: d1}\n" + OTA,
        access(ota=(OtaPlatform("esphome", 8266),)),
    ),
    "the former name of a platform": (
        "esphome: {name: hall}\nrp2040: {board: rpipicow}\n" + OTA,
        access(ota=(OtaPlatform("esphome", 2040),)),
    ),
    "several": (
        ESP32 + "ota: [{platform: web_server}, {platform: esphome, port: 3333}]\n"
        "web_server: {port: 8080}\n",
        access(
            ota=(OtaPlatform("web_server", 8080), OtaPlatform("esphome", 3333)), good_after=60.0
        ),
    ),
    "web server": (
        ESP32 + "ota: {platform: web_server}\nweb_server:\n",
        access(ota=(WEB,), good_after=60.0),
    ),
    "something else": (
        ESP32 + "ota: [{platform: http_request}]\n",
        access(ota=(OtaPlatform("http_request"),), good_after=60.0),
    ),
    "use address": (
        ESP32 + "wifi: {use_address: 192.168.1.9, manual_ip: {static_ip: 192.168.1.8}}\n",
        access(address="192.168.1.9", address_given=True),
    ),
    "IPv6": (
        ESP32 + "wifi: {use_address: 'fe80::1%eth0'}\n",
        access(address="fe80::1%eth0", address_given=True),
    ),
    "manual IP": (
        ESP32 + "ethernet: {manual_ip: {static_ip: 192.168.1.8}}\n",
        access(address="192.168.1.8", address_given=True),
    ),
    "manual IP of a network": (
        ESP32 + "wifi: {networks: [{ssid: a, manual_ip: {static_ip: 10.0.0.3}}, {ssid: b}]}\n",
        access(address="10.0.0.3", address_given=True),
    ),
    "domain": (ESP32 + "wifi: {domain: .lan}\n", access(address="hall.lan")),
    "thread": (ESP32 + "openthread:\n", access(address="hall.local")),
    "no way back": (
        ESP32.replace("esp32dev", "esp32dev, framework: {advanced: {enable_ota_rollback: false}}")
        + OTA,
        access(ota=(NATIVE,)),
    ),
    "no safe mode": (ESP32 + OTA + "safe_mode: {disabled: true}\n", access(ota=(NATIVE,))),
    "good later": (
        ESP32 + OTA + "safe_mode: {boot_is_good_after: 2min}\n",
        access(ota=(NATIVE,), good_after=120.0),
    ),
    "a package that is not there": (
        ESP32 + "packages: [github://somebody/something/a.yaml]\nwifi:\napi:\n",
        DeviceAccess(api=True),
    ),
    "a secret address": (
        ESP32 + "wifi: {use_address: !secret gone }\n",
        access(address_given=False),
    ),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    folder = tmp_path_factory.mktemp("access")
    cases = Cases(folder)
    for name, (text, _) in CASES.items():
        cases.add(name, {"a.yaml": text})
    cases.add("version", {"a.yaml": ESP32.replace("hall", "hall, min_version: 2026.9.0")})
    sources = {
        "a.yaml": ESP32.replace("hall", "hall, includes: [a.h, lib]")
        + "external_components: [{source: {type: local, path: parts}}, {source: github://a/b}]\n"
        "font: [{file: fonts/x.ttf}, {file: gfonts://Roboto}]\n",
        "a.h": "",
        "lib/b.h": "",
        "parts/foo/__init__.py": "",
        "parts/foo/__pycache__/x.pyc": "",
        "fonts/x.ttf": "",
        "elsewhere/c.h": "",
    }
    cases.add("sources", sources)
    lib = folder / "sources" / "lib"
    (lib / "linked").symlink_to("../elsewhere")
    (lib / "round").symlink_to(".")
    return cases


@pytest.mark.parametrize("case", CASES)
def test_access(cases: Cases, case: str) -> None:
    assert cases.configuration(case).access == CASES[case][1]


def test_the_least_version(cases: Cases) -> None:
    assert cases.configuration("version").min_version == "2026.9.0"


def test_the_local_files_that_a_build_reads_are_known(cases: Cases) -> None:
    reads = {each.removeprefix("sources/") for each in cases.answer("sources").reads}
    assert reads == {
        "a.yaml",
        "a.h",
        "lib",
        "lib/b.h",
        "lib/linked",
        "lib/linked/c.h",
        "parts",
        "parts/foo",
        "parts/foo/__init__.py",
        "fonts/x.ttf",
    }


def test_the_ports_are_those_of_esphome() -> None:
    program = (
        "import json, esphome.components.esphome.ota as ota\n"
        "from esphome.core import CORE\n"
        "from esphome.const import *\n"
        "from esphome import config_validation as cv\n"
        "schema = ota.CONFIG_SCHEMA.validators[0].schema\n"
        "port = next(key for key in schema if key == 'port')\n"
        "print(json.dumps({k: v() for k, v in port._defaults.items()}))\n"
    )
    python = CACHE / "toolchains" / VERSION / "bin" / "python"
    done = subprocess.run(
        [python, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ports = json.loads(done.stdout)
    ours = {name: port for name, port in OTA_PORTS.items() if name != "rp2040"}
    assert {name: ports[name] for name in ours if name in ports} == ours
    assert Path(python).exists()
