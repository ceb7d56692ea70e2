"""Clones: remote packages, read from where a build left them; fetched only if that is asked for."""

from __future__ import annotations

from contextlib import suppress
import hashlib
from importlib import import_module
import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_COMPLETE = Path(".git", "esphome_clone_complete")
_HEAD = Path(".git", "HEAD")


class Clones:
    """Has ESPHome read packages from clones; counts the ``missing`` of a configuration."""

    def __init__(self, config_dir: str, data_dirs: list[str], *, fetch: bool) -> None:
        self.missing = 0
        self._data_dirs = [Path(config_dir, ".esphome"), *map(Path, data_dirs)]
        self._own = Path(os.environ.get("ESPHOME_DATA_DIR", os.devnull))
        git: Any = import_module("esphome.git")
        packages: Any = import_module("esphome.components.packages")
        process = packages._process_remote_package  # noqa: SLF001

        original = git.clone_or_update

        class NotFetchedError(Exception):
            """There is no clone of it."""

        def clone_or_update(
            *, url: str, ref: str | None = None, domain: str, **options: Any
        ) -> tuple[Path, Callable[[], bool] | None]:
            clone = self._find(f"{url}@{ref}", domain)
            if clone is None:
                if not fetch:
                    raise NotFetchedError
                clone, _ = original(url=url, ref=ref, domain=domain, **options)
            return clone, None

        def run_git_command(*_arguments: Any, **_options: Any) -> str:
            raise NotFetchedError

        def process_remote_package(*arguments: Any, **options: Any) -> Any:
            try:
                return process(*arguments, **options)
            except (NotFetchedError, git.GitException):
                self.missing += 1
                return {}

        git.clone_or_update = clone_or_update
        if not fetch:
            git.run_git_command = run_git_command
        packages._process_remote_package = process_remote_package  # noqa: SLF001

    def _find(self, key: str, domain: str) -> Path | None:
        """Return the newest clone of a repository that is complete."""
        name = hashlib.sha256(key.encode()).hexdigest()[:8]
        found: list[tuple[float, Path]] = []
        for data_dir in self._data_dirs:
            clone = data_dir / domain / name
            # Before there was a mark, what has a head was all there is.
            for mark in (_COMPLETE, _HEAD):
                try:
                    found.append((clone.joinpath(mark).stat().st_mtime, clone))
                except OSError:
                    continue
                break
        if not found:
            return None
        clone = max(found)[1]
        if clone.is_relative_to(self._own):
            # The least recently used are removed first.
            with suppress(OSError):
                os.utime(clone)
        return clone
