"""What a configuration says of its device, once packages and substitutions are done."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from .problems import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    type Config = dict[str, Any]

    class Values(Protocol):
        """What is known of where values come from."""

        def unknown(self, value: object) -> bool:
            """Return whether a value holds something that could not be read."""

        def secret(self, text: str) -> bool:
            """Return whether a text holds the value of a secret."""


PLATFORMS = (
    "esp32",
    "esp8266",
    "rp2",
    "rp2040",
    "bk72xx",
    "rtl87xx",
    "ln882x",
    "nrf52",
    "host",
)
BLOCKS = ("esphome", "esphomeyaml", *PLATFORMS)
_NETWORKS = ("wifi", "ethernet", "openthread")
# As ESPHome's own defaults; the tests compare them with it.
OTA_PORTS = {
    "esp8266": 8266,
    "esp32": 3232,
    "rp2": 2040,
    "rp2040": 2040,
    "bk72xx": 8892,
    "ln882x": 8820,
    "rtl87xx": 8892,
    "host": 8082,
}
_WEB_PORT = 80
_MAX_NAME = 31
_MAC_SUFFIX = len("-aabbcc")
_GOOD_AFTER = "1min"


@dataclass(frozen=True, slots=True)
class Known:
    """Whether all of a configuration is known; else what is not there may be elsewhere."""

    complete: bool


def of_device(config: Config, known: Known, values: Values) -> dict[str, object]:
    """Return what describes the device."""
    block = config["esphome"]
    platforms = [name for name in PLATFORMS if name in config]
    return {
        "friendly_name": _text(block.get("friendly_name"), 120, values),
        "comment": _comment(block.get("comment"), values),
        "platform": platforms[0] if platforms else None,
        "deep_sleep": "deep_sleep" in config,
        "adds_mac_suffix": adds_mac_suffix(block),
        "min_version": _min_version(block.get("min_version"), values),
        "complete": known.complete,
    }


def of_access(config: Config, name: str, known: Known, values: Values) -> dict[str, object]:
    """Return how the device is reached and flashed."""
    platform = next((each for each in PLATFORMS if each in config), None)
    ota = _ota(config, platform)
    address, given = _address(config, name)
    address = _text(address, 255, values)
    if not known.complete:
        ota = ota or None
        address = address if given else None
    access = {
        "ota": ota,
        "address": address,
        "address_given": given and address is not None,
        "api": "api" in config or (None if not known.complete else False),
        "good_after": _good_after(config, platform) if known.complete else None,
    }
    return {"access": {key: value for key, value in access.items() if value is not None}}


def adds_mac_suffix(block: Config) -> bool:
    """Return whether the device adds a part of its MAC address to its name."""
    return _boolean(block.get("name_add_mac_suffix"), default=False)


def name_fault(file: str, name: str, *, suffixed: bool) -> Fault | None:
    """Return why ESPHome does not accept a name."""
    if not name or not set(name) <= set(import_module("esphome.const").ALLOWED_NAME_CHARS):
        return Fault(file, "configuration_name_invalid")
    limit = _MAX_NAME - (_MAC_SUFFIX if suffixed else 0)
    if len(name) > limit:
        return Fault(file, "configuration_name_too_long", {"limit": str(limit)})
    return None


def sources(config: Config) -> Iterator[str]:
    """Yield the files and folders beside the YAML that the build reads."""
    block = config["esphome"]
    for key in ("includes", "includes_c"):
        yield from (each for each in _list(block.get(key)) if isinstance(each, str))
    for each in _list(config.get("external_components")):
        source = each.get("source") if isinstance(each, dict) else None
        if isinstance(source, dict) and source.get("type") == "local":
            source = source.get("path")
        if isinstance(source, str) and "://" not in source:
            yield source
    yield from _named_files(config, 0)


def _named_files(value: object, depth: int) -> Iterator[str]:
    """Yield what stands as ``file:``, of a font or an image."""
    if depth > 12:
        return
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "file" and isinstance(each, str):
                if "://" not in each and len(each) < 1024:
                    yield each
            elif isinstance(each, (dict, list)):
                yield from _named_files(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, (dict, list)):
                yield from _named_files(each, depth + 1)


def _ota(config: Config, platform: str | None) -> list[dict[str, object]] | None:
    found: list[dict[str, object]] = []
    for each in _list(config.get("ota")):
        if not isinstance(each, dict) or not isinstance(kind := each.get("platform"), str):
            # The form before ESPHome 2024.6, which is refused by now.
            continue
        port: object = None
        if kind == "esphome":
            port = _port(each.get("port"), OTA_PORTS.get(platform or ""))
        elif kind == "web_server":
            server = config.get("web_server")
            port = _port(server.get("port") if isinstance(server, dict) else None, _WEB_PORT)
        entry: dict[str, object] = {"platform": kind[:64]}
        if port is not None:
            entry["port"] = port
        if entry not in found:
            found.append(entry)
    return found[:16]


def _address(config: Config, name: str) -> tuple[str | None, bool]:
    """Return where ESPHome looks for the device, and whether the configuration says it."""
    for network in _NETWORKS:
        if network not in config:
            continue
        settings = config[network] if isinstance(config[network], dict) else {}
        given = settings.get("use_address") or _static_ip(settings)
        if given is None and network == "wifi":
            others = {_static_ip(each) for each in _list(settings.get("networks"))} - {None}
            given = others.pop() if len(others) == 1 else None
        if given is not None:
            return str(given), True
        domain = settings.get("domain") if network != "openthread" else None
        return f"{name}{domain if isinstance(domain, str) else '.local'}", False
    return None, False


def _static_ip(settings: object) -> str | None:
    manual = settings.get("manual_ip") if isinstance(settings, dict) else None
    address = manual.get("static_ip") if isinstance(manual, dict) else None
    return None if address is None else str(address)


def _good_after(config: Config, platform: str | None) -> float:
    """Return the seconds until the boot loader does not go back any more; 0: it never does."""
    safe_mode = config.get("safe_mode")
    safe_mode = safe_mode if isinstance(safe_mode, dict) else {}
    if (
        platform != "esp32"
        or "ota" not in config
        or not hasattr(import_module("esphome.const"), "CONF_ENABLE_OTA_ROLLBACK")
        or _boolean(safe_mode.get("disabled"), default=False)
        or not _boolean(_advanced(config).get("enable_ota_rollback"), default=True)
    ):
        return 0.0
    validation = import_module("esphome.config_validation")
    period = safe_mode.get("boot_is_good_after", _GOOD_AFTER)
    try:
        seconds = validation.positive_time_period_milliseconds(period).total_milliseconds / 1000
    except validation.Invalid:
        seconds = 60.0
    return min(float(seconds), 2.0**32)


def _advanced(config: Config) -> Config:
    board = config.get("esp32")
    framework = board.get("framework") if isinstance(board, dict) else None
    advanced = framework.get("advanced") if isinstance(framework, dict) else None
    return advanced if isinstance(advanced, dict) else {}


def _min_version(value: object, values: Values) -> str | None:
    text = _text(value, 32, values)
    return text if text and text.replace(".", "").isalnum() and text[0].isdigit() else None


def _comment(value: object, values: Values) -> str | None:
    text = _text(value, 255, values)
    return None if text is None or values.secret(text) else text


def _text(value: object, limit: int, values: Values) -> str | None:
    if value is None or isinstance(value, (dict, bool)) or values.unknown(value):
        return None
    text = "".join(each if each.isprintable() else " " for each in str(value)[:limit])
    return text.encode(errors="replace").decode() or None


def _port(value: object, default: int | None) -> int | None:
    if value is None:
        return default
    try:
        port = int(str(value))
    except ValueError:
        return default
    return port if 0 < port < 65536 else default


def _boolean(value: object, *, default: bool) -> bool:
    if value is None:
        return default
    if isinstance(value, str):
        return value.lower() in ("true", "yes", "on", "enable")
    return bool(value)


def _list(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]
