"""Texts of others, where Home Assistant shows Markdown."""

import re

_MARKUP = re.compile(r"[][<>`*_|\\]")


def plain(text: str) -> str:
    """Return a text without what means something in Markdown."""
    return _MARKUP.sub(" ", text)
