"""The integration's texts, by which tests find what a person sees."""

from functools import cache
import json
from typing import Final

from .client import Json
from .instance import COMPONENT

_TRANSLATIONS: Final = COMPONENT / "translations" / "en.json"


@cache
def _english() -> Json:
    return json.loads(_TRANSLATIONS.read_text(encoding="utf-8"))


def text(path: str, **values: str | int) -> str:
    """Return a text by its dotted path in the translations, with ``values`` in it."""
    found = _english()
    for key in path.split("."):
        found = found[key]
    assert isinstance(found, str)
    return found.format(**values)


def page_text(key: str, **values: str | int) -> str:
    """Return a text of the sidebar page."""
    return text(f"config_panel.{key}", **values)
