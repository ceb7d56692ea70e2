"""The files that describe the integration keep to Home Assistant's, hassfest's and HACS's rules.

Beyond hassfest: every key that the code uses has a text, and every text is used by the code.
"""

import ast
from collections.abc import Iterator
import json
from pathlib import Path
import re
import string
from typing import Any, cast

from awesomeversion import AwesomeVersion, AwesomeVersionStrategy
from homeassistant.core import HomeAssistant
from homeassistant.helpers import service as service_helper
from homeassistant.loader import Integration
from PIL import Image
import probatio
import pytest
import yaml

from custom_components.esphome_offload import (
    config_flow,
    config_flow_pairing,
    lending_flow,
    options_flow,
    services,
)
from custom_components.esphome_offload.builders.containment import (
    ContainmentHere,
    Degree,
    Obstacle,
)
from custom_components.esphome_offload.config_flow import OffloadConfigFlow
from custom_components.esphome_offload.const import DOMAIN, FailureReason
from custom_components.esphome_offload.jobs.queue import RefusalReason
from custom_components.esphome_offload.options_flow import OffloadOptionsFlow

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "custom_components" / DOMAIN

type Texts = dict[str, Any]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return cast("Texts", json.loads((ROOT / "translations" / "en.json").read_text()))


@pytest.fixture(scope="module")
def actions() -> Texts:
    return cast("Texts", yaml.safe_load((ROOT / "services.yaml").read_text()))


@pytest.fixture(scope="module")
def icons() -> Texts:
    return cast("Texts", json.loads((ROOT / "icons.json").read_text()))


# manifest.json, hacs.json, brand


MANIFEST_SCHEMA = probatio.Schema(
    {
        probatio.Required("domain"): DOMAIN,
        probatio.Required("name"): str,
        probatio.Required("codeowners"): [probatio.Match(r"^@[\w-]+$")],
        probatio.Required("config_flow"): True,
        probatio.Required("documentation"): probatio.Match(
            r"^https://(?!www\.home-assistant\.io/integrations)"
        ),
        probatio.Required("integration_type"): probatio.In(
            ["device", "entity", "hardware", "helper", "hub", "service", "system"]
        ),
        probatio.Required("iot_class"): probatio.In(
            [
                "assumed_state",
                "calculated",
                "cloud_polling",
                "cloud_push",
                "local_polling",
                "local_push",
            ]
        ),
        probatio.Required("issue_tracker"): probatio.Match(r"^https://"),
        probatio.Required("version"): str,
        "after_dependencies": [str],
        "dependencies": [str],
        "requirements": [str],
        "loggers": [str],
        "quality_scale": probatio.In(["bronze", "silver", "gold", "platinum", "custom"]),
        "zeroconf": list,
    }
)


def test_the_manifest_has_the_keys_that_hassfest_allows_in_its_order() -> None:
    manifest = json.loads((ROOT / "manifest.json").read_text())
    MANIFEST_SCHEMA(manifest)
    rest = [key for key in manifest if key not in ("domain", "name")]
    assert list(manifest) == ["domain", "name", *sorted(rest)]


def test_home_assistant_loads_the_manifest(hass: HomeAssistant) -> None:
    import custom_components

    integration = Integration.resolve_from_root(hass, custom_components, DOMAIN)
    assert integration is not None
    assert integration.domain == DOMAIN
    assert integration.config_flow
    assert AwesomeVersion(integration.version).strategy is AwesomeVersionStrategy.SEMVER


def test_what_is_imported_from_other_components_is_a_dependency() -> None:
    manifest = json.loads((ROOT / "manifest.json").read_text())
    declared = {*manifest["dependencies"], *manifest["after_dependencies"], DOMAIN}
    # Platforms that every integration may offer need no declaration.
    offered = {
        "binary_sensor",
        "diagnostics",
        "logbook",
        "recorder",
        "repairs",
        "sensor",
        "switch",
        "system_health",
        "update",
    }
    used = {
        match[1]
        for path in ROOT.rglob("*.py")
        for match in re.finditer(r"homeassistant\.components(?:\.| import )(\w+)", path.read_text())
    }
    assert used - offered <= declared


