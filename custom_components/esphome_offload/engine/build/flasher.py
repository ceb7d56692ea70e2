"""Flasher: puts kept firmware on a device with ``esphome upload``."""

import asyncio
from collections import deque
from collections.abc import Sequence
import os
from pathlib import Path
import re
import shutil
import time

from ..const import FailureReason, Stage
from ..job_log import OWN
from ..reason import Reason, ReasonKey
from .cache.layout import CacheLayout
from .diagnosis import CONFIG_INVALID_EXIT_CODE, classify
from .firmware import verify
from .model import BuildError, BuildSink, FlashRequest
from .process.processes import LaunchError, Processes, ProcessResult
from .toolchain.esphome_command import (
    Entry,
    EsphomeCall,
    enter_directly,
    esphome_command,
)
from .toolchain.toolchains import Toolchains

_TIMEOUT = 1800.0
"""ESPHome gives up by itself: three tries, each over within 160 s after the last sign of life."""
_TAIL = 200
_DONE = "OTA successful"
"""ESPHome then sleeps for a second and exits; the device restarts already."""
_CONNECTED = re.compile(r"\bConnected to \S+")
_UNREACHABLE = re.compile(
    r"Error resolving IP address|Could not resolve|could not be resolved|No addresses to connect to"
    r"|Upload failed after \d+ attempts"
    # The web server's way: all of urllib3's error in one line.
    r"|OTA upload to .*(?:NewConnectionError|ConnectTimeout|Connection refused|No route to host)"
)
# Said by the device or about its last words, but another try may well go better.
_PASSING = re.compile(
    r"Upload failed after \d+ attempts|may have already committed|MD5 code mismatch"
    r"|Unknown error from ESP|Unexpected response from ESP|OTA upload to \S+ port \d+ failed"
)
# What a device, or ESPHome on its behalf, says no with.
_REFUSALS = tuple(
    (re.compile(pattern), key)
    for pattern, key in (
        (
            (
                r"password|[Aa]uthentication|encryption|rejected the (?:noise )?handshake"
                r"|Noise handshake"
            ),
            ReasonKey.DEVICE_REFUSES_PASSWORD,
        ),
        (r"enough space|too big|partition|flash size", ReasonKey.DEVICE_REFUSES_SIZE),
        (r"magic byte|signature", ReasonKey.DEVICE_REFUSES_IMAGE),
        (r"downgrade protection", ReasonKey.DEVICE_REFUSES_DOWNGRADE),
        (r"press the reset button", ReasonKey.DEVICE_NEEDS_RESET),
        (r"ota configuration is not present", ReasonKey.CONFIGURATION_WITHOUT_OTA),
    )
)
_LONGEST_LINE = 1000
_LEVEL = re.compile(r"^(?:ERROR|CRITICAL)\s+(.*)")


class FirmwareFlasher:
    """Flashes from a data directory of its own: no path of a build machine is involved."""

    def __init__(
        self,
        layout: CacheLayout,
        processes: Processes,
        toolchains: Toolchains,
        *,
        entry: Entry = enter_directly,
    ) -> None:
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
        data_dir = self._layout.flash(request.configuration)
        try:
            await asyncio.to_thread(_prepare, data_dir, request)
            # As late as can be: from here on the file is only read by ESPHome.
            await verify(request.firmware)
            call = EsphomeCall(
                config_dir=request.config_dir,
                data_dir=data_dir,
                lock=self._layout.flash_lock(request.configuration),
                time_zone=request.time_zone,
                arguments=(
                    "upload",
                    str(request.config_dir / request.configuration),
                    f"--file={request.firmware.ota}",
                    # "OTA" is ESPHome's word for the address that the configuration gives.
                    f"--device={request.address or 'OTA'}",
                ),
                # It hardly computes, and the device does not wait for ever.
                nice=0,
            )
            tail: deque[str] = deque(maxlen=_TAIL)

            def lines(batch: Sequence[str]) -> None:
                tail.extend(batch)
                sink.lines(batch)

            result = await self._processes.run_lines(
                esphome_command(self._layout, self._entry, toolchain, call),
                lines,
                sink.progress,
                until=lambda line: _DONE in line,
                timeout=_TIMEOUT,
            )
        except (LaunchError, OSError) as error:
            self._toolchains.invalidate(toolchain.version)
            sink.lines((f"{OWN}The upload could not be started: {error}",))
            raise BuildError(
                FailureReason.UPLOAD_FAILED, Reason(ReasonKey.UPLOAD_FAILED_TO_START)
            ) from error
        finally:
            # It holds the resolved secrets, and nothing is to be uploaded with old ones.
            await asyncio.to_thread(_forget_configuration, data_dir)
        if result.exit_code != 0:
            # In a thread: what a device says stands in these lines.
            raise await asyncio.to_thread(
                judge, tuple(tail), result, request.firmware.device_name, request.config_dir
            )


def judge(
    tail: Sequence[str], result: ProcessResult, device_name: str, config_dir: Path
) -> BuildError:
    """Return what an upload that did not succeed means, from the lines that ESPHome printed."""
    code = result.exit_code
    if code == CONFIG_INVALID_EXIT_CODE:
        return classify(tail, result, config_dir)
    lines = [line[:_LONGEST_LINE] for line in tail]
    errors = [found[1].strip() for line in lines if (found := _LEVEL.match(line))]
    connected = any(_CONNECTED.search(line) for line in lines)
    if not connected and any(_UNREACHABLE.search(line) for line in errors):
        failure_reason, key = FailureReason.DEVICE_OFFLINE, ReasonKey.DEVICE_UNREACHABLE
    elif result.signal is not None or any(_PASSING.search(line) for line in errors):
        failure_reason, key = FailureReason.UPLOAD_FAILED, ReasonKey.UPLOAD_CUT_OFF
    else:
        failure_reason, key = FailureReason.UPLOAD_REFUSED, ReasonKey.DEVICE_REFUSES
        known = (key for pattern, key in _REFUSALS if any(map(pattern.search, errors)))
        key = next(known, key)
    return BuildError(failure_reason, Reason(key, {"device": device_name}), code)


def _prepare(data_dir: Path, request: FlashRequest) -> None:
    """Give ESPHome what was validated for the build, so that it does not validate again."""
    storage = data_dir / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    _forget_configuration(data_dir)
    main_file = request.config_dir / request.configuration
    # ESPHome validates again what is older than the main file, which may have been saved since.
    now = max(time.time(), main_file.stat().st_mtime) if main_file.exists() else time.time()
    for name, file in request.firmware.validated.items():
        target = storage / f"{request.configuration}.{name}"
        shutil.copy(file, target)
        os.utime(target, (now, now))


def _forget_configuration(data_dir: Path) -> None:
    for file in (data_dir / "storage").glob("*"):
        file.unlink(missing_ok=True)
