"""Inspector: asks the newest ESPHome that is there about configurations."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import json
import logging
import os
from pathlib import Path
import shutil
from typing import Final, Protocol, override
import uuid

from ..build.cache.layout import CacheLayout
from ..build.process.environment import process_environment
from ..build.process.processes import Command, LaunchError, Processes
from ..build.process.reach import reach, run_within
from ..build.toolchain.toolchain import Toolchain
from ..build.toolchain.toolchains import Toolchains
from ..codec import CodecError, decode_json
from ..const import MIB
from ..reason import Reason, ReasonKey
from ..text import one_line
from ..threads import UnreliableThreads
from .answers import Answer

_LOGGER = logging.getLogger(__name__)

_START: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); from inspection.program import main; main()"
)
_START_TIMEOUT: Final = 120.0
_LOOK_TIMEOUT: Final = 20.0
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


@dataclass(frozen=True, slots=True)
class _Question:
    """A question about files of a folder, in a temporary folder of its own."""

    toolchain: Toolchain
    folder: Path
    config_dir: Path
    names: tuple[str, ...]
    fetch: bool

    @property
    def limits(self) -> _Limits:
        """What it may take."""
        return _FETCHING if self.fetch else _READING


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

    def __init__(
        self,
        layout: CacheLayout,
        processes: Processes,
        toolchains: Toolchains,
        home: Path | None = None,
    ) -> None:
        """``home``: Home Assistant's configuration folder, in which not all is to be read."""
        self._layout = layout
        self._processes = processes
        self._toolchains = toolchains
        self._home = home
        self._threads = UnreliableThreads()

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
        output = bytearray()

        def on_output(chunk: bytes) -> None:
            output.extend(chunk)
            if len(output) > _OUTPUT:
                raise _TooMuchOutputError

        ended = False
        folder = self._layout.tmp / f"inspection-{uuid.uuid4().hex}"
        question = _Question(toolchain, folder, config_dir, tuple(names), fetch)
        try:
            timeout = _START_TIMEOUT + question.limits.timeout * len(names)
            ended = await self._run(question, on_output, timeout)
        except (LaunchError, OSError, TimeoutError, _TooMuchOutputError) as error:
            _LOGGER.warning("ESPHome could not be asked about configurations: %s", error)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return await asyncio.to_thread(_decode, bytes(output), names, ended=ended)

    async def _run(
        self, question: _Question, on_output: Callable[[bytes], None], timeout: float
    ) -> bool:
        """Return whether ESPHome has ended well; raises what ``Processes.run`` does."""
        # The folder may be on a share that does not answer.
        command = await self._threads.run(lambda: self._command(question), _LOOK_TIMEOUT)
        result = await run_within(
            lambda command: self._processes.run(command, on_output, timeout=timeout), command
        )
        return result.exit_code == 0

    def _command(self, question: _Question) -> Command:
        """Write the question down, and return the command that answers it. Blocks."""
        here = str(Path(__file__).parent)
        toolchain, folder, limits = question.toolchain, question.folder, question.limits
        clones = self._layout.data_dirs()
        content = {
            "config_dir": str(question.config_dir),
            "names": question.names,
            "clones": [str(path) for path in clones],
            "seconds": limits.seconds,
            "memory": limits.memory,
            "fetch": question.fetch,
        }
        folder.mkdir(parents=True)
        request = folder / "request.json"
        request.write_text(json.dumps(content), encoding="utf-8")
        write = [folder]
        if question.fetch:
            self._layout.packages.mkdir(parents=True, exist_ok=True)
            write.append(self._layout.packages)
        needed = (
            *toolchain.folders,
            question.config_dir,
            self._layout.home,
            *clones,
        )
        return Command(
            argv=(*toolchain.python_command, "-c", _START, here, str(request)),
            cwd=folder,
            env=process_environment(
                os.environ,
                time_zone="UTC",
                home=self._layout.home,
                tmpdir=folder,
                extra={"ESPHOME_DATA_DIR": str(self._layout.packages), **GIT_ENVIRONMENT},
            ),
            rules=reach(self._home, needed=needed, write=write),
            warm=toolchain.python_command,
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
