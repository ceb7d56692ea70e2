"""The node that firmware is made for, by what ESPHome and the image itself say."""

from collections.abc import Mapping
from dataclasses import replace
import json
import mmap
from pathlib import Path
import re

from .model import Node

_ESP_MAGIC = b"\xe9"
_ELF_MAGIC = b"\x7fELF"
_DESCRIPTION = 32
"""Where ``esp_app_desc_t`` is in an image: after its header and that of the first segment."""
_DESCRIPTION_MAGIC = b"\x32\x54\xcd\xab"
_PROJECT = slice(_DESCRIPTION + 48, _DESCRIPTION + 80)
_NATIVE_IDF = "esp-idf"
"""The toolchain with which ESPHome itself calls the project by the node name."""
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PERIOD = re.compile(r"(\d{1,9})(ms|s|min|h|d)")
_GOOD_AFTER = 60.0

type _Json = dict[str, object]


def read_node(validated: Mapping[str, Path], name: str, image: Path) -> Node:
    """Return the node that an image is for. Blocks; raises OSError.

    ``name`` is what the builder says; ``validated`` as in ``Firmware``.
    """
    storage, config = (_read(validated.get(key)) for key in ("json", "validated.json"))
    config = _section(config, "config")
    node = Node(
        name=name,
        adds_mac_suffix=_section(config, "esphome").get("name_add_mac_suffix") is True,
        good_after=_good_after(config),
        address=address if isinstance(address := storage.get("address"), str) else None,
        ota_port=_ota_port(config),
        api_port=_port(_section(config, "api").get("port")),
    )
    exact = storage.get("toolchain") == _NATIVE_IDF
    return node if _names(image, name, exact=exact) else replace(node, name="")


def _names(image: Path, name: str, *, exact: bool) -> bool:
    """Return whether an image can be that of a node, as far as it can be read.

    The name stands in each as a string; where it is compressed nothing is known. ``exact``: the
    description of the application has it in its place.
    """
    if not image.stat().st_size:
        return True
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:1] != _ESP_MAGIC and content[:4] != _ELF_MAGIC:
            return True
        described = content[_DESCRIPTION : _DESCRIPTION + 4] == _DESCRIPTION_MAGIC
        if exact and described:
            return content[_PROJECT].rstrip(b"\0") == name.encode()
        # With a suffix there is a place for it behind the name.
        return any(content.find(name.encode() + end) >= 0 for end in (b"\0", b"-"))


def _ota_port(config: _Json) -> int | None:
    """Return the port of the platform that ESPHome flashes with."""
    platforms = config.get("ota")
    ports = {
        str(each.get("platform")): each.get("port")
        for each in (platforms if isinstance(platforms, list) else ())
        if isinstance(each, dict)
    }
    if "web_server" in ports:
        ports["web_server"] = _section(config, "web_server").get("port")
    return _port(ports.get("esphome", ports.get("web_server")))


def _port(port: object) -> int | None:
    return port if isinstance(port, int) and 0 < port < 2**16 else None


def _good_after(config: _Json) -> float:
    safe_mode = _section(config, "safe_mode")
    found = _PERIOD.fullmatch(str(safe_mode.get("boot_is_good_after", "")))
    seconds = _GOOD_AFTER if found is None else int(found[1]) * _SECONDS[found[2]]
    for platform in ("esp32", "nrf52"):
        advanced = _section(_section(_section(config, platform), "framework"), "advanced")
        if advanced.get("enable_ota_rollback") is True:
            return seconds
    # A host program has no boot loader, and nobody waits for it; but what starts it may act as one,
    # and whoever sets the time says so.
    return seconds if "host" in config and seconds != _GOOD_AFTER else 0.0


def _read(path: Path | None) -> _Json:
    if path is None:
        return {}
    try:
        content: object = json.loads(path.read_bytes())
    except ValueError, RecursionError:
        return {}
    return content if isinstance(content, dict) else {}


def _section(config: _Json, key: str) -> _Json:
    section = config.get(key)
    return section if isinstance(section, dict) else {}