def test_hacs_json_has_no_other_keys_than_hacs_knows() -> None:
    schema = probatio.Schema(
        {
            probatio.Required("name"): str,
            probatio.Optional("homeassistant"): str,
            probatio.Optional("hide_default_branch"): bool,
            probatio.Optional("zip_release"): bool,
            probatio.Optional("filename"): str,
            probatio.Optional("content_in_root"): bool,
            probatio.Optional("country"): probatio.Any(str, [str]),
            probatio.Optional("hacs"): str,
            probatio.Optional("persistent_directory"): str,
        }
    )
    content = schema(json.loads((REPOSITORY / "hacs.json").read_text()))
    assert AwesomeVersion(content["homeassistant"]) >= "2026.8.0"


def test_the_licence_is_mit() -> None:
    assert (REPOSITORY / "LICENSE").read_text().startswith("MIT License\n")


@pytest.mark.parametrize(("name", "size"), [("icon.png", 256), ("icon@2x.png", 512)])
def test_the_icon_has_the_size_that_the_brand_needs(name: str, size: int) -> None:
    with Image.open(ROOT / "brand" / name) as icon:
        assert icon.format == "PNG"
        assert icon.size == (size, size)
        assert icon.convert("RGBA").getpixel((0, 0))[3] == 0, "the background is transparent"


def test_every_quality_scale_rule_says_done_todo_or_why_not() -> None:
    rules = yaml.safe_load((ROOT / "quality_scale.yaml").read_text())["rules"]
    exempt = probatio.Schema(
        {probatio.Required("status"): "exempt", probatio.Required("comment"): str}
    )
    probatio.Schema({probatio.Match(r"^[a-z-]+$"): probatio.Any("done", "todo", exempt)})(rules)


# services.yaml and icons.json


def test_home_assistant_accepts_the_actions_and_their_selectors(actions: Texts) -> None:
    service_helper._SERVICES_SCHEMA(actions)
    assert not [name for name in actions if name.startswith(".")]


def test_the_described_actions_are_the_registered_ones(
    actions: Texts, texts: Texts, icons: Texts
) -> None:
    names = {service.value for service in services.OffloadService}
    assert set(actions) == names
    assert set(texts["services"]) == names
    assert set(icons["services"]) == names


def test_every_field_has_a_text_and_is_accepted(actions: Texts, texts: Texts) -> None:
    accepted = {
        **{operation.value: fields for operation, fields in services._SUBMIT_FIELDS.items()},
        "cancel": services._CANCEL_FIELDS,
        "get_jobs": services._GET_JOBS_FIELDS,
        "get_log": services._GET_LOG_FIELDS,
        "open_pairing": {},
    }
    for name, action in actions.items():
        described = set(action["fields"])
        assert set(texts["services"][name]["fields"]) == described, name
        assert described <= {str(key) for key in accepted[name]}, name
        # Fields of ours, so without those of a target, are all described.
        ours = {str(key) for key in accepted[name]} & {
            str(field) for field in services.ServiceField
        }
        assert ours <= described, name


def test_actions_and_fields_have_a_name_and_a_description(texts: Texts) -> None:
    for name, action in texts["services"].items():
        for described in (action, *action["fields"].values()):
            assert described["name"], name
            assert described["description"], name


def test_selectors_name_their_options_in_en_json(actions: Texts, texts: Texts) -> None:
    used: dict[str, set[str]] = {}
    for selector in _selectors(actions):
        if (select := selector.get("select")) and "translation_key" in select:
            used.setdefault(select["translation_key"], set()).update(select["options"])
    for flow_key, options in _flow_selectors():
        used.setdefault(flow_key, set()).update(options)
    assert {key: set(value["options"]) for key, value in texts["selector"].items()} == used


def _selectors(actions: Texts) -> Iterator[dict[str, Any]]:
    for action in actions.values():
        for field in action["fields"].values():
            yield field["selector"]


def _flow_selectors() -> Iterator[tuple[str, list[str]]]:
    for group in options_flow._options_schema().schema.values():
        for selector in group.schema.schema.values():
            config = getattr(selector, "config", {})
            if "translation_key" in config:
                yield config["translation_key"], config["options"]


def test_icons_are_material_design_icons_and_states_differ_from_the_default(icons: Texts) -> None:
    assert set(icons) <= {"entity", "services", "triggers", "conditions"}
    for path, icon in _leaves(icons):
        assert re.fullmatch(r"mdi:[a-z0-9-]+", icon), path
    for platform in icons.get("entity", {}).values():
        for entity in platform.values():
            assert entity["default"] not in entity.get("state", {}).values()


