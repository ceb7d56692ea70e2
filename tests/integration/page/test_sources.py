"""The sources of the page: texts, elements, colors."""

from collections.abc import Iterable
from enum import StrEnum
import json
import re

import pytest

from custom_components.esphome_offload.engine.const import (
    FailureReason,
    Image,
    JobStatus,
    Operation,
)
from custom_components.esphome_offload.engine.protocol.messages import AttemptState

from ..sources import REPOSITORY, english, leaves


def test_every_text_that_the_page_uses_is_there_and_every_one_is_used() -> None:
    texts = {".".join(path) for path, _text in leaves(english()["config_panel"])}
    source = "".join(
        path.read_text() for path in sorted((REPOSITORY / "frontend" / "src").glob("*.ts"))
    )
    # In a choice of keys each is a literal of its own; a composed one names its section.
    named = set(re.findall(r"\"([a-z_]+(?:\.[a-z_]+)?)\"", source))
    sections = {f"{name}." for name in re.findall(r"`([a-z_]+)\.\$\{", source)}
    called = set(re.findall(r"text\(\s*\"([a-z_.]+)\"", source))
    counted = set(re.findall(r"counted\(this\.hass, \"([a-z_.]+)\"", source))
    forms = {f"{key}_{form}" for key in counted for form in ("one", "other")}
    called |= forms
    named |= forms
    assert called <= texts, called - texts
    unused = {
        key for key in texts if key not in named and not any(key.startswith(s) for s in sections)
    }
    assert not unused
    assert sections == {f"{section}." for section in SECTIONS}


SECTIONS = {
    "tab",
    "status",
    "stage",
    "operation",
    "program",
    "attempt",
    "builders",
    "hint",
    "image",
    "image_for",
}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        # One that runs shows its stage; one that somebody ended needs no hint.
        ("status", {*JobStatus, FailureReason.SUPERSEDED} - {JobStatus.RUNNING}),
        ("operation", Operation),
        ("attempt", AttemptState),
        ("hint", {*FailureReason} - {FailureReason.CANCELLED, FailureReason.SUPERSEDED}),
        ("image", Image),
        ("image_for", Image),
    ],
)
def test_every_value_has_a_text(section: str, values: Iterable[StrEnum]) -> None:
    assert set(english()["config_panel"][section]) == {value.value for value in values}


def test_the_page_defines_only_elements_with_our_prefix() -> None:
    sources = sorted((REPOSITORY / "frontend" / "src").glob("*.ts"))
    elements = re.findall(r'customElement\("([^"]+)"\)', "".join(p.read_text() for p in sources))
    assert elements
    assert all(name.startswith("esphome-offload-") for name in elements)
    assert json.loads((REPOSITORY / "frontend" / "package.json").read_text())["private"] is True


def test_the_page_has_only_the_colors_of_home_assistant() -> None:
    color = re.compile(r"#[0-9a-f]{3,8}\b|\brgba?\(|\bhsla?\(|\b(?:black|white)\b(?!-)")
    sources = sorted((REPOSITORY / "frontend" / "src").glob("*.ts"))
    assert [p.name for p in sources if color.search(p.read_text())] == []
