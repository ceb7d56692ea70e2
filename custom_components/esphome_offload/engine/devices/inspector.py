"""Inspector: asks the newest ESPHome that is there about configurations."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
import logging
import os
from pathlib import Path
from typing import Final, Protocol, override
import uuid

from ..build.cache.layout import CacheLayout
from ..build.process.environment import process_environment
from ..build.process.processes import Command, LaunchError, Processes
from ..build.toolchain.toolchains import Toolchain, Toolchains
from ..codec import CodecError, decode_json
from ..const import MIB
from ..reason import Reason, ReasonKey
from ..text import one_line
from .answers import Answer

_LOGGER = logging.getLogger(__name__)

_START: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); from inspection.program import main; main()"
)
_START_TIMEOUT: Final = 120.0
_OUTPUT: Final = 32 * MIB
GIT_ENVIRONMENT: Final = {"GIT_TERMINAL_PROMPT": "0"}
"""There is nobody to ask for a password."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What each file may take: seconds of CPU, bytes, and seconds on the average of all."""

    seconds: float
    memory: int
    timeout: float


# The largest real files take a second here, ten on a small board, and 20 MiB beyond the 32 MiB of
# ESPHome itself. Of a folder whose files all take that long, the rest has to wait.
_READING: Final = _Limits(seconds=10.0, memory=96 * MIB, timeout=2.0)
# Six times the seconds may pass, which a small repository over a slow line does not need.
_FETCHING: Final = _Limits(seconds=30.0, memory=1024 * MIB, timeout=180.0)


class Inspector(Protocol):
    """What answers about configurations."""

    @property
    def version(self) -> str | None:
        """The version of ESPHome that would answer; None while there is none."""

    async def ask(
        self, config_dir: Path, names: Sequence[str], *, fetch: bool = False
    ) -> Mapping[str, Answer]:
        """Return the answers about files of a folder; those that could not be had are missing.

        ``fetch``: remote packages that are not there are fetched, which takes a while.
        """


class _TooMuchOutputError(Exception):
    """The answers are longer than they may be."""


class EsphomeInspector(Inspector):
    """Runs the inspection program in the newest toolchain, one process for all files."""

    def __init__(self, layout: CacheLayout, processes: Processes, toolchains: Toolchains) -> None:
        self._layout = layout
        self._processes = processes
        self._toolchains = toolchains

    @property
    @override
    def version(self) -> str | None:
        """The newest version that is installed."""
        return next(iter(self._toolchains.installed()), None)

    @override
    async def ask(
        self, config_dir: Path, names: Sequence[str], *, fetch: bool = False
    ) -> Mapping[str, Answer]:
        """Return the answers about files of a folder; never raises."""
        toolchain = await self._toolchains.newest()
        if toolchain is None or not names:
            return {}
        request = self._layout.tmp / f"inspection-{uuid.uuid4().hex}.json"
        output = bytearray()

        def on_output(chunk: bytes) -> None:
            output.extend(chunk)
            if len(output) > _OUTPUT:
                raise _TooMuchOutputError

        ended = False
        try:
            limits = _FETCHING if fetch else _READING
            await asyncio.to_thread(self._write, request, config_dir, names, fetch, limits)
            timeout = _START_TIMEOUT + limits.timeout * len(names)
            command = self._command(toolchain, request)
            result = await self._processes.run(command, on_output, timeout=timeout)
            ended = result.exit_code == 0
        except (LaunchError, OSError, TimeoutError, _TooMuchOutputError) as error:
            _LOGGER.warning("ESPHome could not be asked about configurations: %s", error)
        finally:
            await asyncio.to_thread(request.unlink, missing_ok=True)
        return await asyncio.to_thread(_decode, bytes(output), names, ended=ended)

    def _write(
        self,
        request: Path,
        config_dir: Path,
        names: Sequence[str],
        fetch: bool,
        limits: _Limits,
    ) -> None:
        content = {
            "config_dir": str(config_dir),
            "names": list(names),
            "clones": [str(path) for path in self._layout.data_dirs()],
            "seconds": limits.seconds,
            "memory": limits.memory,
            "fetch": fetch,
        }
        request.parent.mkdir(parents=True, exist_ok=True)
        request.write_text(json.dumps(content), encoding="utf-8")

    def _command(self, toolchain: Toolchain, request: Path) -> Command:
        here = str(Path(__file__).parent)
        return Command(
            argv=(*toolchain.python_command, "-s", "-c", _START, here, str(request)),
            cwd=self._layout.root,
            env=process_environment(
                os.environ,
                time_zone="UTC",
                home=self._layout.home,
                tmpdir=self._layout.tmp,
                extra={"ESPHOME_DATA_DIR": str(self._layout.packages), **GIT_ENVIRONMENT},
            ),
        )


def _decode(output: bytes, names: Sequence[str], *, ended: bool) -> dict[str, Answer]:
    """Return the answers; one that is not as it should be counts as a crash of ESPHome."""
    wanted = set(names)
    answers: dict[str, Answer] = {}
    other = ""
    for line in output.split(b"\n"):
        try:
            answer = decode_json(Answer, line)
        except CodecError:
            other = one_line(line.decode(errors="replace"), 200) or other
            continue
        if answer.file in wanted:
            answers[answer.file] = answer
    if not ended:
        if not answers:
            _LOGGER.warning("ESPHome could not be asked about configurations: %s", other)
        return answers
    for name in wanted - answers.keys():
        reason = Reason(ReasonKey.CONFIGURATION_CRASHES_ESPHOME, {"file": name})
        answers[name] = Answer(name, broken=True, says_device=True, problem=reason, reads=(name,))
    return answers
