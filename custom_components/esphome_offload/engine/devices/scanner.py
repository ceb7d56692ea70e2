"""Scanner: finds the configurations in ESPHome's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import logging
import os
from pathlib import Path
import threading
from typing import Final

from .model import Configuration, Problem, ScanResult
from .resolver import ConfigurationResolver, Resolution
from .yaml_nodes import SourceError
from .yaml_reader import Signature, YamlReader

_LOGGER = logging.getLogger(__name__)

_SECRETS_FILES: Final = frozenset({"secrets.yaml", "secrets.yml"})
_SUFFIXES: Final = (".yaml", ".yml")
FOLDER: Final = "."
"""The key of a problem with the folder itself."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The result for one file, and the signatures of all paths that it depends on."""

    signatures: Mapping[str, Signature | None]
    configuration: Configuration | None = None
    problem: str | None = None
    # The file cannot be read. Any other problem counts only when no other file includes it.
    broken: bool = False
    faults: tuple[tuple[str, str], ...] = ()


class Scanner:
    """The configurations of one folder. Blocking; may be used from several threads."""

    def __init__(self, config_dir: Path) -> None:
        self._config_dir = os.path.realpath(config_dir)
        self._known: dict[str, _Known] = {}
        self._paths: dict[str, Path] = {}
        self._result = ScanResult({}, {})
        self._lock = threading.Lock()

    def scan(self) -> ScanResult:
        """Return the present configurations and problems.

        Only files that changed are read again, judged by time, size and inode of everything
        that they depend on. Never raises: while the folder cannot be listed, the configurations
        stay as they were and the problem has the key ``FOLDER``. The same object is returned
        when nothing changed.
        """
        with self._lock:
            try:
                names = self._list()
            except OSError as error:
                reason = f"the folder cannot be read: {error.strerror or error}"
                result = ScanResult(self._result.configurations, {FOLDER: Problem(FOLDER, reason)})
            else:
                reader = YamlReader()
                known = {name: self._look(name, reader) for name in names}
                self._known = known
                self._forget_paths()
                result = self._assemble()
            if result != self._result:
                self._result = result
            return self._result

    def fingerprint(self, configuration: str) -> str | None:
        """Return a digest of the content of all files of a configuration.

        These are its YAML files with everything they include, and all of ``secrets.yaml``, but
        not the sources of local ``external_components``, ``includes:`` and remote packages. The
        digest is the same after a restart and when the folder moves. None when the
        configuration does not exist; never raises, other missing files count as missing.
        """
        with self._lock:
            reader = YamlReader()
            known = self._look(configuration, reader)
            if configuration in self._known:
                self._known[configuration] = known
        if known.signatures[self._own(configuration)] is None:
            return None
        digest = hashlib.sha256()
        for path in sorted(known.signatures):
            digest.update(self._relative(path).encode(errors="surrogateescape") + b"\0")
            try:
                content = reader.content(path)
            except OSError, SourceError, ValueError:
                digest.update(b"-")
            else:
                digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def _list(self) -> list[str]:
        with os.scandir(self._config_dir) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name.endswith(_SUFFIXES)
                and not entry.name.startswith(".")
                and entry.name not in _SECRETS_FILES
                and not _is_folder(entry)
            )

    def _look(self, name: str, reader: YamlReader) -> _Known:
        known = self._known.get(name)
        if known is not None and all(
            reader.signature(path) == signature for path, signature in known.signatures.items()
        ):
            return known
        try:
            return self._read(name, reader)
        except Exception as error:
            # Whatever a file holds, it must not hide the others.
            _LOGGER.exception("The configuration %s cannot be read", name)
            path = self._own(name)
            return _Known(
                {path: reader.signature(path)},
                problem=f"it cannot be read ({type(error).__name__})",
                broken=True,
            )

    def _read(self, name: str, reader: YamlReader) -> _Known:
        path = self._own(name)
        if _text(name) != name:
            return _Known(
                {path: reader.signature(path)},
                problem="its name is not UTF-8 text; rename it",
                broken=True,
            )
        document = reader.document(path)
        if document.error is not None:
            own = document.error.file == path
            return _Known(
                self._signatures(document.touched, reader),
                problem=str(document.error)
                if own
                else f"in {self._relative(document.error.file)}: {document.error}",
                broken=True,
                faults=self._faults([document.error]),
            )
        resolution = ConfigurationResolver(reader, self._config_dir).resolve(document)
        signatures = self._signatures(resolution.touched, reader)
        return _Known(
            signatures,
            configuration=self._configuration(name, path, resolution, signatures),
            problem=resolution.reason,
            faults=self._faults(resolution.faults),
        )

    def _configuration(
        self,
        name: str,
        path: str,
        resolution: Resolution,
        signatures: Mapping[str, Signature | None],
    ) -> Configuration | None:
        identity = resolution.identity
        if identity is None:
            return None
        others = sorted(
            other
            for other, signature in signatures.items()
            if signature is not None and other != path and other.endswith(_SUFFIXES)
        )
        return Configuration(
            file_name=name,
            node_name=identity.node_name,
            friendly_name=identity.friendly_name,
            comment=identity.comment,
            platform=identity.platform,
            deep_sleep=identity.deep_sleep,
            files=tuple(self._path(file) for file in (path, *others)),
            adds_mac_suffix=identity.adds_mac_suffix,
        )

    def _assemble(self) -> ScanResult:
        configurations: dict[str, Configuration] = {}
        problems: dict[str, Problem] = {}
        included: set[str] = set()
        for name, known in self._known.items():
            own = self._own(name)
            included.update(path for path in known.signatures if path != own)
        for name, known in self._known.items():
            if known.configuration is not None:
                configurations[name] = known.configuration
            own = self._own(name)
            if known.problem is not None and (known.broken or own not in included):
                problems[_text(name)] = Problem(_text(name), _text(known.problem))
        for known in self._known.values():
            for file, reason in known.faults:
                problems.setdefault(_text(file), Problem(_text(file), _text(reason)))
        return ScanResult(configurations, problems)

    def _signatures(
        self, touched: set[str] | frozenset[str], reader: YamlReader
    ) -> dict[str, Signature | None]:
        return {path: reader.signature(path) for path in touched}

    def _faults(
        self, errors: list[SourceError] | tuple[SourceError, ...]
    ) -> tuple[tuple[str, str], ...]:
        return tuple((self._relative(error.file), str(error)) for error in errors)

    def _own(self, name: str) -> str:
        return os.path.join(self._config_dir, name)  # noqa: PTH118 paths are texts here

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._config_dir)

    def _path(self, path: str) -> Path:
        """Return the same object for the same path: configurations share most of their files."""
        return self._paths.setdefault(path, Path(path))

    def _forget_paths(self) -> None:
        used = {path: None for known in self._known.values() for path in known.signatures}
        self._paths = {path: self._paths[path] for path in used if path in self._paths}


def _text(name: str) -> str:
    """Return a text that can be stored: a registry with a surrogate in it cannot be saved."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; the error comes when it is read
        return False
