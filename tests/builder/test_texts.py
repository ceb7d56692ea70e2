"""What a person is shown: the status, the code, the log."""

import logging

from esphome_offload_builder.log import OneLine
from esphome_offload_builder.pairing import large
from esphome_offload_builder.payloads import BuildPayload, GuestPayload, StatusPayload
from esphome_offload_builder.status import guests_text, status_text

GUEST = GuestPayload(
    pin_sha256="ab" * 32,
    label="living room",
    connected=False,
    paired_at="2026-11-29T20:00:00+00:00",
    last_seen=None,
    builds=3,
)
BUILD = BuildPayload(
    guest="living room",
    configuration="lamp.yaml",
    device="lamp",
    esphome_version="2026.10.0",
    stage="compiling",
    percent=42.0,
    ahead=None,
)
STATUS = StatusPayload(
    name="attic",
    version="0.1.0",
    pin_sha256="cd" * 32,
    port=16053,
    available=False,
    why_not="Too little free disk",
    containment="signals_open",
    containment_text="Builds are contained as far as that goes",
    slots=2,
    busy=1,
    queued=1,
    builds=[BUILD, BUILD | {"stage": "queued", "percent": None, "ahead": 1}],
    guests=[GUEST],
    toolchains=["2026.10.0", "2026.9.0"],
    ccache=True,
    ccache_hits=118,
    ccache_files=120,
    memory_free_mib=512,
    disk_free_mib=None,
    disk_used=3 * 2**30,
    disk_limit=20 * 2**30,
)


def test_the_status_names_each_build_with_guest_device_and_stage() -> None:
    lines = status_text(STATUS).splitlines()
    assert "Builds are contained as far as that goes" in lines
    assert "Accepts no builds: Too little free disk" in lines
    assert "Slots: 1 of 2 in use, 1 builds wait" in lines
    assert "  lamp of living room, ESPHome 2026.10.0: compiling 42 %" in lines
    assert "  lamp of living room, ESPHome 2026.10.0: queued, 1 builds before it" in lines
    assert "Disk: 3.0 of 20.0 GiB used by guests" in lines
    assert "ESPHome versions: 2026.10.0, 2026.9.0" in lines
    assert "Compiler cache: 118 of 120 files since the start came from it" in lines
    assert lines[-2:] == [
        "Guests:",
        f"  living room: last seen never, 3 builds, pin {'ab' * 32}",
    ]


def test_free_disk_is_shown_where_it_is_known() -> None:
    assert ", 2.0 GiB free" in status_text(STATUS | {"disk_free_mib": 2048})


def test_without_guests_it_says_what_to_do() -> None:
    assert guests_text([]).endswith("esphome-offload-builder pair")


def test_the_code_is_shown_large() -> None:
    rows = large("12345678").splitlines()
    assert len(rows) >= 5
    assert max(map(len, rows)) <= 80
    assert large("12345678") != large("12345679")


def test_an_event_is_one_line_with_its_traceback() -> None:
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "broken\nforged", None, None)
    try:
        int("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    text = OneLine("%(message)s").format(record)
    assert "\n" not in text
    assert "ValueError: invalid literal" in text
