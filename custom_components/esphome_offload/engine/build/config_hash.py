"""ConfigHashes: ESPHome's own hash of a configuration, which a device built from it announces.

Comments and formatting do not change it; a secret, an included file or a package does. It depends
on the version of ESPHome, whose defaults it covers.
"""

import asyncio
from dataclasses import replace
import logging
from pathlib import Path
import re
from typing import Final

from .cache.layout import CacheLayout
from .model import BuildError
from .process.processes import Command, LaunchError, Processes
from .process.reach import reach, run_within
from .toolchain.esphome_command import Entry, EsphomeCall, enter_limited, esphome_command
from .toolchain.toolchain import Toolchain
from .toolchain.toolchains import Toolchains

_LOGGER = logging.getLogger(__name__)

_TIMEOUT: Final = 180.0
"""Seconds; half a second here, ten on a small board, more when a remote package is fetched."""
_NICE: Final = 19
"""It is never urgent."""
_HASH: Final = re.compile(r"^0x([0-9a-f]{1,8})\s*$", re.MULTILINE)


_ALIAS: Final = "folder"
"""Another name of the folder with the configurations."""


class ConfigHashes:
    """Asks toolchains that are installed; one question at a time."""

    def __init__(
        self,
        layout: CacheLayout,
        processes: Processes,
        toolchains: Toolchains,
        home: Path | None = None,
        *,
        entry: Entry = enter_limited,
    ) -> None:
        """``home``: Home Assistant's configuration folder, in which not all is to be read."""
        self._layout = layout
        self._processes = processes
        self._toolchains = toolchains
        self._home = home
        self._entry = entry

    def can_tell(self, esphome_version: str) -> bool:
        """Whether there is a toolchain of this version: none is made for a hash."""
        return esphome_version in self._toolchains.installed()

    async def calculate(
        self,
        configuration: str,
        config_dir: Path,
        esphome_version: str,
        time_zone: str,
        *,
        for_job: bool = False,
    ) -> int | None:
        """Return the hash by this version; None when it cannot be told now.

        That is for an invalid configuration, and for versions that have no hash. ``for_job``: like
        the rest of a job that somebody waits for, so not contained, and in a warm Python.
        """
        try:
            toolchain = await self._toolchains.ensure(esphome_version, lambda _lines: None)
            call = EsphomeCall(
                config_dir=config_dir,
                data_dir=self._layout.config_hash,
                time_zone=time_zone,
                arguments=("config-hash", str(config_dir / configuration)),
            )
            if not for_job:
                call = replace(call, nice=_NICE)
            command = await asyncio.to_thread(self._command, toolchain, call)
            if not for_job:
                # It runs code of the configuration without being asked to.
                command = await asyncio.to_thread(self._contain, command, toolchain, call)
            result, output = await run_within(
                lambda command: self._processes.capture(command, timeout=_TIMEOUT), command
            )
        except (BuildError, LaunchError, OSError) as error:  # TimeoutError is an OSError
            _LOGGER.debug("The hash of %s cannot be asked for: %s", configuration, error)
            return None
        found = _HASH.findall(output)
        if result.exit_code != 0 or not found:
            _LOGGER.debug("ESPHome %s has no hash of %s", esphome_version, configuration)
            return None
        return int(found[-1], 16)

    def _command(self, toolchain: Toolchain, call: EsphomeCall) -> Command:
        for folder in (call.data_dir, self._layout.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        return esphome_command(self._layout, self._entry, toolchain, call)

    def _contain(self, command: Command, toolchain: Toolchain, call: EsphomeCall) -> Command:
        write = (call.data_dir, self._layout.tmp)
        needed = (*toolchain.folders, call.config_dir, self._layout.home, self._layout.tools)
        return replace(command, rules=reach(self._home, needed=needed, write=write))

    async def is_portable(
        self,
        configuration: str,
        config_dir: Path,
        esphome_version: str,
        time_zone: str,
        config_hash: int,
    ) -> bool:
        """Return whether a hash would be the same in another folder.

        With ``includes:`` it is not: ESPHome takes their absolute paths into it.
        """
        alias = self._layout.config_hash / _ALIAS
        try:
            await asyncio.to_thread(_link, alias, config_dir)
        except OSError as error:
            _LOGGER.debug("The folder %s cannot have another name: %s", config_dir, error)
            return False
        again = await self.calculate(configuration, alias, esphome_version, time_zone)
        return again == config_hash


def _link(alias: Path, config_dir: Path) -> None:
    alias.parent.mkdir(parents=True, exist_ok=True)
    alias.unlink(missing_ok=True)
    alias.symlink_to(config_dir)
