"""Every key that the code uses has a text, and every text is used by the code."""

import re
import string

import probatio
import pytest

from custom_components.esphome_offload import config_flow
from custom_components.esphome_offload.automatic.canary import CanaryProblem
from custom_components.esphome_offload.config_flow import OffloadConfigFlow
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    ContainmentHere,
    Degree,
)
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage
from custom_components.esphome_offload.flows import (
    lending as lending_flow,
    options as options_flow,
    pairing as config_flow_pairing,
)
from custom_components.esphome_offload.flows.options import OffloadOptionsFlow

from .sources import (
    ROOT,
    Code,
    Texts,
    composed_keys,
    english,
    leaves,
    literals,
    placeholders,
)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return english()


# translations/en.json


def test_keys_and_texts_have_the_form_that_hassfest_wants(texts: Texts) -> None:
    known = {
        "title",
        "config",
        "options",
        "entity",
        "device",
        "services",
        "triggers",
        "conditions",
        "exceptions",
        "issues",
        "selector",
        "system_health",
        "common",
        "config_panel",
    }
    assert set(texts) <= known
    for path, text in leaves(texts):
        assert all(re.fullmatch(r"[a-z0-9_-]+", key) for key in path), path
        assert text == text.strip(), path
        assert text, path
        assert not re.search(r"<[a-z/!]", text, re.IGNORECASE), f"{path}: HTML"
        assert not re.search(r"'[^']*\{\w+\}[^']*'", text), f"{path}: quoted placeholder"
        assert "[%key:" not in text, f"{path}: references are not resolved"
        list(string.Formatter().parse(text))  # raises on unbalanced braces


def test_no_text_has_a_url_but_in_a_placeholder(texts: Texts) -> None:
    for path, text in leaves(texts):
        assert not re.search(r"(https?|ftps?|scp)://|mailto:", text), path


def test_sections_that_are_there_have_content(texts: Texts) -> None:
    assert not [key for key, value in texts.items() if not value]


def test_described_data_is_asked_for(texts: Texts) -> None:
    for flow in ("config", "options"):
        for step in texts[flow]["step"].values():
            for form in (step, *step.get("sections", {}).values()):
                assert set(form.get("data_description", {})) == set(form.get("data", {}))


def test_every_step_has_a_text_and_every_text_a_step(texts: Texts) -> None:
    for flow, handler in (("config", OffloadConfigFlow), ("options", OffloadOptionsFlow)):
        steps = {
            name.removeprefix("async_step_")
            for part in handler.__mro__
            if part.__module__.startswith("custom_components.")
            for name in vars(part)
            if name.startswith("async_step_")
        }
        # These only lead to others.
        assert set(texts[flow]["step"]) == steps - {
            "hassio",
            "reauth",
            "system",
            "user",
            "zeroconf",
        }


def test_forms_ask_for_what_the_texts_describe(texts: Texts) -> None:
    def fields(schema: probatio.Schema) -> set[str]:
        return {str(key) for key in schema.schema}

    config = texts["config"]["step"]
    for step in ("instance", "reconfigure"):
        assert set(config[step]["data"]) == fields(config_flow.FOLDER_SCHEMA)
    for step in ("pair", "reauth_confirm", "reconfigure_peer"):
        assert set(config[step]["data"]) == fields(config_flow_pairing.ADDRESS_SCHEMA)
    assert set(config["code"]["data"]) == fields(config_flow_pairing.CODE_SCHEMA)
    options = texts["options"]["step"]
    assert set(options["fixed_version"]["data"]) == fields(options_flow.FIXED_VERSION_SCHEMA)
    shown = {
        str(key): fields(group.schema) for key, group in options_flow.OPTIONS_SCHEMA.schema.items()
    }
    lending = lending_flow.lending_schema(ContainmentHere(Degree.UNCONTAINED, 0, "", ""))
    assert set(options["lending"]["data"]) == fields(lending)
    described = options["settings"]["sections"]
    assert {key: set(group["data"]) for key, group in described.items()} == shown
    assert all(group["name"] for group in described.values())


def test_flows_fill_every_placeholder_of_their_texts(texts: Texts) -> None:
    # Which of them in which form: see the tests of the dialogs, which look at each.
    pairing = {
        "address",
        "app",
        "builder",
        "example_url",
        "knowing",
        "label",
        "name",
        "others",
        "pin",
        "reason",
        "tried",
        "tries",
        "url",
    }
    filled = {
        "config": {"folder", "home", *pairing},
        "options": {"code", "containment", "label", "reason", "until", "version"},
    }
    for flow, given in filled.items():
        for path, text in leaves(texts[flow]):
            assert placeholders(text) <= given, path


def test_every_common_text_is_used_and_the_reverse(texts: Texts) -> None:
    """Keys that are put together from an enum begin with its name."""
    composed = {
        *(f"operation_{each}" for each in Operation),
        *(f"canary_{each}" for each in CanaryProblem),
        *(f"stage_{each}" for each in (*Stage, JobStatus.QUEUED)),
        *(f"logbook_{each}" for each in ("completed", "failed", "cancelled", "superseded")),
    }
    users = (
        "batch/outdated.py",
        "batch/report.py",
        "config_flow.py",
        "flows/several.py",
        "update.py",
        "system_health.py",
    )
    written = set().union(*(literals(ROOT / name) for name in users))
    common = set(texts["common"])
    assert composed <= common
    assert common - composed <= written


def test_issues_have_a_title_and_one_explanation(texts: Texts) -> None:
    for key, issue in texts.get("issues", {}).items():
        assert issue["title"], key
        assert ("description" in issue) != ("fix_flow" in issue), key


# What the code uses and what en.json has are the same


def test_every_exception_that_is_raised_has_a_text_and_the_reverse(texts: Texts) -> None:
    code = Code.read()
    used = code.exception_keys | composed_keys()
    assert used - set(texts["exceptions"]) == set(), "raised, but without a text"
    assert set(texts["exceptions"]) - used == set(), "a text that nothing raises"


def test_exceptions_fill_every_placeholder_of_their_text(texts: Texts) -> None:
    code = Code.read()
    for key, given in code.exception_placeholders:
        assert placeholders(texts["exceptions"][key]["message"]) <= given, key


def test_every_issue_that_is_raised_has_a_text_and_the_reverse(texts: Texts) -> None:
    assert Code.read().issue_keys == set(texts.get("issues", {}))


def test_every_entity_has_a_name_and_the_reverse(texts: Texts) -> None:
    named = {
        (platform, key)
        for platform, entities in texts.get("entity", {}).items()
        for key in entities
    }
    assert named == Code.read().entity_keys


def test_every_error_of_a_flow_has_a_text_and_the_reverse(texts: Texts) -> None:
    shown = (
        ROOT / "config_flow.py",
        *ROOT.glob("flows/*.py"),
        ROOT / "engine" / "client" / "dial.py",
    )
    written = set().union(*(literals(path) for path in shown))
    for flow in ("config", "options"):
        for key in texts[flow]["error"]:
            assert key in written, f"{key}: a text that no flow shows"
    known = {key for flow in ("config", "options") for key in texts[flow]["error"]}
    shaped = {
        literal
        for literal in written
        if re.fullmatch(r"(folder|version)_(not_\w+|invalid|unsupported)|not_a_\w+", literal)
    }
    assert shaped <= known


def test_system_health_names_what_it_shows(texts: Texts) -> None:
    path = ROOT / "system_health.py"
    if not path.exists():
        assert "system_health" not in texts
        return
    assert set(texts["system_health"]["info"]) <= literals(path)
