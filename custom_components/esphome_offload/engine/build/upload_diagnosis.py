"""What ESPHome's last lines say about an upload that did not succeed."""

from collections.abc import Sequence
from pathlib import Path
import re

from ..const import FailureReason
from ..machine_sentences import DEVICE, NETWORK
from ..reason import Reason, ReasonKey
from ..tool_line import clip, shown_line
from .diagnosis import CONFIG_INVALID_EXIT_CODE, classify
from .model import BuildError
from .process.processes import ProcessResult

# Older versions print an error behind the bar of the progress, on its row.
_ERROR = re.compile(r"^(?:\S.{0,200}\d% +)?(?:ERROR|CRITICAL)\s+(.*)")
_HOLLOW = re.compile(r"^(?:OTA upload failed|Connection failed|\(If )")
_CONNECTED = re.compile(
    r"\bConnected to \S|^Uploading:|Connection established|Handshake complete|Sending .{1,40}bytes"
)
_UNREACHABLE = re.compile(
    r"Error resolving|Could not resolve|could not be resolved|Could not find|No addresses to connect"
    r"|Connecting to \S+ port \d+ failed|Connection failed|[Ff]ailed to connect|[Uu]pload failed after \d+"
    r"|Upload failed after \d+ attempts|No route to host|[Nn]etwork is (?:unreachable|down)"
    r"|Host is (?:down|unreachable)|Connection refused|[Tt]imed out|Name or service not known"
    # BLE.
    r"|was not found|was disconnected|^(?:BLE )?[Dd]evice .{1,100} not found|BLE error connecting"
    r"|Connection error with"
    # The web server's way: all of urllib3's error in one line.
    r"|OTA upload to .*(?:NewConnectionError|ConnectTimeout|Max retries exceeded)"
)
# Said about a connection, or about the device's last words: another try may well go better.
_PASSING = re.compile(
    r"Upload failed after \d+ attempts|may have already committed|MD5 code mismatch"
    r"|Unknown error from ESP|Unexpected response from ESP|OTA upload to \S+ port \d+ failed"
    r"|[Tt]imed out|\[Errno \d+\]|[Rr]eset by peer|[Bb]roken pipe|[Cc]losed (?:the )?connection"
    r"|[Cc]onnection (?:was )?(?:closed|aborted|lost)|No route to host|[Nn]etwork is unreachable"
    r"|noise handshake: |MAC mismatch|noise frame|[Ee]rror (?:sending|receiving|reading) "
    r"|HTTP 5\d\d"
)
# What a device, or ESPHome on its behalf, says no with.
_REFUSALS = tuple(
    (re.compile(pattern), key)
    for pattern, key in (
        (
            (
                r"password|[Aa]uthentication|encryption|rejected the (?:noise )?handshake"
                r"|Noise handshake|HTTP 401"
            ),
            ReasonKey.DEVICE_REFUSES_PASSWORD,
        ),
        (
            r"enough space|too (?:big|large|small)|partition|flash size",
            ReasonKey.DEVICE_REFUSES_SIZE,
        ),
        (r"magic byte|signature|wrong (?:chip|board)", ReasonKey.DEVICE_REFUSES_IMAGE),
        (r"downgrade protection", ReasonKey.DEVICE_REFUSES_DOWNGRADE),
        (r"press the reset button|manual reset", ReasonKey.DEVICE_NEEDS_RESET),
        (r"ota configuration is not present", ReasonKey.CONFIGURATION_WITHOUT_OTA),
    )
)


def judge(
    tail: Sequence[str],
    result: ProcessResult,
    device_name: str,
    config_dir: Path,
    why: ReasonKey | None = None,
) -> BuildError:
    """Return what an upload that did not succeed means, from the lines that ESPHome printed.

    ``why`` it was ended by us, if it was.
    """
    code = result.exit_code
    if code == CONFIG_INVALID_EXIT_CODE and why is None:
        return classify(tail, result, config_dir)
    lines = [clip(line).strip() for line in tail]
    errors = [found[1].strip() for line in lines if (found := _ERROR.match(line)) is not None]
    connected = any(map(_CONNECTED.search, lines))
    if not connected and (why is not None or any(map(_UNREACHABLE.search, errors))):
        failure_reason, key = FailureReason.DEVICE_OFFLINE, ReasonKey.DEVICE_UNREACHABLE
    elif why is not None or result.signal is not None or any(map(_PASSING.search, errors)):
        timed_out = any("timed out" in line for line in errors)
        failure_reason = FailureReason.UPLOAD_FAILED
        key = why or (ReasonKey.UPLOAD_TIMED_OUT if timed_out else ReasonKey.UPLOAD_CUT_OFF)
    else:
        failure_reason, key = FailureReason.UPLOAD_REFUSED, ReasonKey.DEVICE_REFUSES
        known = (key for pattern, key in _REFUSALS if any(map(pattern.search, errors)))
        key = next(known, key)
    # Other keys say all. Of these, how it went wrong; without addresses.
    said = None
    if key in (ReasonKey.UPLOAD_CUT_OFF, ReasonKey.DEVICE_REFUSES, ReasonKey.DEVICE_UNREACHABLE):
        last = (line for line in reversed(errors) if not _HOLLOW.match(line))
        shown = (shown_line(line, (*DEVICE, *NETWORK)) for line in last)
        said = next((line for line in shown if line is not None), None)
    return BuildError(failure_reason, Reason(key, {"device": device_name}, said), code)
