"""Examiner: one configuration through ESPHome's own loader, packages and substitutions.

Those passes end at the first thing that is wrong. To know a device in spite of it, an include or a
secret that cannot be read is noted and left empty here.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
import logging
import os
from pathlib import Path
import re
import stat

from . import facts
from .clones import Clones
from .loading import Loading
from .problems import Fault, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    type Config = dict[str, Any]

_SAYS_DEVICE = re.compile(
    rb"^(?:esphome|esphomeyaml|" + "|".join(facts.PLATFORMS).encode() + rb")\s*:", re.MULTILINE
)
"""A file that is no valid YAML says so that it is somebody's device."""
_UNDEFINED = re.compile(r"\$\{?\s*([A-Za-z_]\w{0,63})")
_READS = 4096
"""Paths that an answer names, at most."""


class OutOfTime(BaseException):
    """The time for one file is over."""


class Examiner:
    """Examines the configurations of one folder. ESPHome is imported and prepared once."""

    def __init__(self, config_dir: str, clones: list[str], *, fetch: bool) -> None:
        self.exhausted = False
        logging.disable(logging.CRITICAL)
        self._config_dir = config_dir
        self._config = import_module("esphome.config")
        self._packages = import_module("esphome.components.packages")
        self._substitutions: Any = import_module("esphome.components.substitutions")
        self._core = import_module("esphome.core")
        self._invalid = import_module("voluptuous").Invalid
        self._loading = Loading(config_dir)
        self._clones = Clones(config_dir, clones, fetch=fetch)
        # They are logged otherwise, which costs time, and with the values.
        setattr(self._substitutions, "_warn_unresolved_variables", lambda _errors: None)  # noqa: B010

    def failed(self, name: str, key: str) -> dict[str, object]:
        """Return the answer about a file of which nothing is known but that it does harm."""
        return {
            "file": name,
            "reads": [name],
            "broken": True,
            "says_device": True,
            "problem": Fault(name, key).reason,
        }

    def examine(self, name: str) -> dict[str, object]:
        """Return what is known of a file; raises OutOfTime and MemoryError."""
        path = Path(self._config_dir, name)
        self._loading.begin()
        self._clones.missing = 0
        self._core.CORE.reset()
        self._core.CORE.config_path = path
        try:
            answer = self._examine(name, path)
        except (MemoryError, OutOfTime) as error:
            memory = isinstance(error, MemoryError)
            self.exhausted = True
            answer = self._without_passes(
                path, Fault(name, f"configuration_takes_{'memory' if memory else 'time'}")
            )
        reads = list(self._loading.reads)
        return {
            "file": name,
            "reads": [each for each in reads if _is_text(each)][:_READS],
            "faults": [fault.answer for fault in self._loading.faults.values()],
            "remote_packages_missing": self._clones.missing > 0,
            **answer,
        }

    def _examine(self, name: str, path: Path) -> dict[str, object]:
        try:
            config = self._loading.load(path)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of any kind: it is told
            fault = describe(error, name, self._relative)
            return {"broken": True, "says_device": _says_device(path), "problem": fault.reason}
        if not isinstance(config, dict):
            return {}
        if not _could_be_a_device(config):
            if _says_device(path):
                # A second document is the configuration then, and this one is only its heading.
                return {
                    "says_device": True,
                    "problem": Fault(name, "configuration_without_section").reason,
                }
            return {}
        own = {
            "says_device": any(key in config for key in facts.BLOCKS),
            "own_substitutions": "substitutions" in config,
        }
        try:
            config = self._pass(config)
        except (self._invalid, self._core.EsphomeError, RecursionError) as error:
            fault = describe(error, name, self._relative)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - expressions in the file are code and raise anything
            fault = Fault(name, "configuration_crashes_esphome")
        else:
            return own | self._facts(name, config)
        return own | self._without_passes(path, fault)

    def _pass(self, config: Config) -> Config:
        if "packages" in config:
            config = self._packages.do_packages_pass(config)
        config = self._substitutions.do_substitution_pass(config, None)
        if "packages" in config:
            config = self._packages.merge_packages(config)
        config.pop("substitutions", None)
        with suppress(AttributeError):
            self._config._resolve_component_aliases(config)  # noqa: SLF001
        self._config.resolve_extend_remove(config)
        if "esphomeyaml" in config:
            config["esphome"] = config.pop("esphomeyaml")
        return config

    def _facts(self, name: str, config: Config) -> dict[str, object]:
        block = config.get("esphome")
        if block is None:
            unfetched = Fault(name, "configuration_package_not_fetched")
            return {"problem": unfetched.reason} if self._clones.missing else {}
        known = facts.Known(complete=self._clones.missing == 0)
        answer: dict[str, object] = {"block": True}
        if not isinstance(block, dict):
            return answer | {"problem": Fault(name, "configuration_name_missing").reason}
        answer |= facts.of_device(config, known, self._loading)
        fault = self._name_fault(name, block)
        if fault is None:
            answer["node_name"] = str(block["name"])
            answer |= facts.of_access(config, str(block["name"]), known, self._loading)
        else:
            answer["problem"] = fault.reason
        for source in facts.sources(config):
            self._loading.note_source(Path(self._config_dir, name).parent / source)
        return answer

    def _name_fault(self, file: str, block: Config) -> Fault | None:
        name = block.get("name")
        if self._loading.unknown(name):
            return next(iter(self._loading.faults.values()), Fault(file, "configuration_refused"))
        unfetched = Fault(file, "configuration_package_not_fetched")
        cause = next(iter(self._loading.faults.values()), None)
        if name is None:
            if self._clones.missing:
                return unfetched
            return cause or Fault(file, "configuration_name_missing")
        if not isinstance(name, str):
            return Fault(file, "configuration_name_not_text")
        if (undefined := _UNDEFINED.search(name)) is not None:
            if self._clones.missing:
                return unfetched
            return cause or Fault(file, "configuration_name_undefined", {"variable": undefined[1]})
        return facts.name_fault(file, name, suffixed=facts.adds_mac_suffix(block))

    def _without_passes(self, path: Path, fault: Fault) -> dict[str, object]:
        """Return the name if nothing but this file's own substitutions is needed for it."""
        answer: dict[str, object] = {"problem": fault.reason}
        # The fault is told already, and a file with one may break this in any way.
        with suppress(Exception):
            config = self._loading.load(path)
            block = config.get("esphome") or config.get("esphomeyaml")
            wanted = ("name", "name_add_mac_suffix")
            small = {"esphome": {key: block[key] for key in wanted if key in block}}
            small |= {key: config[key] for key in ("substitutions",) if key in config}
            platforms = {key: config[key] for key in facts.PLATFORMS if key in config}
            small = self._substitutions.do_substitution_pass(self._loading.ordered(small), None)
            answer["block"] = True
            answer |= facts.of_device(
                {"esphome": small["esphome"], **platforms},
                facts.Known(complete=False),
                self._loading,
            )
            if self._name_fault("", small["esphome"]) is None:
                answer["node_name"] = str(small["esphome"]["name"])
        return answer

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._config_dir)


def _could_be_a_device(config: Config) -> bool:
    return any(key in (*facts.BLOCKS, "packages") or "$" in key for key in config)


def _says_device(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return True
        with path.open("rb") as file:
            text = file.read(1024 * 1024)
    except OSError:
        return True
    # Encrypted files are nobody's devices.
    return b"\0" not in text and _SAYS_DEVICE.search(text) is not None


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeError:
        return False
    return len(path) <= 1024 and path.isprintable()