# translations/en.json


def test_keys_and_texts_have_the_form_that_hassfest_wants(texts: Texts) -> None:
    known = {
        "title",
        "config",
        "options",
        "entity",
        "device",
        "services",
        "exceptions",
        "issues",
        "selector",
        "system_health",
        "common",
    }
    assert set(texts) <= known
    for path, text in _leaves(texts):
        assert all(re.fullmatch(r"[a-z0-9_-]+", key) for key in path), path
        assert text == text.strip(), path
        assert text, path
        assert not re.search(r"<[a-z/!]", text, re.IGNORECASE), f"{path}: HTML"
        assert not re.search(r"'[^']*\{\w+\}[^']*'", text), f"{path}: quoted placeholder"
        assert "[%key:" not in text, f"{path}: references are not resolved"
        list(string.Formatter().parse(text))  # raises on unbalanced braces


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
        assert set(texts[flow]["step"]) == steps - {"reauth", "user", "zeroconf"}


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
        str(key): fields(group.schema)
        for key, group in options_flow._options_schema().schema.items()
    }
    lending = lending_flow.lending_schema(ContainmentHere(Degree.UNCONTAINED, 0, "", ""))
    assert set(options["lending"]["data"]) == fields(lending)
    described = options["settings"]["sections"]
    assert {key: set(group["data"]) for key, group in described.items()} == shown
    assert all(group["name"] for group in described.values())


def test_flows_fill_every_placeholder_of_their_texts(texts: Texts) -> None:
    # Which of them in which form: see the tests of the dialogs, which look at each.
    pairing = {"address", "builder", "label", "minutes", "name", "reason", "tried", "tries", "url"}
    filled = {
        "config": {"folder", "home", *pairing},
        "options": {"code", "containment", "label", "reason", "until", "version"},
    }
    for flow, given in filled.items():
        for path, text in _leaves(texts[flow]):
            assert _placeholders(text) <= given, path


def test_every_degree_of_containment_has_a_sentence(texts: Texts) -> None:
    here = [
        ContainmentHere(Degree.CONTAINED, 7, "", ""),
        ContainmentHere(Degree.SIGNALS_OPEN, 5, "", ""),
        *(ContainmentHere(Degree.UNCONTAINED, 0, "", "", each) for each in Obstacle),
    ]
    assert set(texts["common"]) == {f"containment_{each.key}" for each in here}
    for each in here:
        assert _placeholders(texts["common"][f"containment_{each.key}"]) <= set(each.placeholders)


def test_issues_have_a_title_and_one_explanation(texts: Texts) -> None:
    for key, issue in texts.get("issues", {}).items():
        assert issue["title"], key
        assert ("description" in issue) != ("fix_flow" in issue), key


# What the code uses and what en.json has are the same


def test_every_exception_that_is_raised_has_a_text_and_the_reverse(texts: Texts) -> None:
    code = _Code.read()
    used = code.exception_keys | _composed_keys()
    assert used - set(texts["exceptions"]) == set(), "raised, but without a text"
    assert set(texts["exceptions"]) - used == set(), "a text that nothing raises"


def test_exceptions_fill_every_placeholder_of_their_text(texts: Texts) -> None:
    code = _Code.read()
    for key, given in code.exception_placeholders:
        assert _placeholders(texts["exceptions"][key]["message"]) <= given, key


def test_every_issue_that_is_raised_has_a_text_and_the_reverse(texts: Texts) -> None:
    assert _Code.read().issue_keys == set(texts.get("issues", {}))


def test_every_entity_has_a_name_and_the_reverse(texts: Texts) -> None:
    named = {
        (platform, key)
        for platform, entities in texts.get("entity", {}).items()
        for key in entities
    }
    assert named == _Code.read().entity_keys


def test_every_error_of_a_flow_has_a_text_and_the_reverse(texts: Texts) -> None:
    shown = (*ROOT.glob("*_flow*.py"), ROOT / "peers" / "visit.py")
    literals = set().union(*(_literals(path) for path in shown))
    for flow in ("config", "options"):
        for key in texts[flow]["error"]:
            assert key in literals, f"{key}: a text that no flow shows"
    known = {key for flow in ("config", "options") for key in texts[flow]["error"]}
    shaped = {
        literal
        for literal in literals
        if re.fullmatch(r"(folder|version)_(not_\w+|invalid|unsupported)|not_a_\w+", literal)
    }
    assert shaped <= known


