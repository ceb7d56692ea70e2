"""``esphome bundle`` that also takes files from around the folder, and keeps what it validated.

Run as a program by a toolchain's Python, never imported.

ESPHome's own bundle has no file from outside of the configuration's folder, and none by the name of
a link. Here it takes what lies in the folder given with ``--around=``, which is Home Assistant's
configuration folder. ESPHome still says which files it needs; only the names that they get are ours:
those by which the configuration knows them, as if nothing were a link. Where one leads out of
the folder, the paths in the bundle begin with the configuration's folder (``esphome/lamp.yaml``,
``common/base.yaml``); else they are ESPHome's own (``lamp.yaml``).

An upload that finds the validated configuration need not validate again, which on a small board
takes longer than the upload itself; ESPHome keeps it after ``compile`` and ``upload``, but not after
``bundle``.

Both are done with ESPHome's own functions. Where they are not to be had, it is the plain command.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
import io
import logging
import os
from pathlib import Path
import sys
import tarfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_LOGGER = logging.getLogger("esphome.bundle")
_AROUND = "--around="
_LEFT_OUT = "Bundle: skipping file outside config directory: %s"
_DEPENDS = "depends"
"""In the manifest: files that a bundle has the used values of."""
_SECRETS = ("secrets.yaml", "secrets.yml")
_PRIVATE = (".storage", ".cloud")
"""Home Assistant's own, even where the configuration's folder is Home Assistant's."""
_ANOTHER_ESPHOME = (AttributeError, KeyError, TypeError)
_NOT_FOR_DEVICES = (".db", ".db-shm", ".db-wal", ".log", ".tar")


