from dataclasses import is_dataclass

import pytest

from custom_components.esphome_offload.engine.codec import encode, encode_json, schema
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.protocol import hello, messages, negotiation, payloads
from custom_components.esphome_offload.engine.protocol.errors import (
    ErrorCode,
    ProtocolError,
    said_of_other,
)
from custom_components.esphome_offload.engine.protocol.limits import (
    BATCH_CHARACTERS,
    LINE_LIMIT,
    LINES_PER_BATCH,
    MESSAGE_LIMIT,
    QUEUE_LIMIT,
    WANTED_LIMIT,
)
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptEvent,
    AttemptState,
    LinesEvent,
    SendBundle,
    SentReason,
    StatusEvent,
    Wanted,
    line_batches,
)
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import BuildParameters
from custom_components.esphome_offload.engine.reason import ReasonKey

ATTEMPT = "0123456789abcdef0123456789abcdef"
PARAMETERS = BuildParameters(
    ATTEMPT, ATTEMPT, "kitchen.yaml", "kitchen", "2026.10.0", "Europe/Berlin"
)
MESSAGES = [
    each
    for module in (hello, messages, negotiation, payloads)
    for each in vars(module).values()
    if isinstance(each, type) and is_dataclass(each) and each.__module__ == module.__name__
    and each not in (negotiation.Agreement, hello.Opening, hello.Opened)
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_every_field_of_every_message_has_limits(message: type) -> None:
    schema(message)


def test_no_two_messages_have_the_same_type() -> None:
    types = [each.TYPE for each in MESSAGES if hasattr(each, "TYPE")]
    assert len(types) == len(set(types))
    assert len(types) > 15


@pytest.mark.parametrize(
    "configuration",
    ["../x.yaml", "a/b.yaml", "a\\b.yaml", "/x.yaml", ".x.yaml", "-x.yaml", "x.txt", "x.yaml\n",
     "x.yaml\0", "", ".yaml", "x" * 200 + ".yaml", "..yaml"],
)  # fmt: skip
def test_a_configuration_is_a_plain_file_name(configuration: str) -> None:
    with pytest.raises(ProtocolError, match="configuration"):
        parse(BuildParameters, encode(PARAMETERS) | {"configuration": configuration})


@pytest.mark.parametrize("configuration", ["kitchen.yaml", "Küche 2.yml", "a.b.yaml", "a.yaml"])
def test_usual_file_names_are_configurations(configuration: str) -> None:
    wire = encode(PARAMETERS) | {"configuration": configuration}
    assert parse(BuildParameters, wire).configuration == configuration


@pytest.mark.parametrize(
    "version",
    [
        "2026.10.0 --index-url=x",
        "esphome",
        "-1",
        "2026.10.0;x",
        "git+https://x",
        "2026.*",
        "",
        "2026",
    ],
)
def test_a_version_is_nothing_that_an_installer_reads_otherwise(version: str) -> None:
    with pytest.raises(ProtocolError, match="esphome_version"):
        parse(BuildParameters, encode(PARAMETERS) | {"esphome_version": version})


@pytest.mark.parametrize("version", ["2026.10.0", "2026.10.0b1", "2026.10.0rc2", "2026.10.0.dev3"])
def test_usual_versions_are_versions(version: str) -> None:
    wire = encode(PARAMETERS) | {"esphome_version": version}
    assert parse(BuildParameters, wire).esphome_version == version


@pytest.mark.parametrize(
    "zone", ["../../etc/passwd", "/etc/localtime", ":x", "a\0b", "A/B/C/D", ""]
)
def test_a_time_zone_is_no_path(zone: str) -> None:
    with pytest.raises(ProtocolError, match="time_zone"):
        parse(BuildParameters, encode(PARAMETERS) | {"time_zone": zone})


@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT+1", "America/Argentina/Buenos_Aires"])
def test_usual_time_zones_are_time_zones(zone: str) -> None:
    assert parse(BuildParameters, encode(PARAMETERS) | {"time_zone": zone}).time_zone == zone


@pytest.mark.parametrize("name", ["..", ".x", "a/b", "-x", "a b", ""])
def test_a_device_name_can_stand_in_a_path(name: str) -> None:
    with pytest.raises(ProtocolError, match="device_name"):
        parse(BuildParameters, encode(PARAMETERS) | {"device_name": name})


@pytest.mark.parametrize("attempt", [ATTEMPT.upper(), ATTEMPT[:-1], ATTEMPT + "0", "../" + ATTEMPT])
def test_an_attempt_id_is_32_hex_digits(attempt: str) -> None:
    with pytest.raises(ProtocolError, match="attempt_id"):
        parse(SendBundle, {"attempt_id": attempt, "sha256": "0" * 64})


REASON = SentReason(ReasonKey.CODE_REFUSED, {}, "error: no")


def test_a_failure_reason_of_a_newer_builder_is_still_a_failure() -> None:
    event = AttemptEvent(ATTEMPT, AttemptState.FAILED, 3, FailureReason.COMPILE_FAILED, REASON, 1)
    assert parse(AttemptEvent, encode(event)) == event
    newer = parse(AttemptEvent, encode(event) | {"failure_reason": "flooded"})
    assert newer.failure_reason is FailureReason.INTERNAL


def test_a_state_is_final_when_nothing_more_will_come() -> None:
    final = {each for each in AttemptState if each.final}
    assert final == {AttemptState.COMPLETED, AttemptState.FAILED, AttemptState.CANCELLED}


@pytest.mark.parametrize("field", ["slots", "busy", "queue_length"])
def test_a_builder_does_not_make_us_compute_for_more_builds_than_there_can_be(field: str) -> None:
    wire = encode(StatusEvent(True, slots=1, busy=0, queue_length=0))
    assert parse(StatusEvent, wire | {field: QUEUE_LIMIT})
    with pytest.raises(ProtocolError, match=field):
        parse(StatusEvent, wire | {field: QUEUE_LIMIT + 1})


def test_more_wanted_attempts_than_allowed_are_refused() -> None:
    wanted = Wanted((ATTEMPT,) * WANTED_LIMIT)
    assert parse(Wanted, encode(wanted)) == wanted
    with pytest.raises(ProtocolError):
        parse(Wanted, encode(Wanted((ATTEMPT,) * (WANTED_LIMIT + 1))))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["one"],
        [f"line {number}" for number in range(3 * LINES_PER_BATCH + 1)],
        ["x" * LINE_LIMIT] * 300,
        ["\x01" * LINE_LIMIT] * 300,
        ["\ud800 \r \x1b[0m"],
        ["x" * (LINE_LIMIT + 1)],
    ],
    ids=["none", "one", "many", "long", "escaped", "odd", "too long"],
)
def test_lines_are_cut_into_batches_that_keep_every_limit(lines: list[str]) -> None:
    batches = list(line_batches(ATTEMPT, 7, lines))
    next_line = 7
    for batch in batches:
        assert parse(LinesEvent, encode(batch)) == batch
        assert sum(map(len, batch.lines)) <= BATCH_CHARACTERS
        assert len(encode_json(batch)) <= MESSAGE_LIMIT
        assert batch.first_line == next_line
        next_line += len(batch.lines)
    received = [line for batch in batches for line in batch.lines]
    assert received == [line[:LINE_LIMIT].replace("\ud800", "?") for line in lines]


def test_too_old_there_reads_too_new_here() -> None:
    assert said_of_other(ErrorCode.TOO_OLD) is ErrorCode.TOO_NEW
    assert said_of_other(ErrorCode.TOO_NEW) is ErrorCode.TOO_OLD
    assert said_of_other(ErrorCode.BUSY) is ErrorCode.BUSY
