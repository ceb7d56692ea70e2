"""Flasher: puts kept firmware on a device with ``esphome upload``."""

import asyncio
from collections import deque
from collections.abc import Sequence
import logging
import os
from pathlib import Path
import re
import shutil
import time

from ..const import FailureReason, Stage
from ..job_log import OWN
from ..reason import Reason, ReasonKey
from ..threads import UnreliableThreads, in_thread
from .cache.layout import CacheLayout
from .firmware import verify
from .model import BuildError, BuildSink, FlashRequest
from .process.processes import Command, LaunchError, Processes, ProcessResult
from .toolchain.esphome_command import (
    Entry,
    EsphomeCall,
    enter_directly,
    esphome_command,
)
from .toolchain.toolchains import Toolchains
from .upload_diagnosis import judge

_LOGGER = logging.getLogger(__name__)

_TIMEOUT = 1800.0
"""For what comes before the first connection; ESPHome looks for the device's address."""
_STALLED = 60.0
"""Seconds without a sign that an upload advances. Erasing the flash takes some ten; ESPHome would
wait for 160."""
_LOOK_TIMEOUT = 10.0
"""Seconds that the folder of the configurations has to answer."""
_TAIL = 200
_DONE = "OTA successful"
"""ESPHome then sleeps for a second and exits; the device restarts already."""
_CONNECTED = re.compile(r"\bConnected to \S+|^Uploading:")
_STARTED = re.compile(rf"{_CONNECTED.pattern}|\bConnecting to \S+")
_TRIES_AGAIN = re.compile(r"\bRetrying in \d+ seconds \(attempt (\d{1,4}) of (\d{1,4})\)")
_EXTRA_TRIES = 2
"""ESPHome tries each address once, and then again this often; a job has its own tries."""


class FirmwareFlasher:
    """Flashes from a data directory of its own: no path of a build machine is involved."""

    def __init__(
        self,
        layout: CacheLayout,
        processes: Processes,
        toolchains: Toolchains,
        *,
        entry: Entry = enter_directly,
        stalled: float = _STALLED,
        look_timeout: float = _LOOK_TIMEOUT,
    ) -> None:
        """``stalled``: seconds after which an upload that does not advance is ended."""
        self._stalled = stalled
        self._look_timeout = look_timeout
        self._threads = UnreliableThreads()
        self._layout = layout
        self._processes = processes
        self._toolchains = toolchains
        self._entry = entry

    async def flash(self, request: FlashRequest, sink: BuildSink) -> None:
        """Return once the device has said that it took all of the firmware.

        Raises BuildError: device_offline when it could not be reached, upload_refused when it said
        no and will again, upload_failed when it was cut off, config_invalid when nothing was
        kept of what was validated for the build and the configuration is not valid any more,
        integrity or no_firmware when the kept firmware is not what was built.
        """
        sink.stage(Stage.UPLOADING)
        toolchain = await self._toolchains.ensure(
            request.firmware.build_info.esphome_version, sink.lines
        )
        data_dir = self._layout.flash(request.configuration, request.mac)
        try:
            saved = await self._saved(request.config_dir / request.configuration)
            await in_thread(lambda _: _prepare(data_dir, request, saved))
            # As late as can be: from here on the file is only read by ESPHome.
            await verify(request.firmware)
            call = EsphomeCall(
                config_dir=request.config_dir,
                data_dir=data_dir,
                time_zone=request.time_zone,
                arguments=(
                    "upload",
                    str(request.config_dir / request.configuration),
                    f"--file={request.firmware.ota}",
                    *(f"--device={address}" for address in request.addresses),
                ),
                # It hardly computes, and the device does not wait for ever.
                nice=0,
            )
            command = esphome_command(self._layout, self._entry, toolchain, call)
            failure = await self._upload(command, request, sink)
        except (LaunchError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                # It may be the firmware that is missing: then the tools are not at fault.
                await verify(request.firmware)
            self._toolchains.invalidate(toolchain.version)
            sink.lines((f"{OWN}The upload could not be started: {error}",))
            raise BuildError(
                FailureReason.UPLOAD_FAILED, Reason(ReasonKey.UPLOAD_FAILED_TO_START)
            ) from error
        finally:
            # It holds the resolved secrets, and nothing is to be uploaded with old ones.
            try:
                await in_thread(lambda _: _forget_configuration(data_dir))
            except OSError as error:
                # What the device said still counts. The next flash removes it first.
                _LOGGER.warning("Files of the upload to %s stay: %s", request.device_name, error)
        if failure is not None:
            raise failure

    async def _saved(self, main_file: Path) -> float:
        """Return when a configuration was saved; 0 if its folder does not say, or not in time."""
        try:
            return await self._threads.run(lambda: main_file.stat().st_mtime, self._look_timeout)
        except OSError:  # TimeoutError is one
            return 0.0

    async def _upload(
        self, command: Command, request: FlashRequest, sink: BuildSink
    ) -> BuildError | None:
        """Run ESPHome until it is done or cannot succeed; return why it did not."""
        loop = asyncio.get_running_loop()
        tail: deque[str] = deque(maxlen=_TAIL)
        best = 0.0
        why: ReasonKey | None = None
        result = ProcessResult(exit_code=1)

        def advance() -> None:
            # What ESPHome says while it is ended comes too late.
            if not limit.expired():
                limit.reschedule(loop.time() + self._stalled)

        def lines(batch: Sequence[str]) -> None:
            tail.extend(batch)
            sink.lines(batch)
            if limit.when() is not None or any(map(_STARTED.search, batch)):
                advance()

        def progress(percent: float) -> None:
            nonlocal best
            sink.progress(percent)
            if percent > best:
                best = percent
                advance()

        try:
            async with asyncio.timeout(None) as limit:
                result = await self._processes.run_lines(
                    command,
                    lines,
                    progress,
                    until=lambda line: _DONE in line or _tries_again(line),
                    timeout=_TIMEOUT,
                )
        except TimeoutError:
            sink.lines((f"{OWN}The upload does not advance and is ended",))
            why = ReasonKey.UPLOAD_STALLED
        if result.exit_code == 0 and tail and _tries_again(tail[-1]):
            why = ReasonKey.UPLOAD_CUT_OFF
        if result.exit_code == 0 and why is None:
            return None
        # In a thread: what a device says stands in these lines.
        name = request.device_name
        return await asyncio.to_thread(judge, tuple(tail), result, name, request.config_dir, why)


def _tries_again(line: str) -> bool:
    """Return whether ESPHome has tried each address and is about to start over."""
    found = _TRIES_AGAIN.search(line)
    return found is not None and int(found[1]) > int(found[2]) - _EXTRA_TRIES


def _prepare(data_dir: Path, request: FlashRequest, saved: float) -> None:
    """Give ESPHome what was validated for the build, so that it does not validate again."""
    storage = data_dir / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    _forget_configuration(data_dir)
    # ESPHome validates again what is older than the main file, which may have been saved since.
    now = max(time.time(), saved)
    for name, file in request.firmware.validated.items():
        target = storage / f"{request.configuration}.{name}"
        shutil.copy(file, target)
        os.utime(target, (now, now))


def _forget_configuration(data_dir: Path) -> None:
    for file in (data_dir / "storage").glob("*"):
        file.unlink(missing_ok=True)
