"""Commands for uv, and the meaning of its failures."""

from collections.abc import Mapping, Sequence
from email import message_from_bytes
import os
from pathlib import Path
import platform
import re
import uuid

from packaging.specifiers import SpecifierSet

from ...reason import ReasonKey
from ..cache.layout import CacheLayout
from ..process.environment import uv_environment
from ..process.processes import Command

_DRAWING = re.compile(r"[\s\u2500-\u257f\u25b6\u00d7]+")
# In this order: without a network uv may also say that there is no such version.
_PROBLEMS: Sequence[tuple[ReasonKey, re.Pattern[str]]] = (
    (
        ReasonKey.VERSION_UNCHECKED,
        re.compile(
            r"Failed to fetch|error sending request|Request failed after|dns error|network was disabled"
            r"|not found in the cache|Connection (?:refused|reset)|timed out|tcp connect error"
            r"|HTTP status (?:client|server) error|Could not connect",
            re.IGNORECASE,
        ),
    ),
    (
        ReasonKey.VERSION_OTHER_PYTHON,
        re.compile(r"does not satisfy Python|requires a different Python|current Python version"),
    ),
    (
        ReasonKey.VERSION_UNKNOWN,
        re.compile(
            r"there (?:is|are) no versions? of esphome\b|esphome was not found in the package"
            r"|only esphome\S* (?:is|are) available"
        ),
    ),
)


class Uv:
    """Makes commands for uv. ``argv`` is how it is started, ``python`` the interpreter to use."""

    def __init__(self, layout: CacheLayout, argv: tuple[str, ...], python: Path) -> None:
        self._layout = layout
        self.argv = argv
        self.python = python

    def scratch(self) -> Path:
        """Return a path for a temporary file or folder; nothing is there yet."""
        return self._layout.tmp / uuid.uuid4().hex

    def command(
        self, *arguments: str, lock: Path | None = None, extra: Mapping[str, str] | None = None
    ) -> Command:
        """Return the command ``uv <arguments>``; ``extra`` goes into its environment."""
        return Command(
            argv=(*self.argv, *arguments),
            cwd=self._layout.root,
            env=uv_environment(
                os.environ,
                home=Path.home(),
                tmpdir=self._layout.tmp,
                cache=self._layout.uv_cache,
                extra={
                    "UV_NO_PROGRESS": "1",
                    "UV_NO_COLOR": "1",
                    # Home Assistant's own Python is used; none is downloaded.
                    "UV_PYTHON_DOWNLOADS": "never",
                    # Shared with the cache; uv copies by itself where links are not possible.
                    "UV_LINK_MODE": "hardlink",
                    **(extra or {}),
                },
            ),
            lock=lock,
        )


def unframed(output: str) -> str:
    """Return uv's message as one line, without the frame that it draws."""
    return _DRAWING.sub(" ", output).strip()


def problem(output: str) -> ReasonKey | None:
    """Return why a version is not available by uv's output; None when that does not say it.

    VERSION_UNKNOWN, VERSION_OTHER_PYTHON, or VERSION_UNCHECKED when the network is the cause.
    """
    text = unframed(output)
    return next((kind for kind, pattern in _PROBLEMS if pattern.search(text)), None)


def runs_here(site_packages: Path) -> bool:
    """Return whether the ESPHome in a folder of packages supports this Python.

    uv checks only the lower bound.
    """
    for metadata in site_packages.glob("esphome-*.dist-info/METADATA"):
        content = message_from_bytes(metadata.read_bytes())
        required = content["Requires-Python"] or ""
        return SpecifierSet(required).contains(platform.python_version(), prereleases=True)
    return False
