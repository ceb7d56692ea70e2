"""Scanner: keeps what is known of the configurations of a folder up to date."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path
from typing import Final

from ..codec import CodecError, Json, decode, encode
from ..reason import Reason, ReasonKey
from ..threads import UnreliableThreads
from . import folder, plain
from .answers import Answer, Known, Stored
from .inspector import Inspector
from .judgement import judge
from .model import ScanResult

_LOGGER = logging.getLogger(__name__)

LOOK_TIMEOUT: Final = 20.0
"""Seconds for one look at the folder: thousands of files on a slow share take a few."""
_PLAIN_LIMIT: Final = 256 * 1024
_ALL_READS: Final = 2000
"""Paths of an answer; beyond, the inspection does not list all files of a folder."""
_ASK_AGAIN: Final = 600.0
"""Seconds until ESPHome is asked again when it did not answer: it may need a repair, or memory."""

_LIMITS: Final = frozenset(
    {
        ReasonKey.CONFIGURATION_TAKES_MEMORY,
        ReasonKey.CONFIGURATION_TAKES_TIME,
        ReasonKey.CONFIGURATION_CRASHES_ESPHOME,
    }
)
_LIMITS_AGAIN: Final = 3600.0
"""Seconds until a file that met a limit is tried again; it may take its ten seconds each time."""
_FETCH_AGAIN: Final = 3600.0
"""Seconds until a remote package is tried again: there may be no network, or no such package."""


class FolderUnavailableError(Exception):
    """The folder cannot be used at the moment."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason."""
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Look:
    """The names in the folder, and the present signatures of all that is known to matter."""

    names: list[str]
    signatures: Mapping[str, folder.Signature]


