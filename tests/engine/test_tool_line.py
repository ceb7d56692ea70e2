"""What may be shown of a tool's line."""

import pytest

from custom_components.esphome_offload.engine.tool_line import safe_line

SECRET = "hunter2-pass"


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
