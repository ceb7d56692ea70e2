"""Finds the configurations in ESPHome's folder and keeps what it found up to date."""

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
# What a problem of the folder itself is filed under.
FOLDER: Final = "."


@dataclass(frozen=True, slots=True)
class _Known:
    """What one file came to, and the signatures of everything that went in."""

    signatures: Mapping[str, Signature | None]
    configuration: Configuration | None = None
    problem: str | None = None
    # A file that cannot be read; otherwise a problem counts only when nobody includes the file.
    broken: bool = False
    faults: tuple[tuple[str, str], ...] = ()


class Scanner:
    """The configurations of one folder. Blocking; may be used from several threads."""

    def __init__(self, config_dir: Path) -> None:
        """Look at ``config_dir``, which need not exist yet."""
        self._config_dir = os.path.realpath(config_dir)
        self._known: dict[str, _Known] = {}
        self._paths: dict[str, Path] = {}
        self._result = ScanResult({}, {})
        self._lock = threading.Lock()

    def scan(self) -> ScanResult:
        """Return what the folder holds now.

        Only files that changed are read again, judged by time, size and inode of everything
        that went in. Never raises: while the folder cannot be listed, the configurations stay
        what they were and the problem is filed under ``FOLDER``. The same object comes back
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
        """Return a text that changes with the content of any file of a configuration.

        That is its YAML files with everything they include, and ``secrets.yaml`` (all of it,
        also a secret that this configuration does not use). Not in it: sources of local
        ``external_components``, ``includes:`` and remote packages. The text stays the same over
        restarts and when the folder moves. None when there is no such configuration any more;
        never raises, any other missing file counts as such.
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
            # Files are made by people: one that nobody thought of must not cost the others.
            _LOGGER.exception("The configuration %s cannot be understood", name)
            path = self._own(name)
            return _Known(
                {path: reader.signature(path)},
                problem=f"it cannot be understood: {error!r}",
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
        """Return one object per path, as most configurations share most of their files."""
        return self._paths.setdefault(path, Path(path))

    def _forget_paths(self) -> None:
        used = {path: None for known in self._known.values() for path in known.signatures}
        self._paths = {path: self._paths[path] for path in used if path in self._paths}


def _text(name: str) -> str:
    """Return what can be shown and stored: one file name that cannot stops whole registries."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it says so
        return False
