"""The node that firmware is made for, read from what ESPHome validated and from the image."""

from collections.abc import Callable
import json
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.model import Node
from custom_components.esphome_offload.engine.build.node import read_node

ELF = b"\x7fELF program "
# Of an ESP32: header of the image, header of its first segment, esp_app_desc_t.
ESP32 = b"\xe9" + bytes(31) + b"\x32\x54\xcd\xab" + bytes(12) + b"version".ljust(32, b"\0")

type Read = Callable[..., Node]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(content: bytes, name: str = "lamp", toolchain: str = "", **config: object) -> Node:
        (tmp_path / "image").write_bytes(content)
        (tmp_path / "json").write_text(json.dumps({"toolchain": toolchain}))
        (tmp_path / "validated.json").write_text(json.dumps({"config": config}))
        validated = {key: tmp_path / key for key in ("json", "validated.json")}
        return read_node(validated, name, tmp_path / "image")

    return read


def test_the_name_stands_in_the_image_of_the_program(read: Read) -> None:
    assert read(ELF + b"\0lamp\0").name == "lamp"
    # With a suffix, a place for it follows.
    assert read(ELF + b"\0lamp-ffffff\0").name == "lamp"
    assert read(ELF + b"\0lamps\0").name == ""
    assert read(ELF + b"\0desk\0").name == ""


def test_esp_idf_images_describe_themselves(read: Read) -> None:
    image = ESP32 + b"desk".ljust(32, b"\0") + b"\0lamp\0"
    assert read(image, "desk", "esp-idf").name == "desk"
    assert read(image, "lamp", "esp-idf").name == ""
    # PlatformIO calls the project by its folder, which the configuration may choose.
    assert read(image, "lamp", "platformio").name == "lamp"


@pytest.mark.parametrize("image", [b"", b"\x1f\x8b compressed", b"UF2\n blocks"])
def test_what_cannot_be_read_is_believed(read: Read, image: bytes) -> None:
    assert read(image).name == "lamp"


def test_without_what_was_validated_only_the_name_is_known(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(ELF + b"lamp\0")
    assert read_node({}, "lamp", image) == Node("lamp")
    (tmp_path / "old").write_text("esphome:\n")
    (tmp_path / "list").write_text("[]")
    validated = {"json": tmp_path / "list", "validated.json": tmp_path / "old"}
    assert read_node(validated, "lamp", image) == Node("lamp")


def rollback(*, enabled: bool) -> dict[str, object]:
    return {"framework": {"advanced": {"enable_ota_rollback": enabled}}}


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ({"esp32": rollback(enabled=True)}, 60.0),
        ({"esp32": rollback(enabled=True), "safe_mode": {"boot_is_good_after": "90s"}}, 90.0),
        ({"nrf52": rollback(enabled=True), "safe_mode": {"boot_is_good_after": "2min"}}, 120.0),
        ({"esp32": rollback(enabled=False), "safe_mode": {"boot_is_good_after": "90s"}}, 0.0),
        ({"esp8266": {}, "safe_mode": {"boot_is_good_after": "90s"}}, 0.0),
        ({"host": {}, "safe_mode": {"boot_is_good_after": "1min"}}, 0.0),
        ({"host": {}, "safe_mode": {"boot_is_good_after": "5s"}}, 5.0),
    ],
)
def test_how_long_a_boot_loader_may_go_back(
    read: Read, config: dict[str, object], seconds: float
) -> None:
    assert read(ELF + b"lamp\0", **config).good_after == seconds


def test_with_a_mac_suffix_the_stem_counts(read: Read) -> None:
    plain = read(ELF + b"lamp\0")
    assert plain.is_of("lamp")
    assert not plain.is_of("lamp-a1b2c3")
    assert not plain.is_of("desk")
    suffixed = read(ELF + b"lamp-ffffff\0", esphome={"name_add_mac_suffix": True})
    assert suffixed.is_of("lamp")
    assert suffixed.is_of("lamp-a1b2c3")
    assert not suffixed.is_of("lamp-kitchen")
    assert not suffixed.is_of("a1b2c3")


def test_an_image_that_is_not_of_its_name_is_of_no_device(read: Read) -> None:
    assert not read(ELF + b"desk\0", esphome={"name_add_mac_suffix": True}).is_of("-a1b2c3")
    assert not read(ELF + b"desk\0").is_of("")


@pytest.mark.parametrize(
    ("config", "ota_port", "api_port"),
    [
        ({"ota": [{"platform": "esphome", "port": 3232}], "api": {"port": 6053}}, 3232, 6053),
        ({"ota": [{"platform": "web_server"}], "web_server": {"port": 80}}, 80, None),
        ({"ota": [{"platform": "web_server"}, {"platform": "esphome", "port": 8266}]}, 8266, None),
        ({"ota": [{"platform": "http_request"}], "api": {"port": "6053"}}, None, None),
        ({"ota": "none"}, None, None),
    ],
)
def test_where_a_device_listens(
    read: Read, config: dict[str, object], ota_port: int | None, api_port: int | None
) -> None:
    node = read(ELF + b"lamp\0", **config)
    assert (node.ota_port, node.api_port) == (ota_port, api_port)


def test_where_esphome_looks_for_a_device(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(ELF + b"lamp\0")
    (tmp_path / "json").write_text('{"address": "lamp.local"}')
    node = read_node({"json": tmp_path / "json"}, "lamp", tmp_path / "image")
    assert node.address == "lamp.local"