class _Loads:
    """The YAML files that ESPHome reads, by the paths by which it does, and their secrets."""

    def __init__(self, yaml_util: Any) -> None:
        self.read: dict[Path, dict[Path, None]] = {}
        self.keys: dict[Path, set[str]] = {}
        self._plain: set[Path] = set()
        self._secret: set[Path] = set()
        yaml_util._load_listeners.append(self._note)  # noqa: SLF001 - nothing else tells
        load = yaml_util.IncludeFile.load

        def note_and_load(include: Any) -> Any:
            parent = include.parent_file
            kind = self._secret if self.is_secret(parent) else self._plain
            kind.add(parent.parent / include.file)
            return load(include)

        yaml_util.IncludeFile.load = note_and_load
        for loader in (yaml_util.ESPHomeLoader, yaml_util.ESPHomePurePythonLoader):
            loader.add_constructor("!secret", self._noting(loader.construct_secret))

    def is_secret(self, path: Path) -> bool:
        """Return whether a file is read for secrets, and for nothing else."""
        return path not in self._plain and (path.name in _SECRETS or path in self._secret)

    def _noting(self, construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def note_and_construct(loader: Any, node: Any) -> Any:
            self.keys.setdefault(loader.name, set()).add(node.value)
            return construct(loader, node)

        return note_and_construct

    def _note(self, path: Path) -> None:
        self.read.setdefault(path.resolve(), {})[path] = None


class _Places:
    """The places of files: in the bundle, and whether they may leave this machine."""

    def __init__(self, folder: Path, around: Path) -> None:
        self.folder = folder
        self._inside = folder.resolve()
        self._top = around
        self._around = around.resolve()
        self.above = 0
        """How many folders up the paths lead that were named, some of them back to this one."""

    def name(self, path: Path) -> str | None:
        """Return the one path from the folder on; None for one that cannot be found from there.

        Not resolved, because nothing is a link at the other end. An absolute path that leads out
        of the folder is not found there.
        """
        for folder in (self.folder, self._inside):
            if path.is_relative_to(folder):
                spelled = os.path.normpath(path.relative_to(folder))
                place = os.path.normpath(self.folder / spelled)
                if not Path(place).is_relative_to(self._top):
                    return None
                self.above = max(self.above, spelled.split("/").count(".."))
                return os.path.relpath(place, self.folder)
        return None

    def inside(self, real: Path) -> bool:
        """Return whether a file is in the folder itself."""
        return real.is_relative_to(self._inside)

    def holds(self, real: Path) -> bool:
        """Return whether the folder is in this one."""
        return self._inside.is_relative_to(real)

    def may_travel(self, real: Path) -> bool:
        """Return whether a file may be sent to another machine."""
        inside = self.inside(real)
        if not real.is_relative_to(self._around):
            return inside
        parts = real.relative_to(self._around).parts
        if parts[:1] and parts[0] in _PRIVATE:
            return False
        return inside or not any(map(_is_private, parts))

    def may_lend_secrets(self, real: Path) -> bool:
        """Return whether those values of a file of secrets may be sent that are used."""
        of_a_folder_around = real.name in _SECRETS and self.holds(real.parent)
        return of_a_folder_around or self.may_travel(real.with_name("any"))


def _creator(  # noqa: C901 - a class whose base only ESPHome has
    bundle: Any, core: Any, loads: _Loads, around: Path
) -> type:
    """Return ESPHome's class for bundles, with names for what is not in the folder."""
    plain: Any = bundle.ConfigBundleCreator

    class Creator(plain):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            # Not of what it is a link to, from where other paths would lead elsewhere.
            self._config_path = Path(core.CORE.config_path).absolute()
            self._places = _Places(Path(core.CORE.config_dir), around)
            self._sources: dict[str, Path] = {}
            self._depends: dict[str, None] = {}
            # Later ESPHome also reads what would be included with other substitutions.
            self._read = {real: tuple(paths) for real, paths in loads.read.items()}

        def create_bundle(self) -> Any:
            try:
                result = super().create_bundle()
            except _ANOTHER_ESPHOME:
                _LOGGER.debug("This ESPHome makes bundles in another way", exc_info=True)
                return plain(self._config).create_bundle()
            if above := self._places.above:
                prefix = "/".join(self._places.folder.parts[-above:])
                result.data = _moved(result.data, prefix)
            return result

        def _add_file(self, path: Path) -> bool:
            real = path.resolve()
            if not real.is_file():
                return bool(super()._add_file(path))
            return sum(self._add(each, real) for each in self._references(path, real)) > 0

        def _references(self, path: Path, real: Path) -> tuple[Path, ...]:
            """Return the paths by which the configuration knows a file."""
            if path == real and real in self._read:
                return self._read[real]
            if path == real and real in loads.read and not self._places.inside(real):
                return ()
            return (path,)

        def _add(self, path: Path, real: Path) -> bool:
            if loads.is_secret(path):
                if self._places.may_lend_secrets(real):
                    self._depend(path)
                else:
                    _leave_out(real)
                return False
            name = self._places.name(path)
            if name in self._sources and self._sources[name] == real:
                return False
            if name is None or name in self._sources or not self._places.may_travel(real):
                _leave_out(real)
                return False
            self._sources[name] = real
            self._files.append(bundle.BundleFile(path=name, source=real))
            return True

        def _add_directory(self, path: Path) -> None:
            if not path.is_dir():
                super()._add_directory(path)
                return
            for each in _walk(path, self._places):
                self._add_file(each)

        def _build_filtered_secrets(self, used_keys: set[str]) -> dict[str, bytes]:
            """Return the secrets of each folder: those that the files there use."""
            own: dict[str | None, tuple[Path, set[str]]] = {}
            for path, keys in loads.keys.items():
                real = path.resolve()
                if real in self._read or self._places.inside(real):
                    # A file takes them from beside it, and if there are none the main one's.
                    beside = path.with_name(_SECRETS[0])
                    main = self._places.folder / _SECRETS[0]
                    source = beside if beside.is_file() else main
                    own.setdefault(self._places.name(source), (source, set()))[1].update(keys)
            found = {}
            for name, (path, keys) in own.items():
                if name is not None and (used := self._used(path, keys)):
                    found[name] = bundle.yaml_util.dump(used, show_secrets=True).encode()
                    self._sources[name] = path
            return found

        def _used(self, path: Path, keys: set[str]) -> dict[str, Any]:
            if not path.is_file():
                return {}
            if not self._places.may_travel(path.resolve().with_name("any")):
                _leave_out(path.resolve())
                return {}
            self._depend(path)
            try:
                secrets = bundle.yaml_util.load_yaml(path, clear_secrets=False)
            except core.EsphomeError:
                _LOGGER.warning("Bundle: failed to load secrets file %s", path)
                return {}
            is_map = isinstance(secrets, dict)
            return {key: secrets[key] for key in secrets if key in keys} if is_map else {}

        def _depend(self, path: Path) -> None:
            self._depends[os.path.relpath(path, self._places.folder)] = None

        def _build_manifest(self, files: Any, **more: Any) -> dict[str, Any]:
            manifest: dict[str, Any] = super()._build_manifest(files, **more)
            manifest[_DEPENDS] = list(self._depends)
            return manifest

    return Creator


def _is_private(name: str) -> bool:
    """Return whether an entry of Home Assistant's folder is nothing for a device."""
    return name.startswith(".") or name in _SECRETS or name.endswith(_NOT_FOR_DEVICES)


def _leave_out(path: Path) -> None:
    _LOGGER.warning(_LEFT_OUT, path)


def _walk(path: Path, places: _Places) -> Iterator[Path]:
    """Yield the files of a folder, of which the configuration names nothing but the folder."""
    walked = set()
    for root, folders, files in os.walk(path, followlinks=True):
        real = Path(root).resolve()
        inside = places.inside(real)
        if not inside and (places.holds(real) or not places.may_travel(real)):
            _leave_out(real)
            folders.clear()
            continue
        if real in walked or real.name == "__pycache__":
            folders.clear()
            continue
        walked.add(real)
        if not inside:
            files = [name for name in files if not _is_private(name)]  # noqa: PLW2901
            folders[:] = [name for name in folders if not _is_private(name)]
        folders.sort()
        yield from (Path(root, name) for name in sorted(files))


def _moved(data: bytes, prefix: str) -> bytes:
    """Return a bundle whose paths begin in a folder around its own."""
    moved = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as source,
        tarfile.open(fileobj=moved, mode="w:gz") as target,
    ):
        for member in source:
            member.name = os.path.normpath(f"{prefix}/{member.name}")
            target.addfile(member, source.extractfile(member))
    return moved.getvalue()


