"""Bundles: a configuration with every file that it needs, packed for another machine."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
import hashlib
import json
import logging
import os
from pathlib import Path, PurePath
import re
import tarfile
from typing import Annotated, Final, override

from ..clock import Time
from ..codec import CodecError, Keyed, Number, Text, decode_json, encode_json
from ..const import FailureReason
from ..job_log import OWN
from ..locks import Locks
from ..reason import Reason, ReasonKey
from ..threads import UnreliableThreads, in_thread
from .bundle_sources import (
    LOOK_TIMEOUT,
    NAMES_LIMIT,
    Signature,
    Sources,
    outer_signatures,
    read_sources,
    signature,
)
from .cache.eviction import CacheFolder, RecentUse
from .cache.layout import CacheLayout, configuration_key
from .diagnosis import CONFIG_INVALID_EXIT_CODE, classify
from .model import BuildError, BuildRequest
from .process.processes import LaunchError, Processes, ProcessResult
from .result import forget_validated, read_validated
from .toolchain.esphome_command import (
    AROUND,
    Entry,
    EsphomeCall,
    enter_to_bundle,
    esphome_command,
)
from .toolchain.toolchain import Toolchain
from .toolchain.toolchains import Toolchains

_LOGGER = logging.getLogger(__name__)

_TIMEOUT = 900.0
"""Under a second here, several on a small board; packages may come over a slow connection."""
_TAIL = 500
DATA: Final = "data"
"""ESPHome's data directory, in the folder of a bundle."""
MANIFEST: Final = "manifest.json"
"""The first file of a bundle, beside the configuration."""
_MANIFEST_LIMIT = 1024 * 1024
_LEFT_OUT = re.compile(r"Bundle: skipping file outside config directory: (.+)")
_NO_BUNDLE_COMMAND = re.compile(r"invalid choice: 'bundle'")
_NAMED = 3
"""Files that a message names."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A .tar.gz. The same content has the same ``sha256``; ``size`` is in bytes.

    ``fresh``: ESPHome validated the configuration for it just now.
    """

    path: Path
    sha256: str
    size: int
    fresh: bool


_Line = Annotated[str, Text(4096, free=True)]


@dataclass(frozen=True, slots=True)
class _Record:
    """The sources of a bundle, as they were when it was made."""

    esphome_version: _Line
    config_dir: _Line
    sha256: Annotated[str, Text(64, r"[0-9a-f]{64}")]
    size: Annotated[int, Number(0, 2**53)]
    names: _Line
    files: Annotated[Mapping[_Line, Signature], Keyed(NAMES_LIMIT)]
    outer: Annotated[Mapping[_Line, Signature], Keyed(NAMES_LIMIT)] = field(default_factory=dict)
    """Files behind links and outside of the folder, and the folders that they are in."""