def test_system_health_names_what_it_shows(texts: Texts) -> None:
    path = ROOT / "system_health.py"
    if not path.exists():
        assert "system_health" not in texts
        return
    assert set(texts["system_health"]["info"]) <= _literals(path)


def _composed_keys() -> set[str]:
    """Return the keys that are put together from an enum's values at run time."""
    keys: set[str] = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                prefix = node.values[0].value
                if prefix == "job_":
                    # Of the refusals only these two answer a submit.
                    keys |= {
                        f"job_{reason.value}"
                        for reason in (RefusalReason.ALREADY_RUNNING, RefusalReason.NOT_RUNNING)
                    }
                elif prefix == "install_failed_":
                    keys |= {f"install_failed_{reason.value}" for reason in FailureReason}
    # What JobQueue.cancel raises is passed on by its own name.
    return keys | {RefusalReason.NOTHING_TO_CANCEL.value, RefusalReason.UNKNOWN_JOB.value}


class _Code:
    """What the sources say about translations.

    A key is the literal value of a ``translation_key`` argument, or of the argument in the place
    of a parameter of that name, or of one called ``key`` of a helper called ``refusal``.
    """

    def __init__(self) -> None:
        self.exception_keys: set[str] = set()
        self.exception_placeholders: list[tuple[str, set[str]]] = []
        self.issue_keys: set[str] = set()
        self.entity_keys: set[tuple[str, str]] = set()

    @classmethod
    def read(cls) -> _Code:
        code = cls()
        for path in sorted(ROOT.rglob("*.py")):
            code._read(path)
        return code

    def _read(self, path: Path) -> None:
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        helpers = {"refusal"} | {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and node.args.args
            and node.args.args[0].arg == "translation_key"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self._call(node, helpers, constants, path.stem)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id == "_attr_translation_key":
                        assert isinstance(node.value, ast.Constant)
                        self.entity_keys.add((path.stem, str(node.value.value)))
            if isinstance(node, ast.Dict):
                self._table(node, path)

    def _call(
        self, node: ast.Call, helpers: set[str], constants: dict[str, Any], stem: str
    ) -> None:
        name = (
            node.func.attr
            if isinstance(node.func, ast.Attribute)
            else node.func.id
            if isinstance(node.func, ast.Name)
            else ""
        )
        arguments = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in helpers and node.args:
            given = {str(key) for key in arguments if key is not None}
            for key in _constants(node.args[0], constants):
                self.exception_keys.add(key)
                if name == "refusal":
                    self.exception_placeholders.append((key, given))
        if "translation_key" not in arguments:
            return
        keys = _constants(arguments["translation_key"], constants)
        if name == "async_create_issue":
            assert keys, f"line {node.lineno}: an issue whose key cannot be read"
            self.issue_keys |= keys
        elif name.endswith("Description"):
            platform = "sensor" if stem == "peer_sensors" else stem
            self.entity_keys |= {(platform, key) for key in keys}
        elif name.endswith("Error") or name in ("ConfigEntryNotReady", "UpdateFailed"):
            self.exception_keys |= keys
            placeholders = arguments.get("translation_placeholders")
            if placeholders is None or isinstance(placeholders, ast.Dict):
                given = {
                    str(key.value)
                    for key in (placeholders.keys if placeholders is not None else [])
                    if isinstance(key, ast.Constant)
                }
                self.exception_placeholders += [(key, given) for key in keys]

    def _table(self, node: ast.Dict, path: Path) -> None:
        """Take the values of the table from a version's problem to the exception's key."""
        if path.name == "version_tracker.py":
            for key, value in zip(node.keys, node.values, strict=True):
                if (
                    isinstance(key, ast.Attribute)
                    and isinstance(key.value, ast.Name)
                    and key.value.id == "VersionProblem"
                ):
                    self.exception_keys |= _constants(value, {})


def _constants(node: ast.expr, constants: dict[str, Any]) -> set[str]:
    """Return the texts that an expression can have, as far as they are written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.Name) and isinstance(constants.get(node.id), str):
        return {constants[node.id]}
    if isinstance(node, ast.IfExp):
        return _constants(node.body, constants) | _constants(node.orelse, constants)
    return set()


def _literals(path: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _placeholders(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def _leaves(tree: Texts, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            assert isinstance(value, str), (*path, key)
            yield (*path, key), value
