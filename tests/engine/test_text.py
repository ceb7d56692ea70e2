from hypothesis import given, strategies as st
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


@pytest.mark.parametrize(
    "text",
    [
        "[a](b)",
        "<b>",
        "`code`",
        "*bold*",
        "_it_",
        "a|b",
        "\\n",
        "~~gone~~",
        "# title",
        "![image](x)",
    ],
)
def test_markdown_and_html_lose_their_meaning(text: str) -> None:
    assert not set(without_markup(text)) & set("[]<>`*_|\\~#!")


def test_a_text_without_markup_stays_as_it_is() -> None:
    assert (
        without_markup("ESPHome 2026.10.0 (beta): 5 % & more")
        == "ESPHome 2026.10.0 (beta): 5 % & more"
    )
