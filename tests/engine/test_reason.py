"""Reasons: their texts, what cleans them, and what is taken from a peer."""

import json
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine import reason as module
from custom_components.esphome_offload.engine.codec import decode_json, encode_json
from custom_components.esphome_offload.engine.protocol.messages import SentReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

_TRANSLATIONS = Path(module.__file__).parents[1] / "translations" / "en.json"


@pytest.mark.parametrize("key", ReasonKey)
def test_each_reason_has_its_text_in_the_translations(key: ReasonKey) -> None:
    texts = json.loads(_TRANSLATIONS.read_text())["exceptions"]
    assert texts[key.value] == {"message": key.text}
    assert key.text
    assert not key.text.endswith(".")


def test_a_reason_reads_as_its_text_with_its_parameters() -> None:
    reason = Reason(ReasonKey.MEMORY_LOW, {"free": "12", "needed": "400"})
    assert str(reason).startswith("Too little free memory for a build (12 MiB of at least 400")


def test_the_line_and_the_reasons_of_others_follow() -> None:
    assert str(Reason(ReasonKey.CODE_REFUSED, line="error: no")).endswith("compile: error: no")
    causes = {"Attic": Reason(ReasonKey.ACCEPTS_NO_BUILDS), "Cellar": Reason(ReasonKey.NOT_LENT)}
    assert str(Reason(ReasonKey.NO_BUILDER_TAKES, causes=causes)) == (
        "No builder takes this job: Attic: It does not accept builds at the moment;"
        " Cellar: It does not build for others any more"
    )


def test_whom_the_text_names_already_is_not_named_again() -> None:
    causes = {"Attic": Reason(ReasonKey.STOPPED_BY_OWNER)}
    assert str(Reason(ReasonKey.PEER_STOPPED_BUILD, {"label": "Attic"}, causes=causes)) == (
        "Attic stopped the build: Its owner stopped this build"
    )


def test_a_parameter_that_is_missing_is_unknown() -> None:
    assert str(Reason(ReasonKey.SLOTS_BUSY, {"load": "1"})) == "It is busy (1 of ?)"


def test_a_line_in_our_own_words_is_translated_and_a_tools_is_not() -> None:
    def said(line: str) -> str:
        return Reason(ReasonKey.CODE_REFUSED, line=line).render(lambda key: f"<{key}>")

    assert said(ReasonKey.LINE_ID_UNDEFINED.text) == "<code_refused>: <line_id_undefined>"
    assert said("error: no") == "<code_refused>: error: no"


def test_what_comes_from_outside_is_one_clean_line() -> None:
    hostile = "a\n2026-11-25 ERROR forged\x1b[31m\u202e" + "x" * 10_000
    reason = Reason(
        ReasonKey.BUILDER_STOPPED,
        {"label": hostile},
        hostile,
        {hostile: Reason(ReasonKey.NOT_LENT)},
    )
    text = str(reason)
    assert text.isprintable()
    assert len(text) < 1000


def test_braces_in_a_parameter_are_only_braces() -> None:
    assert str(Reason(ReasonKey.BUILDER_STOPPED, {"label": "{device}"})).startswith("{device} ")


def test_a_reason_survives_being_stored() -> None:
    reason = Reason(
        ReasonKey.NO_BUILDER_TAKES,
        causes={"Attic": Reason(ReasonKey.CODE_REFUSED, line="error: no", parameters={"a": "b"})},
    )
    assert decode_json(Reason, encode_json(reason)) == reason


def sent(raw: bytes) -> Reason:
    return decode_json(SentReason, raw).received(label="Attic", device="lamp")


def test_a_reason_of_a_peer_is_told_with_our_own_names() -> None:
    reason = SentReason.of(Reason(ReasonKey.FIRMWARE_GONE, {"device": "<script>"}))
    assert reason.received(label="Attic", device="lamp") == Reason(
        ReasonKey.FIRMWARE_GONE, {"device": "lamp"}
    )


def test_numbers_of_a_peer_are_taken() -> None:
    reason = Reason(ReasonKey.MEMORY_LOW, {"free": "12", "needed": "400"})
    assert sent(encode_json(SentReason.of(reason))) == reason


@pytest.mark.parametrize(
    "raw",
    [
        b'{"key": "from_a_newer_peer", "parameters": {"free": "1"}}',
        b'{"key": "memory_low", "parameters": {"free": "hunter2", "needed": "400"}}',
        b'{"key": "memory_low"}',
        b'{"key": "bundle_leaves_out", "parameters": {"files": "hunter2"}}',
    ],
)
def test_a_reason_that_cannot_be_told_is_not_known_here(raw: bytes) -> None:
    assert sent(raw) == Reason(ReasonKey.PEER_WITHOUT_REASON, {"label": "Attic"})


def test_a_line_of_a_peer_has_to_be_a_known_sentence() -> None:
    for line, shown in (
        ("error: 'hunter2' was not declared", None),
        ("Platform not found: x", "Platform not found"),
    ):
        reason = SentReason(ReasonKey.CODE_REFUSED, line=line).received(label="Attic")
        assert reason == Reason(ReasonKey.CODE_REFUSED, line=shown)