class Scanner:
    """The configurations of one folder. Nothing of the folder is touched on the event loop."""

    def __init__(
        self, config_dir: Path, inspector: Inspector, *, look_timeout: float = LOOK_TIMEOUT
    ) -> None:
        self._config_dir = config_dir
        self._inspector = inspector
        self._look_timeout = look_timeout
        self._threads = UnreliableThreads()
        self._lock = asyncio.Lock()
        self._known: Mapping[str, Known] = {}
        self._judged: Mapping[str, Known] = self._known
        self._saved: Mapping[str, Known] = self._known
        self._result = ScanResult()
        self._ask_again = 0.0
        self._fetch_again: dict[str, float] = {}
        self._limits_again: dict[str, float] = {}

    @property
    def result(self) -> ScanResult:
        """What the last scan found."""
        return self._result

    @property
    def unsaved(self) -> bool:
        """Whether more is known than ``stored`` returned last."""
        return self._known != self._saved

    def node_name(self, configuration: str) -> str | None:
        """Return the node name of a configuration, as it was at the last look at its files."""
        known = self._known.get(configuration)
        return None if known is None else known.answer.node_name

    async def restore(self, stored: Json | None) -> None:
        """Begin with what was known before a restart, if it is of this folder."""
        if stored is None:
            return
        try:
            known = await asyncio.to_thread(decode, Stored, stored)
        except CodecError as error:
            _LOGGER.debug("What was known of the folder is read anew: %s", error)
            return
        if known.config_dir == str(self._config_dir):
            async with self._lock:
                self._known = self._saved = known.files
                await self._judge()

    async def stored(self) -> Json:
        """Return what is known, as JSON that ``restore`` takes."""
        self._saved = self._known
        # A name that cannot be shown cannot be stored either, and is read again in no time.
        files = {name: known for name, known in self._saved.items() if _is_text(name)}
        return await asyncio.to_thread(encode, Stored(str(self._config_dir), files))

    async def scan(self, *, ask: bool = True) -> ScanResult:
        """Return the present configurations and problems.

        ESPHome is asked only about files that changed, judged by all that they depend on; without
        ``ask`` the plain reader is. The same object is returned when nothing changed.
        """
        async with self._lock:
            try:
                look = await self._look()
                self._known = _renamed(self._known, look)
                stale = [name for name in look.names if self._stale(name, look, ask=ask)]
                now = {name: self._known[name] for name in look.names if name in self._known}
                now |= await self._answers(stale, look, ask=ask)
            except FolderUnavailableError as unavailable:
                self._result = replace(self._result, unavailable=unavailable.reason)
            else:
                if now != self._judged or self._result.unavailable is not None:
                    self._known = now
                    await self._judge()
            return self._result

    async def fetch_packages(self) -> None:
        """Have remote packages fetched that are not here, of files that were not tried lately.

        The next scan shows the devices that are known by them.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            names = [
                name
                for name, known in self._known.items()
                if known.answer.remote_packages_missing and self._fetch_again.get(name, 0.0) <= now
            ]
            if not names or self._inspector.version is None:
                return
            self._fetch_again |= dict.fromkeys(names, now + _FETCH_AGAIN)
            before = self._known
        # Not locked meanwhile: jobs and scans need not wait for the network.
        with suppress(FolderUnavailableError):
            look = await self._look()
            there = [name for name in names if name in look.names]
            found = await self._answers(there, look, ask=True, fetch=True)
            async with self._lock:
                same = {
                    name: known
                    for name, known in found.items()
                    if self._known.get(name) is before[name]
                }
                self._known = {**self._known, **same}

    async def fingerprint(self, configuration: str) -> str | None:
        """Return a digest of the content of all files of a configuration.

        These are its YAML files with everything they include, all of the secrets, and the local
        files that the build reads; not remote packages. The digest is the same after a restart and
        when the folder moves. None when the configuration does not exist; raises
        FolderUnavailableError.

        After a dot comes another one, of the files that are no YAML; nothing if there are none.
        """
        async with self._lock:
            look = await self._look(configuration)
            if configuration not in look.names:
                return None
            if self._stale(configuration, look, ask=True):
                # With what it may include from now on.
                look = await self._look()
                if configuration not in look.names:
                    return None
                answers = await self._answers([configuration], look, ask=True)
                self._known = {**self._known, **answers}
            return await self._digest(self._known[configuration].signatures)

    async def same_files(self, configuration: str, fingerprint: str) -> bool:
        """Return whether a fingerprint is of the same files, when fewer of them were known.

        Before the first toolchain is there, what a configuration includes is not. Raises
        FolderUnavailableError.
        """
        async with self._lock:
            known = self._known.get(configuration)
            if known is None or not known.former_paths:
                return False
            return await self._digest(known.former_paths) == fingerprint

    def state(self, configuration: str) -> object:
        """Return what is equal as long as the scans find no file of a configuration changed."""
        known = self._known.get(configuration)
        return None if known is None else known.signatures

    def all_files(self, configuration: str) -> object | None:
        """Return the ``state``; None when not all is known of what the configuration is made of."""
        known = self._known.get(configuration)
        if known is None or known.esphome_version is None:
            return None
        answer = known.answer
        doubtful = answer.problem or answer.faults or answer.remote_packages_missing
        if doubtful or not answer.complete or len(answer.reads) > _ALL_READS:
            return None
        return known.signatures

    async def _digest(self, paths: Iterable[str]) -> str:
        all_paths = list(paths)
        sources = [path for path in all_paths if Path(path).suffix not in ("", ".yaml", ".yml")]
        digest = partial(folder.content_digest, str(self._config_dir))
        return await self._bounded(
            lambda: f"{digest(all_paths)}.{digest(sources) if sources else ''}"
        )

    async def _look(self, only: str | None = None) -> _Look:
        """Look at the folder, or at the files of one configuration; raises FolderUnavailableError.

        Who asks for many, one after the other, must not have all files looked at for each.
        """
        config_dir = str(self._config_dir)
        of = self._known.values() if only is None else filter(None, (self._known.get(only),))
        paths = {path for known in of for path in known.signatures}

        def look() -> _Look | None:
            names = folder.configuration_names(config_dir)
            if not names and (len(self._known) > 1 or not folder.has_anything(config_dir)):
                return None
            wanted = paths.union(names if only is None else (only,))
            return _Look(names, folder.signatures(config_dir, wanted))

        found = await self._bounded(look)
        if found is None:
            if self._known:
                raise FolderUnavailableError(Reason(ReasonKey.FOLDER_EMPTY))
            return _Look([], {})
        return found

    async def _bounded[**P, T](self, work: Callable[P, T], *args: P.args, **kw: P.kwargs) -> T:
        try:
            return await self._threads.run(lambda: work(*args, **kw), self._look_timeout)
        except TimeoutError as error:
            raise FolderUnavailableError(Reason(ReasonKey.FOLDER_SILENT)) from error
        except FileNotFoundError as error:
            raise FolderUnavailableError(Reason(ReasonKey.FOLDER_MISSING)) from error
        except OSError as error:
            reason = Reason(ReasonKey.FOLDER_UNREADABLE, line=error.strerror)
            raise FolderUnavailableError(reason) from error

    def _stale(self, name: str, look: _Look, *, ask: bool) -> bool:
        known = self._known.get(name)
        if known is None or not folder.unchanged(known.signatures, look.signatures):
            return True
        if not ask or not self._can_ask:
            return False
        return known.esphome_version != self._inspector.version or self._limit_again(name, known)

    def _limit_again(self, name: str, known: Known) -> bool:
        """Return whether to ask again about a file that met a limit: the machine may be idle now."""
        problem = known.answer.problem
        if problem is None or problem.key not in _LIMITS:
            return False
        now = asyncio.get_running_loop().time()
        if self._limits_again.get(name, 0.0) > now:
            return False
        self._limits_again[name] = now + _LIMITS_AGAIN
        return True

    @property
    def _can_ask(self) -> bool:
        again = asyncio.get_running_loop().time() >= self._ask_again
        return again and self._inspector.version is not None

    async def _answers(
        self, stale: list[str], look: _Look, *, ask: bool, fetch: bool = False
    ) -> dict[str, Known]:
        """Return what is known now of files that changed; raises FolderUnavailableError."""
        version = self._inspector.version
        asked: Mapping[str, Answer] = {}
        readable = [name for name in stale if _is_text(name)]
        if ask and readable and self._can_ask:
            asked = await self._inspector.ask(self._config_dir, readable, fetch=fetch)
            if len(asked) < len(readable):
                self._ask_again = asyncio.get_running_loop().time() + _ASK_AGAIN
        plain_ones = await self._bounded(
            self._plainly, [each for each in stale if each not in asked]
        )
        answers = {**plain_ones, **asked}
        paths = {path for name in stale for path in (name, *answers[name].reads)}
        present = await self._bounded(folder.signatures, str(self._config_dir), paths)
        found: dict[str, Known] = {}
        for name in stale:
            answer, former = answers[name], self._known.get(name)
            if name not in asked and answer.node_name is None and former is not None:
                # It says nothing of what it cannot read.
                answer = former.answer
            # As they were before: what was written meanwhile counts as changed.
            signatures = {
                path: look.signatures.get(path, present.get(path, ""))
                for path in (name, *answer.reads)
            }
            device = _former_device(former, answer, asked=name in asked)
            if former is not None and former.signatures.get(name) == signatures[name]:
                answer = _without_section(answer, device)
            found[name] = Known(
                version if name in asked else None,
                signatures,
                answer,
                _former_paths(former, signatures, look),
                device,
            )
        return found

    def _plainly(self, names: Iterable[str]) -> dict[str, Answer]:
        return {name: self._plain(name) for name in names}

    def _plain(self, name: str) -> Answer:
        if not _is_text(name):
            shown = name.encode(errors="surrogateescape").decode(errors="replace")
            reason = Reason(ReasonKey.CONFIGURATION_FILE_NAME, {"file": shown})
            return Answer(shown, broken=True, says_device=True, problem=reason, reads=(name,))
        known = self._known.get(name)
        former = None if known is None else known.device or known.answer
        return plain.read(name, folder.head(self._config_dir / name, _PLAIN_LIMIT), former)

    async def _judge(self) -> None:
        result = await asyncio.to_thread(judge, str(self._config_dir), self._known)
        self._judged = self._known = {
            name: known
            if known.device is None or name in result.configurations
            else replace(known, device=None)
            for name, known in self._known.items()
        }
        if result != self._result:
            self._result = result


def _renamed(known: Mapping[str, Known], look: _Look) -> Mapping[str, Known]:
    """Return what is known by the present names of the files.

    What can be read is recognized by its node name; what is broken by nothing but the file.
    """
    found = dict(known)
    gone = known.keys() - set(look.names)
    for new in look.names if gone else ():
        signature = look.signatures[new]
        same = [
            old for old in gone if folder.same_file(known[old].signatures.get(old, ""), signature)
        ]
        if new not in known and len(same) == 1:
            (old,) = same
            gone.discard(old)
            found[new] = found.pop(old).renamed(old, new)
    return found


def _former_paths(
    former: Known | None, signatures: Mapping[str, str], look: _Look
) -> tuple[str, ...]:
    if former is None or not folder.unchanged(former.signatures, look.signatures):
        return ()
    if former.signatures.keys() == signatures.keys():
        return former.former_paths
    return tuple(former.signatures)


def _former_device(former: Known | None, answer: Answer, *, asked: bool) -> Answer | None:
    if former is None or (asked and answer.is_device):
        return None
    # The plain reader takes some fragments for devices.
    trusted = former.esphome_version is not None or (
        former.device is None and (answer.problem is not None or answer.faults)
    )
    return former.answer if trusted and former.answer.is_device else former.device


def _without_section(answer: Answer, device: Answer | None) -> Answer:
    """Return the answer about an unchanged file, with what is wrong if its device has gone."""
    if device is None or answer.node_name or answer.problem is not None or answer.faults:
        return answer
    reason = Reason(ReasonKey.CONFIGURATION_SECTION_MISSING, {"file": answer.file})
    return replace(answer, problem=reason)


def _is_text(name: str) -> bool:
    return name.isprintable() and len(name) <= 255