class Bundles(CacheFolder):
    """The bundles, one per configuration, each made again when any of its sources has changed."""

    def __init__(
        self,
        layout: CacheLayout,
        processes: Processes,
        toolchains: Toolchains,
        *,
        entry: Entry = enter_to_bundle,
        around: Path | None = None,
        look_timeout: float = LOOK_TIMEOUT,
        time: Time | None = None,
    ) -> None:
        """``around``: the folder whose files a bundle may have; None: the configuration's own."""
        self._layout = layout
        self._processes = processes
        self._toolchains = toolchains
        self._entry = entry
        self._around = around
        self._look_timeout = look_timeout
        self._threads = UnreliableThreads()
        self._recent = RecentUse(time)
        self._locks = Locks()

    async def make(self, request: BuildRequest, lines: Callable[[Sequence[str]], None]) -> Bundle:
        """Return the bundle of a configuration; ``lines`` gets ESPHome's output when it fails.

        Raises BuildError: config_invalid, bundle_incomplete when a file had to be left out or
        this ESPHome makes no bundles, builder_environment when it could not be tried, and what
        the toolchain raises.
        """
        async with self._lock(request.configuration):
            try:
                sources, kept = await self._look(lambda: self._find(request))
                if kept is not None:
                    return kept
                toolchain = await self._toolchains.ensure(request.esphome_version, lines)
                started, fresh = await self._run(request, toolchain, lines)
                self._recent.note(configuration_key(request.configuration))
                names = await asyncio.to_thread(_read_manifest, fresh)
                after = await self._look(lambda: _sources_of(request.config_dir, names, started))
                return await in_thread(lambda _: self._keep(request, sources, fresh, after))
            except OSError as error:
                raise BuildError(
                    FailureReason.BUILDER_ENVIRONMENT,
                    Reason(
                        ReasonKey.BUNDLE_UNUSABLE,
                        {"configuration": request.configuration},
                        error.strerror,
                    ),
                ) from error

    async def validated(self, configuration: str, sha256: str) -> dict[str, Path]:
        """Return what ESPHome validated for a bundle, as in ``Firmware``; the last one has it."""
        async with self._lock(configuration):
            return await asyncio.to_thread(self._validated, configuration, sha256)

    async def invalidate(self, configuration: str) -> None:
        """Make the next bundle again: a builder could not use the last one."""
        async with self._lock(configuration):
            await in_thread(lambda _: self._record(configuration).unlink(missing_ok=True))

    @property
    @override
    def folder(self) -> Path:
        """The folder of all bundles."""
        return self._layout.bundles

    @override
    async def discard(self, key: str) -> bool:
        """Remove a bundle, by ``configuration_key``; returns False if it may be in use."""
        lock = self._locks[key]
        if lock.locked():
            return False
        async with lock:
            return await in_thread(lambda _: self._discard_unused(self.folder / key))

    async def _look[T](self, work: Callable[[], T]) -> T:
        """Look at the folder of the configurations; raises OSError, also when it does not answer."""
        return await self._threads.run(work, self._look_timeout)

    def _lock(self, configuration: str) -> asyncio.Lock:
        return self._locks[configuration_key(configuration)]

    def _discard_unused(self, folder: Path) -> bool:
        if folder.name in self._recent:
            return False
        _LOGGER.debug("Removed the bundle %s to free disk space", folder.name)
        self._layout.discard(folder)
        return True

    async def _run(
        self, request: BuildRequest, toolchain: Toolchain, lines: Callable[[Sequence[str]], None]
    ) -> tuple[int, Path]:
        """Run ``esphome bundle``; return when that began (in nanoseconds), and the bundle."""
        folder = self._layout.bundle(request.configuration)
        # ESPHome's own data: what packages and external components it fetched.
        data_dir = folder / DATA
        fresh = folder / "fresh.tar.gz"
        started = await in_thread(lambda _: _prepare(folder, fresh, request.configuration))
        outside = self._around is None or not request.config_dir.is_relative_to(self._around)
        around = request.config_dir if outside else self._around
        call = EsphomeCall(
            config_dir=request.config_dir,
            data_dir=data_dir,
            time_zone=request.time_zone,
            arguments=(
                "bundle",
                str(request.config_dir / request.configuration),
                f"--output={fresh}",
                f"{AROUND}{around}",
            ),
        )
        said: deque[str] = deque(maxlen=_TAIL)
        try:
            result = await self._processes.run_lines(
                esphome_command(self._layout, self._entry, toolchain, call),
                said.extend,
                timeout=_TIMEOUT,
            )
        except (LaunchError, TimeoutError) as error:
            self._toolchains.invalidate(toolchain.version)
            lines((f"{OWN}ESPHome could not be run: {error}",))
            raise BuildError(
                FailureReason.BUILDER_ENVIRONMENT, Reason(ReasonKey.ESPHOME_FAILED)
            ) from error
        failure = await asyncio.to_thread(_judge, tuple(said), result, request)
        if failure is None:
            failure = await asyncio.to_thread(self._left_out, tuple(said), request.config_dir)
        if failure is not None:
            lines(tuple(said))
            raise failure
        return started, fresh

    def _validated(self, configuration: str, sha256: str) -> dict[str, Path]:
        folder = self._layout.bundle(configuration)
        if not (folder / f"{sha256}.tar.gz").is_file():
            return {}
        return read_validated(folder / DATA, configuration)

    def _left_out(self, said: Iterable[str], config_dir: Path) -> BuildError | None:
        """Return an error that names the files that are not in the bundle."""
        # What ESPHome fetched into the cache by itself, the builder's ESPHome fetches as well.
        cache = self._layout.root.resolve()
        paths = [Path(found[1].strip()) for line in said if (found := _LEFT_OUT.search(line))]
        left = [path for path in dict.fromkeys(paths) if not path.is_relative_to(cache)]
        if not left:
            return None
        names = [os.path.relpath(path, config_dir) for path in left]
        parameters = {"files": ", ".join(names[:_NAMED]), "count": str(len(names) - _NAMED)}
        many = len(names) > _NAMED
        key = ReasonKey.BUNDLE_LEAVES_OUT_MORE if many else ReasonKey.BUNDLE_LEAVES_OUT
        return BuildError(FailureReason.BUNDLE_INCOMPLETE, Reason(key, parameters))

    def _find(self, request: BuildRequest) -> tuple[Sources, Bundle | None]:
        """Return the present sources, and the last bundle if it was made from these."""
        sources = read_sources(request.config_dir)
        kept = self._kept(request, sources)
        if kept is not None:
            # It is used a moment later: an eviction must not remove it.
            os.utime(kept.path.parent)
            self._recent.note(configuration_key(request.configuration))
        return sources, kept

    def _kept(self, request: BuildRequest, sources: Sources) -> Bundle | None:
        """Return the last bundle if a new one would be the same."""
        folder = self._layout.bundle(request.configuration)
        try:
            record = decode_json(_Record, self._record(request.configuration).read_bytes())
            path = folder / f"{record.sha256}.tar.gz"
            same = (
                record.esphome_version == request.esphome_version
                and record.config_dir == str(request.config_dir)
                and record.names == sources.names
                and all(sources.files.get(name) == each for name, each in record.files.items())
                and all(signature(Path(name)) == each for name, each in record.outer.items())
                and path.stat().st_size == record.size
            )
            return Bundle(path, record.sha256, record.size, fresh=False) if same else None
        except OSError, CodecError:
            # Missing, or cut off by a loss of power.
            return None

    def _keep(
        self, request: BuildRequest, before: Sources, fresh: Path, after: Sources | None
    ) -> Bundle:
        """Move a new bundle to its place, and record its sources if they have not changed since."""
        folder = self._layout.bundle(request.configuration)
        record_path = self._record(request.configuration)
        _clear_time(fresh)
        with fresh.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = fresh.stat().st_size
        path = folder / f"{sha256}.tar.gz"
        record_path.unlink(missing_ok=True)
        fresh.rename(path)
        for old in folder.glob("*.tar.gz"):
            if old != path:
                old.unlink(missing_ok=True)
        if (
            before.names is not None
            and after is not None
            and all(before.files.get(name) == each for name, each in after.files.items())
        ):
            record = _Record(
                request.esphome_version,
                str(request.config_dir),
                sha256,
                size,
                before.names,
                after.files,
                after.outer,
            )
            record_path.write_bytes(encode_json(record))
        return Bundle(path, sha256, size, fresh=True)

    def _record(self, configuration: str) -> Path:
        return self._layout.bundle(configuration) / "bundle.json"