def _take_files_around(around: Path) -> None:
    bundle: Any = import_module("esphome.bundle")
    core: Any = import_module("esphome.core")
    loads = _Loads(import_module("esphome.yaml_util"))
    bundle.ConfigBundleCreator = _creator(bundle, core, loads, around)


def _keep_validated(esphome: Any) -> None:
    bundle = esphome.POST_CONFIG_ACTIONS["bundle"]
    keep = import_module("esphome.compiled_config").save_compiled_config_and_sidecar

    def bundle_and_keep(arguments: object, config: object) -> object:
        exit_code = bundle(arguments, config)
        if not exit_code:
            # Whatever another ESPHome has against it: the bundle is made.
            with suppress(Exception):
                keep(config)
        return exit_code

    esphome.POST_CONFIG_ACTIONS["bundle"] = bundle_and_keep


def _main() -> object:
    esphome = import_module("esphome.__main__")
    with suppress(ImportError, AttributeError, KeyError):
        _keep_validated(esphome)
    around = [argument for argument in sys.argv if argument.startswith(_AROUND)]
    sys.argv = [argument for argument in sys.argv if not argument.startswith(_AROUND)]
    with suppress(ImportError, AttributeError):
        for folder in around:
            _take_files_around(Path(folder.removeprefix(_AROUND)))
    return esphome.main()


if __name__ == "__main__":
    sys.exit(_main())  # type: ignore[arg-type]
