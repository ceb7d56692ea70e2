"""Versions: the ESPHome versions that there are, as uv and its package index know them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
import logging
import os
from pathlib import Path
import platform
import re
import shutil

from packaging.version import InvalidVersion, Version

from ...clock import SystemTime, Time
from ...reason import Reason, ReasonKey
from ...text import one_line
from ..process.processes import LaunchError, Processes
from .uv import (
    Uv,
    problem,
    runs_here,
    unframed,
)

_LOGGER = logging.getLogger(__name__)

_TIMEOUT = 180.0
"""One page of an index and a package of 7 MB; twice, with uv's own limit of 30 s without a byte."""
_FRESH = 600.0
"""Seconds for which an index allows its pages to be kept; asking earlier gives the same answer."""
_IMPATIENT = {"UV_HTTP_RETRIES": "1"}
"""A person waits for the answer, and can ask again."""
_OF_ALL_INDEXES = ("--index-strategy", "unsafe-best-match")
_RESOLVED = re.compile(r'^name = "esphome"\nversion = "(\S+)"$', re.MULTILINE)
_UPLOADED = re.compile(r"\bupload-time = (\d[\dT:.-]+Z)")


class VersionError(Exception):
    """A version is not available, or it is not known whether it is."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Release:
    """A version and when it was uploaded to the index (UTC); not every index says that."""

    version: str
    uploaded_at: datetime | None = None


def series(version: str) -> tuple[int, ...]:
    """Return the release series of a version, as (2026, 10) of 2026.10.1."""
    return Version(version).release[:2]


def normal_version(version: str) -> str:
    """Return the one spelling of a version, safe as a file name and on a command line.

    Raises VersionError for what cannot be a version of ESPHome.
    """
    try:
        parsed = Version(version)
    except InvalidVersion:
        parsed = None
    if parsed is None or parsed.epoch or parsed.local is not None or len(parsed.release) > 3:
        raise VersionError(Reason(ReasonKey.VERSION_INVALID, {"version": version}))
    # 2026.10 is 2026.10.0 to uv, and ESPHome and its devices say the latter.
    given = ".".join(map(str, parsed.release))
    return str(parsed).replace(given, given + ".0" * (3 - len(parsed.release)), 1)


class Versions:
    """Answers from what is installed and what was looked up lately, else asks uv."""

    def __init__(
        self,
        processes: Processes,
        uv: Uv,
        installed: Callable[[], tuple[str, ...]],
        time: Time | None = None,
    ) -> None:
        """``installed`` lists the versions that have a toolchain."""
        self._processes = processes
        self._uv = uv
        self._installed = installed
        self._time = time or SystemTime()
        self._newest: dict[bool, tuple[Release, float]] = {}
        self._existing: set[str] = set()
        # One at a time: a hundred jobs that name the same version ask once.
        self._asking = asyncio.Lock()

    async def newest(self, *, prerelease: bool) -> Release:
        """Return the newest version that this Python can run; ``prerelease`` also counts betas.

        Raises VersionError.
        """
        async with self._asking:
            known, until = self._newest.get(prerelease, (None, 0.0))
            if known is None or self._time.monotonic() >= until:
                known = await self._resolve("esphome", prerelease=prerelease)
                await self._check(known.version)
                self._newest[prerelease] = known, self._time.monotonic() + _FRESH
            return known

    async def newest_before(self, version: str) -> Release:
        """Return the newest stable version of the release series before that of a version.

        It is not checked whether this Python can run it. Raises VersionError.
        """
        before = ".".join(map(str, series(version)))
        async with self._asking:
            return await self._resolve(f"esphome<{before}", prerelease=False)

    async def check(self, version: str) -> None:
        """Raise VersionError unless the version exists and this Python can run it."""
        version = normal_version(version)
        if not self._is_known(version):  # else it does not wait for other questions either
            async with self._asking:
                await self._check(version)

    def _is_known(self, version: str) -> bool:
        # One that is installed needs no network, and one that exists stays.
        return version in self._existing or version in self._installed()

    async def _check(self, version: str) -> None:
        if self._is_known(version):
            return
        # The package itself, because uv heeds only the lower bound of the Python versions that
        # one is for. What is downloaded for it stays in uv's cache for the toolchain.
        target = self._uv.scratch()
        try:
            await self._run(
                version, "install", "--no-deps", "--target", str(target), f"esphome=={version}"
            )
            with _disk_errors(version):
                runs = await asyncio.to_thread(runs_here, target)
            if not runs:
                raise _error(ReasonKey.VERSION_OTHER_PYTHON, version)
        finally:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        self._existing.add(version)

    async def _resolve(self, requirement: str, *, prerelease: bool) -> Release:
        file = self._uv.scratch()
        try:
            with _disk_errors(None):
                await asyncio.to_thread(_write, file, requirement)
            # Without dependencies it is a question about one page.
            output = await self._run(
                None,
                "compile",
                str(file),
                "--no-deps",
                # It has the times at which the files were uploaded.
                "--format",
                "pylock.toml",
                *(("--prerelease", "allow") if prerelease else ()),
                # Else the newest of the first index that has any.
                *(() if "UV_INDEX_STRATEGY" in os.environ else _OF_ALL_INDEXES),
            )
        finally:
            await asyncio.to_thread(_remove, file)
        if (found := _RESOLVED.search(output)) is None:
            raise _error(ReasonKey.VERSION_UNCHECKED, None)
        uploaded = map(datetime.fromisoformat, _UPLOADED.findall(output))
        return Release(found[1], min(uploaded, default=None))

    async def _run(self, version: str | None, *arguments: str) -> str:
        """Return the output of ``uv pip <arguments>``; raises VersionError when it fails.

        It is about ``version``; None: about the newest.
        """
        command = self._uv.command(
            "pip", *arguments, "--python", str(self._uv.python), extra=_IMPATIENT
        )
        try:
            result, output = await self._processes.capture(command, timeout=_TIMEOUT)
        except (TimeoutError, LaunchError) as error:
            raise _error(ReasonKey.VERSION_UNCHECKED, version) from error
        if result.exit_code == 0:
            return output
        _LOGGER.debug("uv ended with %s: %s", result.exit_code, one_line(unframed(output), 1000))
        raise _error(problem(output) or ReasonKey.VERSION_UNCHECKED, version)


def _write(file: Path, requirement: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{requirement}\n", encoding="utf-8")


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


@contextmanager
def _disk_errors(version: str | None) -> Iterator[None]:
    """Raise VersionError for an OSError."""
    try:
        yield
    except OSError as error:
        raise _error(ReasonKey.VERSION_UNCHECKED, version, error.strerror) from error


def _error(key: ReasonKey, version: str | None, line: str | None = None) -> VersionError:
    """Return the error about a version; None: about the newest."""
    if version is None:
        return VersionError(Reason(ReasonKey.NEWEST_UNCHECKED, line=line))
    python = platform.python_version()
    return VersionError(Reason(key, {"version": version, "python": python}, line))
