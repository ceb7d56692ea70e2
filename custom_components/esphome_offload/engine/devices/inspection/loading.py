"""Loading: ESPHome's YAML loader, with what it reads noted and what it cannot read left empty."""

from __future__ import annotations

from functools import partial
from importlib import import_module
import os
from pathlib import Path
import stat

from .problems import Fault, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_UNKNOWN = "\N{OBJECT REPLACEMENT CHARACTER}unknown\N{OBJECT REPLACEMENT CHARACTER}"
"""The value of a secret or an environment variable that there is not."""
_SECRET = 4
"""Shorter texts are in other texts by chance."""
_SOURCES = 2000
_FORGIVEN = {
    "!secret": "configuration_secret_unknown",
    "!env_var": "configuration_variable_of_environment",
}
"""Tags whose value may be missing without hiding the device, and what is wrong then."""


class Loading:
    """The loader, and what became of the files of the configuration that is being examined."""

    def __init__(self, config_dir: str) -> None:
        self.reads: dict[str, None] = {}
        self.faults: dict[str, Fault] = {}
        self._config_dir = config_dir
        self._yaml: Any = import_module("esphome.yaml_util")
        self._core: Any = import_module("esphome.core")
        self._yaml_error = import_module("yaml").YAMLError
        self.ordered: Any = import_module("esphome.util").OrderedDict
        self._secrets: dict[Path, tuple[object, dict[str, None]]] = {}
        self._strict = 0
        self._prepare()

    def begin(self) -> None:
        """Begin with another configuration."""
        self.reads = {}
        self.faults = {}
        self._strict = 0

    def load(self, path: Path) -> Any:
        """Return what a file holds; raises EsphomeError."""
        try:
            return self._yaml.load_yaml(path, track_document_range=False)
        except TypeError:
            # An ESPHome that always tracks.
            return self._yaml.load_yaml(path)

    def unknown(self, value: object) -> bool:
        """Return whether a value holds something that could not be read."""
        return isinstance(value, str) and _UNKNOWN in value

    def secret(self, text: str) -> bool:
        """Return whether a text holds the value of a secret."""
        return any(len(value) >= _SECRET and value in text for value in self._yaml._SECRET_VALUES)  # noqa: SLF001

    def note_source(self, path: Path) -> None:
        """Note a file or a folder, with all that is in it, that the build reads."""
        if path.is_dir():
            walked: set[str] = set()
            for folder, names, files in os.walk(path, followlinks=True):
                real = os.path.realpath(folder)
                if real in walked:
                    names.clear()
                    continue
                walked.add(real)
                names[:] = sorted(name for name in names if not name.startswith((".", "__")))
                self._note(Path(folder))
                for name in files:
                    if len(self.reads) > _SOURCES:
                        return
                    if not name.startswith(".") and not name.endswith(".pyc"):
                        self._note(Path(folder, name))
        elif path.is_file():
            self._note(path)

    def _note(self, path: Path) -> None:
        self.reads[os.path.relpath(path, self._config_dir)] = None

    def _prepare(self) -> None:
        """Put what notes and forgives into ESPHome's loader."""
        yaml = self._yaml
        # ESPHome 2026.6 has it under another name.
        name = "find_files" if hasattr(yaml, "find_files") else "_find_files"
        find_files = getattr(yaml, name)

        def find(directory: Path, pattern: str) -> Iterator[Path]:
            self._note(directory)
            for found in find_files(directory, pattern):
                self._note(found.parent)
                yield found

        setattr(yaml, name, find)
        self._load_internal = yaml._load_yaml_internal  # noqa: SLF001
        yaml._load_yaml_internal = self._load_file  # noqa: SLF001
        yaml._FAST_YAML_LOADER = partial(self._load_file, track_document_range=False)  # noqa: SLF001
        load_include = yaml.IncludeFile.load
        yaml.IncludeFile.load = lambda include: self._load_include(load_include, include)
        for loader in (yaml.ESPHomeLoader, yaml.ESPHomePurePythonLoader):
            for tag, key in _FORGIVEN.items():
                original = loader.yaml_constructors[tag]
                loader.add_constructor(tag, partial(self._value, original, key))

    def _load_file(self, fname: Path, **options: Any) -> Any:
        """Load a file as ESPHome does; secrets once, which it reads anew for each use."""
        load = partial(self._load_internal, fname, **options)
        if not self._strict or fname.name != "secrets.yaml":
            return self._regular(fname, load)
        if fname not in self._secrets:
            before, self.reads = self.reads, {}
            try:
                found = self._regular(fname, load)
            except self._core.EsphomeError as error:
                found = error
            self._secrets[fname] = found, self.reads
            self.reads = before
        found, reads = self._secrets[fname]
        self.reads |= reads
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def _load_include(self, load: Callable[[Any], Any], include: Any) -> Any:
        if self._strict:
            return load(include)
        try:
            return load(include)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of any kind: it is noted
            self._fault(error, include)
            include._content = self.ordered()  # noqa: SLF001
            return include._content  # noqa: SLF001

    def _regular(self, path: Path, load: Any) -> Any:
        """Load a file unless it is a pipe or the like, which would be waited for."""
        self._note(path)
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise self._core.EsphomeError("not a regular file") from OSError("not a file")
        except OSError as error:
            raise self._core.EsphomeError("cannot be read") from error
        return load()

    def _value(self, original: Any, key: str, loader: Any, node: Any) -> Any:
        """Return what a tag stands for; something unknown where there is no such thing."""
        self._strict += 1
        try:
            return original(loader, node)
        except (self._core.EsphomeError, self._yaml_error, TypeError) as error:
            name = str(node.value)[:64]
            file = os.path.relpath(loader.name, self._config_dir)
            fault = describe(error, file, self._relative)
            if fault.key != "configuration_syntax" or fault.file == file:
                fault = Fault(file, key, {"name": name if name.isidentifier() else "?"})
            self.faults.setdefault(f"{fault.file}:{fault.key}", fault)
            return _UNKNOWN
        finally:
            self._strict -= 1

    def _fault(self, error: Exception, include: Any) -> None:
        """Note that an include cannot be read: missing is the includer's fault, else its own."""
        parent = self._relative(str(include.parent_file))
        if include.has_unresolved_file():
            fault = Fault(parent, "configuration_include_undefined")
        else:
            own = self._relative(str(include.parent_file.parent / include.file))
            fault = describe(error, own, self._relative)
            if fault.key == "configuration_file_missing":
                fault = Fault(parent, fault.key, {"missing": own})
        self.faults.setdefault(f"{fault.file}:{fault.key}", fault)

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._config_dir)
