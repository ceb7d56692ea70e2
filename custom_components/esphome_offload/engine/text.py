"""The one place that cleans texts from outside before they are shown, logged or sent."""

import re
from typing import Final

_ELLIPSIS: Final = "…"
_MARKUP: Final = re.compile(r"[][<>`*|\\~#!]|_+(?!\w)")
"""An underscore before a letter or a digit cannot end an emphasis, so that none begins."""


def one_line(text: str, limit: int) -> str:
    """Return ``text`` as one line of at most ``limit`` printable characters.

    Line breaks and control characters could forge lines of a log, bidirectional overrides reorder
    what is read there.
    """
    clipped = text[: 2 * limit].encode(errors="replace").decode()
    line = " ".join("".join(each if each.isprintable() else " " for each in clipped).split())
    if len(line) <= limit and len(text) <= 2 * limit:
        return line
    return f"{line[: limit - 1]}{_ELLIPSIS}"


def printable(text: str, limit: int) -> str:
    """Return a line of output, at most ``limit`` characters of it, with its spaces as they are.

    What is not printable becomes a space.
    """
    line = text[:limit]
    if line.isprintable():
        return line
    clean = line.encode(errors="replace").decode()
    return "".join(each if each.isprintable() else " " for each in clean)


def without_markup(text: str) -> str:
    """Return ``text`` without the characters that have a meaning in Markdown or HTML.

    Names keep their underscores, as in ``living_room.yaml`` and ``_common.yaml``.
    """
    return _MARKUP.sub(" ", text)