def _prepare(folder: Path, fresh: Path, configuration: str) -> int:
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    forget_validated(folder / DATA, configuration)
    fresh.unlink(missing_ok=True)
    fresh.touch()
    return fresh.stat().st_ctime_ns


def _sources_of(config_dir: Path, names: set[str], started: int) -> Sources | None:
    """Return the present state of the files in a bundle; None when it cannot be told of some.

    What is not in the folder itself is looked at only now: it must not have changed since the
    bundle was begun.
    """
    present = read_sources(config_dir)
    # A package that ESPHome fetched can use it without listing it.
    names = names | {"secrets.yaml"} & present.files.keys()
    files = {name: present.files[name] for name in names if name in present.files}
    outer = outer_signatures(config_dir, names - files.keys())
    if outer is None or any(each.changed > started for each in outer.values()):
        return None
    return Sources(present.names, files, outer)


def _judge(said: Sequence[str], result: ProcessResult, request: BuildRequest) -> BuildError | None:
    """Return why ESPHome made no bundle; None when it made one."""
    code = result.exit_code
    if code == 0:
        return None
    if any(_NO_BUNDLE_COMMAND.search(line) for line in said):
        key, parameters = ReasonKey.BUNDLE_UNSUPPORTED, {"version": request.esphome_version}
        return BuildError(FailureReason.BUNDLE_INCOMPLETE, Reason(key, parameters), code)
    failure = classify(said, result, request.config_dir)
    if code == CONFIG_INVALID_EXIT_CODE:
        return failure
    why = Reason(
        ReasonKey.BUNDLE_FAILED,
        {"configuration": request.configuration},
        causes={"ESPHome": failure.reason},
    )
    return BuildError(FailureReason.BUNDLE_INCOMPLETE, why, code)


def _clear_time(path: Path) -> None:
    """Clear the time in the gzip header: all else of a bundle is the same each time."""
    with path.open("r+b") as file:
        file.seek(4)
        file.write(bytes(4))


def _read_manifest(path: Path) -> set[str]:
    """Return the files whose content is in the bundle, relative to the configuration folder."""
    try:
        # ESPHome writes it first, so the rest need not be unpacked.
        with tarfile.open(path, "r|gz") as archive:
            member = archive.next()
            is_manifest = member is not None and PurePath(member.name).name == MANIFEST
            file = archive.extractfile(member) if member is not None and is_manifest else None
            content = json.loads(file.read(_MANIFEST_LIMIT)) if file else {}
        return {str(name) for name in (*content["files"], *content.get("depends", ()))}
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            FailureReason.BUNDLE_INCOMPLETE, Reason(ReasonKey.BUNDLE_UNREADABLE)
        ) from error
