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
    """Read and write the pipes of a launcher; all are closed if that fails or is cancelled."""
    loop = asyncio.get_running_loop()
    left = [pipes.control, pipes.output, pipes.report]
    connected: list[asyncio.BaseTransport] = []

    async def read() -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=_BUFFER)
        transport, _protocol = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(left.pop(0), "rb", 0)
        )
        connected.append(transport)
        return reader

    try:
        control, _protocol = await loop.connect_write_pipe(
            asyncio.Protocol, os.fdopen(left.pop(0), "wb", 0)
        )
        connected.append(control)
        return Launched(process, control, await read(), await read())
    except BaseException:
        # The end of its control pipe ends the launcher.
        for transport in connected:
            transport.close()
        for pipe in left:
            os.close(pipe)
        raise
