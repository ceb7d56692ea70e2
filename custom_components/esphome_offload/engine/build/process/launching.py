"""Starting a launcher: as a program of its own, or in a Python that has ESPHome imported."""

import asyncio
from dataclasses import dataclass
import os
from pathlib import Path
import sys
from typing import Final, cast

from .warm import Pipes, Started

_BUFFER: Final = 64 * 1024
"""asyncio stops reading at twice this, the pipe fills, and the command waits for us."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A launcher and its three pipes."""

    process: Started
    control: asyncio.WriteTransport
    output: asyncio.StreamReader
    report: asyncio.StreamReader


async def start_launcher(program: str) -> Launched:
    """Start a launcher as a program of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        program,
        str(Path(__file__).parents[1]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_BUFFER,
        # Ours may hold tokens, which every process of this user could read there.
        env={key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ},
    )
    # All three were asked for, so they are there.
    control = cast("asyncio.StreamWriter", process.stdin).transport
    output = cast("asyncio.StreamReader", process.stdout)
    report = cast("asyncio.StreamReader", process.stderr)
    return Launched(process, control, output, report)


async def connect(process: Started, pipes: Pipes) -> Launched:
    """Read and write the pipes of a launcher."""
    loop = asyncio.get_running_loop()

    async def read(pipe: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=_BUFFER)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
        )
        return reader

    control, _protocol = await loop.connect_write_pipe(
        asyncio.Protocol, os.fdopen(pipes.control, "wb", 0)
    )
    return Launched(process, control, await read(pipes.output), await read(pipes.report))
