"""What the last lines of an upload mean."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.process.processes import ProcessResult
from custom_components.esphome_offload.engine.build.upload_diagnosis import judge
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

HERE_DIR = Path("/config/esphome")

# The words of ESPHome 2026.10.0 in each of these cases, without what comes before.
JUDGED: list[tuple[str, list[str], FailureReason, ReasonKey]] = [
    (
        "wrong password",
        [
            "INFO Connecting to 127.0.0.1 port 28082...",
            "INFO Connected to 127.0.0.1",
            "ERROR receiving auth result: Authentication invalid. Is the password correct?",
            "WARNING Failed to upload to ['127.0.0.1']",
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.DEVICE_REFUSES_PASSWORD,
    ),
    (
        "too big",
        [
            "INFO Connected to 192.0.2.7",
            (
                "ERROR receiving update prepare result: ESP does not have enough space to store OTA file."
                " Please try flashing a minimal firmware (remove everything except ota)"
            ),
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.DEVICE_REFUSES_SIZE,
    ),
    (
        "no OTA in the configuration",
        [
            (
                "ERROR Cannot upload Over the Air as the ota configuration is not present or does not"
                " include platform: esphome or platform: web_server"
            ),
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.CONFIGURATION_WITHOUT_OTA,
    ),
    (
        "off",
        [
            "INFO Connecting to 127.0.0.1 port 28082...",
            "WARNING Connecting to 127.0.0.1 port 28082 failed: [Errno 111] Connection refused",
            "INFO Retrying in 5 seconds (attempt 2 of 3)...",
            (
                "ERROR Upload failed after 3 attempts: connecting to 127.0.0.1 failed: [Errno 111]"
                " Connection refused"
            ),
            "WARNING Failed to upload to ['127.0.0.1']",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "unknown name",
        [
            "ERROR Error resolving IP address of ['lamp.invalid']. Is it connected to WiFi?",
            "ERROR (If this error persists, please set a static IP address: https://esphome.io/)",
            (
                "ERROR Error resolving IP address: Error resolving lamp.invalid to IP address: [Errno -2]"
                " Name or service not known"
            ),
            "WARNING Failed to upload to ['lamp.invalid']",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "no address in the configuration",
        [
            (
                "ERROR All specified devices ['OTA'] could not be resolved. Is the device connected to"
                " the network? If you know the IP, set 'use_address' in your network config."
            ),
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "cut off, then not there",
        [
            "INFO Connected to 192.0.2.7",
            "WARNING sending data: [Errno 104] Connection reset by peer",
            "INFO Retrying in 5 seconds (attempt 2 of 3)...",
            "WARNING Connecting to 192.0.2.7 port 3232 failed: timed out",
            "ERROR Upload failed after 3 attempts: connecting to 192.0.2.7 failed: timed out",
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_TIMED_OUT,
    ),
    (
        "not there, up to 2026.7",
        [
            "INFO Connecting to 192.0.2.7 port 3232...",
            "ERROR Connecting to 192.0.2.7 port 3232 failed: [Errno 113] No route to host",
            "ERROR Connection failed.",
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "cut off, up to 2026.7",
        [
            "INFO Connected to 192.0.2.7",
            "Uploading: [=         ] 2% ERROR receiving chunk result response: timed out",
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_TIMED_OUT,
    ),
    (
        "lost after the last byte",
        [
            "INFO Connected to 192.0.2.7",
            (
                "ERROR receiving update end result: timed out (the device may have already committed the"
                " update and be rebooting; check whether it comes back with the new firmware before"
                " uploading again)"
            ),
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_TIMED_OUT,
    ),
    (
        "bad checksum",
        [
            "INFO Connected to 192.0.2.7",
            (
                "ERROR receiving update end result: Application MD5 code mismatch. Please try again or"
                " flash over USB with a good quality cable."
            ),
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_CUT_OFF,
    ),
    (
        "web server, wrong password",
        [
            "INFO Connecting to 192.0.2.7 port 80...",
            (
                "ERROR Authentication failed (HTTP 401). Check the 'web_server' 'auth' username and"
                " password."
            ),
            "ERROR OTA upload failed.",
            "WARNING Failed to upload to ['192.0.2.7']",
        ],
        FailureReason.UPLOAD_REFUSED,
        ReasonKey.DEVICE_REFUSES_PASSWORD,
    ),
    (
        "web server, off",
        [
            "INFO Connecting to 192.0.2.7 port 80...",
            (
                "ERROR OTA upload to 192.0.2.7 port 80 failed: HTTPConnectionPool(host='192.0.2.7',"
                " port=80): Max retries exceeded with url: /update (Caused by NewConnectionError("
                "'[Errno 111] Connection refused'))"
            ),
            "ERROR OTA upload failed.",
        ],
        FailureReason.DEVICE_OFFLINE,
        ReasonKey.DEVICE_UNREACHABLE,
    ),
    (
        "web server, cut off",
        [
            "INFO Connecting to 192.0.2.7 port 80...",
            "Uploading: [====      ] 42% ",
            (
                "ERROR OTA upload to 192.0.2.7 port 80 failed: ('Connection aborted.',"
                " ConnectionResetError(104, 'Connection reset by peer'))"
            ),
            "ERROR OTA upload failed.",
        ],
        FailureReason.UPLOAD_FAILED,
        ReasonKey.UPLOAD_CUT_OFF,
    ),
    ("silence", [], FailureReason.UPLOAD_REFUSED, ReasonKey.DEVICE_REFUSES),
]


@pytest.mark.parametrize(
    ("tail", "failure_reason", "key"),
    [case[1:] for case in JUDGED],
    ids=[case[0].replace(" ", "_") for case in JUDGED],
)
def test_each_ending_has_its_meaning(
    tail: list[str], failure_reason: FailureReason, key: ReasonKey
) -> None:
    error = judge(tail, ProcessResult(exit_code=1), "lamp", HERE_DIR)
    assert error.failure_reason is failure_reason
    # With nothing of ESPHome's addresses, which are values of the configuration.
    assert error.reason == Reason(key, {"device": "lamp"}, error.reason.line)
    assert "192.0.2.7" not in str(error)


def test_a_configuration_that_does_not_validate_any_more_is_invalid() -> None:
    tail = ["Failed config", "", "ota: [source lamp.yaml:3]", "  'passwort' is not allowed."]
    error = judge(tail, ProcessResult(exit_code=2), "lamp", HERE_DIR)
    assert error.failure_reason is FailureReason.CONFIG_INVALID
    at = {"file": "lamp.yaml", "row": "3"}
    assert error.reason == Reason(ReasonKey.CONFIG_REFUSED_AT, at)


def test_an_upload_that_somebody_killed_may_be_tried_again() -> None:
    killed = ProcessResult(exit_code=137, signal=9)
    error = judge(["INFO Connected to 192.0.2.7"], killed, "lamp", HERE_DIR)
    assert error.failure_reason is FailureReason.UPLOAD_FAILED
