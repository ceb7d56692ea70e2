"""docs/protocol.md and docs/security.md say what the code does."""

from pathlib import Path
import re

import pytest

from custom_components.esphome_offload.engine.const import MIB
from custom_components.esphome_offload.engine.host import (
    build_host,
    guest_sessions,
    inbox,
    runner,
    strangers,
    used_ids,
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

ROOT = Path(__file__).parents[1]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
TIMES = "\N{MULTIPLICATION SIGN}"

TYPES = [
    each.TYPE
    for module in (hello, messages)
    for each in vars(module).values()
    if isinstance(each, type) and hasattr(each, "TYPE")
]
NAMED_TESTS = re.findall(r"`(tests/[^`]+)`", SECURITY)


@pytest.mark.parametrize("word", [*TYPES, *ErrorCode, *AttemptState])
def test_every_word_of_the_protocol_is_documented(word: str) -> None:
    assert f"`{word}`" in PROTOCOL


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
        f"at most {limits.WANTED_LIMIT} attempt ids",
        f"`size` int up to {limits.BUNDLE_LIMIT // MIB} MiB",
        f"`size` (up to {limits.FIRMWARE_LIMIT // MIB} MiB)",
        f"`busy` ({inbox.AT_ONCE} are on their way)",
        f"`busy` ({build_host.ACTIVE} of this guest",
        f"{limits.LINES_PER_BATCH} {TIMES} free text({limits.LINE_LIMIT})",
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
