"""What may be shown of a tool's line."""

from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.tool_line import safe_line, shown_line

SECRET = "hunter2-pass"
LOGS = Path(__file__).parent / "build" / "logs"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            f"/config/lamp.yaml:22:14: error: '{SECRET}' was not declared in this scope",
            "error: … was not declared in this scope",
        ),
        (
            (f"src/main.cpp:7: error: \u2018{SECRET}\u2019 was not declared in this scope;"
            f" did you mean \u2018x\u2019?"),
            "error: … was not declared in this scope; did you mean …?",
        ),
        (f"src/main.cpp:7:1: fatal error: {SECRET}.h: No such file or directory",
         "error: No such file or directory"),
        (f"src/main.cpp:7:1: error: static assertion failed: {SECRET}",
         "error: static assertion failed"),
        ("x/bin/ld: region `iram0_0_seg' overflowed by 432 bytes",
         "region iram0_0_seg overflowed by 432 bytes"),
        (f"src/main.cpp:30: undefined reference to `{SECRET}()'",
         "undefined reference to a symbol"),
        (f"[{SECRET}] is an invalid option for [sensor.template]. Did you mean [name]?",
         "Invalid option for [sensor]; did you mean [name]?"),
        (f"[{SECRET}] is an invalid option for [wifi]. Please check the indentation.",
         "Invalid option for [wifi]"),
        ("'ssid' is a required option for [wifi].", "'ssid' is a required option for [wifi]"),
        (f"Platform not found: 'sensor.{SECRET}'", "Platform not found"),
        (f"ERROR Error while reading config: Invalid YAML syntax: {SECRET}", "Invalid YAML syntax"),
    ],
)  # fmt: skip
def test_known_sentences_are_shown_without_what_they_quote(line: str, shown: str) -> None:
    assert safe_line(line) == shown
    # A builder has shown it already when the offloader looks at it.
    assert safe_line(shown) == shown


@pytest.mark.parametrize(
    "line",
    [
        f"  password: {SECRET}",
        f"src/main.cpp:7:1: error: #error {SECRET}",
        f"src/main.cpp:7:1: error: {SECRET}",
        f"src/main.cpp:7:1: error: '{SECRET}' was not {SECRET}",
        f"expected a dictionary, got {SECRET}",
        SECRET,
        "",
    ],
)
def test_all_else_is_for_the_log_alone(line: str) -> None:
    assert safe_line(line) is None


@pytest.mark.parametrize("part", ["'", "[a", "region ", "a:1: error: '", "ID ", "\\", "Did you"])
def test_no_line_takes_long(part: str) -> None:
    for _ in range(100):
        assert safe_line(part * 10_000) is None


NAMES = [
    "error while loading shared libraries: libhunter.so.1: cannot open shared object file",
    "ERROR: No matching distribution found for hunter2",
    "Because hunter2 was not found in the package registry and you require hunter2",
    "ERROR: update failed for project hunter2",
    "No module named 'hunter2'",
    "Failed to resolve component 'hunter2' required by component 'main'",
    "[hunter2] is an invalid option for [wifi.hunter2]. Please check the indentation.",
    "x/bin/ld: cannot find -lhunter2",
    "/bin/sh: 1: hunter2-gcc: not found",
]


@pytest.mark.parametrize("line", NAMES)
def test_names_are_shown_of_what_was_judged_here_only(line: str) -> None:
    here, anywhere = shown_line(line), safe_line(line)
    assert here is not None
    assert "hunter" in here
    assert anywhere is not None
    assert "hunter" not in anywhere
    # As a careless builder would send it.
    assert "hunter" not in (safe_line(here) or "")


@pytest.mark.parametrize(
    "line",
    [
        f"fatal: unable to access 'https://me:{SECRET}@example.org/': Could not resolve host: {SECRET}",
        f"Could not download from https://{SECRET}/a: 503 Server Error: {SECRET} for url: {SECRET}",
        f"error while loading shared libraries: {SECRET}: cannot open shared object file",
        f"/t/{SECRET}/ld: region `dram0_0_seg' overflowed by 12 bytes",
        f"ModuleNotFoundError: No module named '{SECRET}/{SECRET}'",
        f"OSError: [Errno 30] Read-only file system: '/{SECRET}'",
        f"[{SECRET}] is an invalid option for [wifi].",
        f"error: Kconfig: {SECRET}",
    ],
)
def test_of_what_stands_around_a_sentence_nothing_is_shown(line: str) -> None:
    for shown in (shown_line(line), safe_line(line)):
        assert SECRET not in (shown or "")


def test_what_is_shown_of_a_line_may_be_shown_again() -> None:
    """A builder has shown it already when the offloader looks at it."""
    seen = set()
    for log in LOGS.glob("*/input.log"):
        for line in log.read_text().splitlines():
            if (shown := safe_line(line)) is not None:
                seen.add(shown)
                assert safe_line(shown) == shown
                assert safe_line(shown_line(line) or "") is not None
    assert len(seen) > 50


@pytest.mark.parametrize("part", ["x", ":", "(", "'", "error: ", "section ", "HTTP ", "a-"])
def test_the_end_of_a_long_line_is_looked_at_too(part: str) -> None:
    line = part * 10_000 + " region `iram0_0_seg' overflowed by 432 bytes"
    assert safe_line(line) == "region iram0_0_seg overflowed by 432 bytes"
