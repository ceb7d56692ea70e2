from hypothesis import example, given, strategies as st
from markdown_it import MarkdownIt
import pytest

from custom_components.esphome_offload.engine.text import one_line, without_markup


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("as it is", "as it is"),
        ("  two\n lines\t", "two lines"),
        ("forged\r\n2026-11-25 ERROR", "forged 2026-11-25 ERROR"),
        ("next\u2028line\u0085here", "next line here"),
        ("red \x1b[31m and \x00", "red [31m and"),
        ("abc\u202edef", "abc def"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("Küche ☕", "Küche ☕"),
        ("", ""),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
        ("x" + " " * 200, "x…"),
    ],
)
def test_a_text_becomes_one_line_of_printable_characters(text: str, line: str) -> None:
    assert one_line(text, 40) == line


@given(st.text(st.characters(), max_size=200), st.integers(1, 60))
def test_whatever_it_is_given_it_is_bounded_printable_and_stable(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    line.encode()
    assert one_line(line, limit) == line


def test_a_very_long_text_costs_no_more_than_its_beginning() -> None:
    assert one_line("\n" * 50_000_000, 20) == "…"


@given(st.text("_*[]()<>!`~|\\#:/a1 .,-&;\n"))
@example("[a](b) ![image](x) <b> `code` *bold* _it_ __it__ _a b_, (_c_) \\n")
@example("a [b_c](d)_")
def test_markdown_and_html_lose_their_meaning(text: str) -> None:
    (inline,) = MarkdownIt("commonmark").parseInline(without_markup(text))
    assert {each.type for each in inline.children or ()} <= {"text", "softbreak", "hardbreak"}


@pytest.mark.parametrize("text", ["a|b", "~~gone~~", "~gone~", "# title"])
def test_what_else_home_assistants_frontend_knows_loses_its_meaning(text: str) -> None:
    assert not set(without_markup(text)) & set("|~#")


@pytest.mark.parametrize(
    "text",
    [
        "ESPHome 2026.10.0 (beta): 5 % & more",
        "living_room.yaml, _common.yaml: GPIO_16 of big__lamp",
        "http://my_host:8123",
    ],
)
def test_a_text_without_markup_stays_as_it_is(text: str) -> None:
    assert without_markup(text) == text
