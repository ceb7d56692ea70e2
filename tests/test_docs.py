"""The README and the files in docs/ say what the code does."""

from dataclasses import fields
from pathlib import Path
import re

import pytest

from custom_components.esphome_offload.engine.const import MIB, FailureReason
from custom_components.esphome_offload.engine.host import (
    attempt,
    build_host,
    guest_sessions,
    inbox,
    runner,
    strangers,
    used_ids,
)
from custom_components.esphome_offload.engine.jobs.remedies import (
    REMEDIES,
    Action,
    Remedy,
    Step,
)
from custom_components.esphome_offload.engine.protocol import (
    bodies,
    hello,
    limits,
    messages,
    noise,
    session,
)
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.messages import AttemptState

from .e2e.harness.steps import STEPS, Steps, Task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
FAILURES = dict(
    re.findall(
        r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs" / "failures.md").read_text(), re.MULTILINE
    )
)
ACTIONS = {
    Action.FAIL: "fails",
    Action.NEXT_BUILDER: "next builder",
    Action.BUILD_AGAIN: "built again",
    Action.RETRY_UPLOAD: "again",
    Action.WAIT_FOR_DEVICE: "waits for the device",
}
TIMES = "\N{MULTIPLICATION SIGN}"

MESSAGES = [
    each
    for module in (hello, messages)
    for each in vars(module).values()
    if isinstance(each, type) and hasattr(each, "TYPE")
]
NAMED_TESTS = re.findall(r"`(tests/[^`]+)`", SECURITY)


@pytest.mark.parametrize("word", [*(each.TYPE for each in MESSAGES), *ErrorCode, *AttemptState])
def test_every_word_of_the_protocol_is_documented(word: str) -> None:
    assert f"`{word}`" in PROTOCOL


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.TYPE)
def test_every_message_is_documented_with_its_fields(message: type) -> None:
    (row,) = re.findall(rf"^\| `{message.TYPE}` \|.*$", PROTOCOL, re.MULTILINE)
    assert {field.name for field in fields(message)} <= set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize(
    "said",
    [
        f"`{hello.URL_LINK}`",
        f"longer than {noise.MESSAGE_BYTES:,} bytes",
        f"stranger has {limits.HANDSHAKE_TIMEOUT} seconds",
        f"at most {strangers.LIMIT} strangers",
        f"at most {limits.MESSAGE_LIMIT // 1024} KiB together",
        f"ping every {session.HEARTBEAT:.0f} seconds",
        f"no pong comes within {session.PONG_TIMEOUT:.0f}",
        f"after {session.SILENCE:.0f} seconds without a message",
        f"not answered within {session.COMMAND_TIMEOUT:.0f} seconds",
        f"At most {session.CALLS} commands",
        f"on up to {guest_sessions.PER_GUEST} connections",
        f"at most {bodies.WINDOW // MIB} MiB ahead",
        f"After {limits.STALL_TIMEOUT} seconds without progress",
        f"when {limits.KEEP_TIMEOUT} seconds after its last piece",
        f"at most {limits.WANTED_LIMIT} attempt ids",
        f"`size` int up to {limits.BUNDLE_LIMIT // MIB} MiB",
        f"`size` (up to {limits.FIRMWARE_LIMIT // MIB} MiB)",
        f"`busy` ({inbox.AT_ONCE} are on their way)",
        f"`busy` ({build_host.ACTIVE} of this guest",
        f"{limits.LINES_PER_BATCH} {TIMES} free text({limits.LINE_LIMIT})",
        f"at most every {attempt.NOTIFY_INTERVAL} seconds",
        f"after {attempt.NOTIFY_CHARACTERS // 1024} Ki characters",
        f"together at most {limits.BATCH_CHARACTERS // 1024} Ki characters",
        f"at most {limits.VERSIONS_LIMIT} {TIMES} version",
        f"at most {limits.WARM_LIMIT} {TIMES} configuration",
        f"| label | text({limits.LABEL_LIMIT})",
        f"| version | text({limits.VERSION_LIMIT})",
        f"attached to for {runner.LEASE / 60:.0f} minutes",
        f"kept for {runner.KEEP / 3600:.0f} hours",
        f"of one guest at most {runner.ENDED}",
        f"its submit for {inbox.WAIT / 3600:.0f} hour, at most {inbox.WAITING} of each",
        f"less than {inbox.DISK_RESERVE // MIB} MiB free",
        f"for {used_ids.KEPT_FOR.days} days, the newest {used_ids.KEPT:,}",
        f"{limits.CODE_DIGITS} random digits for {limits.PAIRING_WINDOW // 60} minutes",
        f"minutes and {limits.PAIRING_TRIES} tries",
        f"each has {limits.PAIRING_EXCHANGE_TIMEOUT} seconds",
    ],
)
def test_every_number_is_the_one_in_the_code(said: str) -> None:
    assert said in PROTOCOL


def test_every_threat_names_a_test() -> None:
    table = SECURITY.partition("## Threats")[2].partition("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(NAMED_TESTS)


@pytest.mark.parametrize("name", NAMED_TESTS)
def test_every_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert re.search(rf"^(?:async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE)


def in_words(remedy: Remedy) -> str:
    words = ACTIONS[remedy.action]
    if remedy.times is not None:
        words += " once" if remedy.times == 1 else f" {remedy.times} times"
    if delays := [f"{delay:.0f}" for delay in remedy.delays if delay]:
        after = f"after {', '.join(delays[:-1])} and {delays[-1]} s"
        next_one = remedy.action is Action.NEXT_BUILDER
        words += f"; this one again {after}" if next_one else f", {after}"
    return words if remedy.then is Action.FAIL else f"{words}, then {ACTIONS[remedy.then]}"


def test_every_failure_is_in_the_table_and_nothing_else() -> None:
    assert list(FAILURES) == list(FailureReason)


@pytest.mark.parametrize("reason", FailureReason)
def test_the_table_says_what_a_job_does(reason: FailureReason) -> None:
    building = REMEDIES.get((Step.BUILD, reason), Remedy(Action.FAIL))
    flashing = REMEDIES[Step.FLASH, reason]
    _, *said = FAILURES[reason].split(" | ")
    assert said == [in_words(building), in_words(flashing)]


@pytest.mark.parametrize("task", Task)
def test_the_readme_has_the_steps_of_each_task(task: Task) -> None:
    steps = STEPS[task]
    there = f"{steps.fewest} to {steps.most}" if steps.fewest < steps.most else f"{steps.most}"
    assert re.search(rf"^\| {task} \| {steps.ours} \| (about )?{there} \|$", README, re.MULTILINE)


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_no_task_takes_more_steps_than_with_device_builder(steps: Steps) -> None:
    assert steps.ours <= steps.fewest <= steps.most


def test_the_readme_shows_the_pictures_that_the_script_makes() -> None:
    script = (ROOT / "script" / "take_screenshots.py").read_text()
    made = set(re.findall(r'take\(\w+, "([\w.]+)"\)', script))
    assert set(re.findall(r"docs/(\w+\.png)", README)) == made
    assert {path.name for path in (ROOT / "docs").glob("*.png")} == made


@pytest.mark.parametrize("path", (ROOT / "docs").glob("*.png"), ids=lambda path: path.name)
def test_a_picture_is_small(path: Path) -> None:
    assert path.stat().st_size < 200 * 1024
