from pathlib import Path
import re

import pytest

from custom_components.esphome_offload.engine.client import connection, link
from custom_components.esphome_offload.engine.host import (
    build_host as host,
    inbox,
    runner as builds,
    used_ids as seen,
)
from custom_components.esphome_offload.engine.protocol import (
    definitions as protocol,
    greetings,
    messages,
)
from custom_components.esphome_offload.engine.protocol.definitions import Capability, ErrorCode
from custom_components.esphome_offload.engine.protocol.messages import AttemptState
from custom_components.esphome_offload.engine.protocol.payloads import FirmwarePart
from custom_components.esphome_offload.lending import views as peer_views

DOCS = Path(__file__).parents[3] / "docs"
PROTOCOL_PAGE = (DOCS / "protocol.md").read_text()
TIMES = "\N{MULTIPLICATION SIGN}"

TYPES = [
    each.TYPE
    for module in (greetings, messages)
    for each in vars(module).values()
    if isinstance(each, type) and hasattr(each, "TYPE")
]
URLS = [
    protocol.URL_INFO,
    protocol.URL_PAIR,
    protocol.URL_TICKET,
    protocol.URL_BUNDLE,
    protocol.URL_FIRMWARE,
]


@pytest.mark.parametrize("word", [*TYPES, *ErrorCode, *Capability, *AttemptState, *FirmwarePart])
def test_every_word_of_the_protocol_is_documented(word: str) -> None:
    assert f"`{word}`" in PROTOCOL_PAGE


@pytest.mark.parametrize("url", URLS)
def test_every_url_is_documented(url: str) -> None:
    assert f"{url}`" in PROTOCOL_PAGE


@pytest.mark.parametrize(
    "said",
    [
        f"nobody was attached to for {builds.LEASE / 60:.0f} minutes",
        f"kept for {builds.KEEP / 3600:.0f} hours",
        f"the ids of each guest for {seen.KEPT_FOR.days} days, the newest {seen.KEPT:,} of them",
        f"`busy` ({host.ACTIVE} of this guest's builds wait or run)",
        f"wait for their submit for {inbox.WAIT / 3600:.0f} hour, at most {inbox.WAITING} of each",
        f"{inbox.AT_ONCE} of each guest may be on their way",
        f"less than {inbox.DISK_RESERVE // protocol.MIB} MiB are free",
        f"at most {connection.MESSAGE_LIMIT // protocol.MIB} MiB",
        f"`ping` every {connection.HEARTBEAT:.0f} seconds",
        f"no `pong` comes within {connection.PONG_TIMEOUT:.0f}",
        f"not answered within {connection.COMMAND_TIMEOUT:.0f}",
        f"(`submit` {link.SUBMIT_TIMEOUT:.0f}, `cancel` {link.CANCEL_TIMEOUT:.0f})",
        f"pauses of {link.FIRST_PAUSE:.0f} to {link.LONGEST_PAUSE:.0f} seconds",
        f"{peer_views._BURST} such requests at once and {peer_views._PER_SECOND:.0f} a second",
        f"at most {protocol.LINES_PER_BATCH} {TIMES} free text({protocol.LINE_LIMIT})",
        f"together at most {protocol.BATCH_CHARACTERS // 1024} Ki characters",
        f"at most {protocol.WANTED_LIMIT} attempt id",
        f"at most {protocol.VERSIONS_LIMIT} {TIMES} version",
        f"at most {protocol.WARM_LIMIT} {TIMES} configuration",
        f"`error`? free text({protocol.ERROR_LIMIT})",
        f"| `label` | `text({protocol.LABEL_LIMIT})`",
        f"| `detail` | `text({protocol.DETAIL_LIMIT})`",
        f"| `version` | `text({protocol.VERSION_LIMIT})`",
        f"| to the builder | {protocol.BUNDLE_LIMIT // protocol.MIB} MiB |",
        f"| to the offloader | {protocol.FIRMWARE_LIMIT // protocol.MIB} MiB |",
        f"time may be {protocol.CLOCK_TOLERANCE} seconds",
        f"{protocol.CODE_DIGITS} random decimal digits, {protocol.PAIRING_WINDOW // 60} minutes",
        f"minutes, {protocol.PAIRING_TRIES} tries",
        f"`expires_in` number, 0 to 3600 ({protocol.TICKET_LIFETIME} seconds)",
        f"After {protocol.STALL_TIMEOUT} seconds without any data",
    ],
)
def test_every_number_is_the_one_in_the_code(said: str) -> None:
    assert said in PROTOCOL_PAGE


@pytest.mark.parametrize("code", ErrorCode)
def test_every_status_is_the_one_in_the_code(code: ErrorCode) -> None:
    (errors,) = (
        line for line in PROTOCOL_PAGE.splitlines() if line.startswith("Errors: `too_large`")
    )
    said = re.search(rf"`{code}` (\d+)", errors)
    assert said is None or int(said[1]) == code.http_status
