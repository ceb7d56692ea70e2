"""The files that describe the integration keep to Home Assistant's, hassfest's and HACS's rules."""

from collections.abc import Iterator
import json
import re
from typing import Any, cast
from uuid import UUID

from awesomeversion import AwesomeVersion, AwesomeVersionStrategy
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    condition as condition_helper,
    selector as selector_helper,
    service as service_helper,
)
from homeassistant.helpers.trigger import descriptions
from homeassistant.loader import Integration
from PIL import Image
import probatio
import pytest
import yaml

from custom_components.esphome_offload import condition, services, trigger
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.event import InstallationEnd
from custom_components.esphome_offload.flows import options as options_flow
from custom_components.esphome_offload.flows.automatic import AUTOMATIC_SCHEMA
from custom_components.esphome_offload.inventory.choices import NO_DEVICE

from .sources import (
    REPOSITORY,
    ROOT,
    Texts,
    english,
    leaves,
)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return english()


@pytest.fixture(scope="module")
def actions() -> Texts:
    return cast("Texts", yaml.safe_load((ROOT / "services.yaml").read_text()))


@pytest.fixture(scope="module")
def triggers() -> Texts:
    return _described("triggers.yaml", descriptions._TRIGGERS_DESCRIPTION_SCHEMA)


@pytest.fixture(scope="module")
def conditions() -> Texts:
    # Home Assistant 2026.10 has no module of descriptions there.
    helper = getattr(condition_helper, "descriptions", condition_helper)
    return _described("conditions.yaml", helper._CONDITIONS_DESCRIPTION_SCHEMA)


def _described(name: str, schema: probatio.Schema) -> Texts:
    """Return the triggers or conditions as Home Assistant reads them."""
    return cast("Texts", schema(yaml.safe_load((ROOT / name).read_text())))


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


def test_imports_from_other_components_are_dependencies() -> None:
    manifest = json.loads((ROOT / "manifest.json").read_text())
    declared = {*manifest["dependencies"], *manifest["after_dependencies"], DOMAIN}
    # Platforms that every integration may offer need no declaration.
    offered = {
        "binary_sensor",
        "button",
        "diagnostics",
        "event",
        "logbook",
        "recorder",
        "repairs",
        "select",
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
        "update_outdated": services._UPDATE_FIELDS,
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


def test_examples_are_accepted_by_their_selectors_and_actions(actions: Texts) -> None:
    schemas = {
        **{operation.value: fields for operation, fields in services._SUBMIT_FIELDS.items()},
        "update_outdated": services._UPDATE_FIELDS,
        "cancel": services._CANCEL_FIELDS,
        "get_jobs": services._GET_JOBS_FIELDS,
        "get_log": services._GET_LOG_FIELDS,
    }
    for name, action in actions.items():
        for field, description in action["fields"].items():
            if (example := description.get("example")) is None:
                continue
            if isinstance(example, str) and example.startswith(("[", "{")):
                example = json.loads(example)
            selector_helper.selector(description["selector"])(example)
            probatio.Schema(schemas[name])({field: example})
            if field == services.ServiceField.JOB_ID:
                assert UUID(hex=example).hex == example
                assert UUID(hex=example).version == 7, "as those of jobs are"


def test_the_described_triggers_and_conditions_are_the_offered_ones(
    triggers: Texts, conditions: Texts, texts: Texts, icons: Texts
) -> None:
    for section, described, offered in (
        ("triggers", triggers, trigger.TRIGGERS),
        ("conditions", conditions, condition.CONDITIONS),
    ):
        assert set(described) == set(offered)
        assert set(texts[section]) == set(offered)
        assert set(icons[section]) == set(offered)
        for name, each in described.items():
            text = texts[section][name]
            assert text["name"], name
            assert text["description"], name
            fields = each.get("fields", {})
            assert set(text.get("fields", {})) == set(fields), name
            for field in text.get("fields", {}).values():
                assert field["name"], name
                assert field["description"], name


async def test_what_the_editor_can_choose_is_accepted(
    hass: HomeAssistant, triggers: Texts, conditions: Texts
) -> None:
    chosen = {"behavior": None, "for": {"minutes": 5}, "outcomes": list(InstallationEnd)}
    for described, offered in (
        (triggers, trigger.TRIGGERS),
        (conditions, condition.CONDITIONS),
    ):
        for name, each in described.items():
            options = {}
            for key, field in each.get("fields", {}).items():
                options[key] = chosen[key] or field["default"]
                selector_helper.selector(field["selector"])(options[key])
            config: Texts = {"options": options}
            if each.get("target"):
                config["target"] = {"entity_id": ["sensor.lamp"]}
            assert await offered[name].async_validate_config(hass, config)


def test_selectors_name_their_options_in_en_json(
    actions: Texts, triggers: Texts, texts: Texts
) -> None:
    used: dict[str, set[str]] = {}
    for selector in (*_selectors(actions), *_selectors(triggers)):
        if (select := selector.get("select")) and "translation_key" in select:
            used.setdefault(select["translation_key"], set()).update(select["options"])
    for flow_key, options in _flow_selectors():
        used.setdefault(flow_key, set()).update(options)
    assert {key: set(value["options"]) for key, value in texts["selector"].items()} == used


def _selectors(actions: Texts) -> Iterator[dict[str, Any]]:
    for action in actions.values():
        for field in action.get("fields", {}).values():
            yield field["selector"]


def _flow_selectors() -> Iterator[tuple[str, list[str]]]:
    fields = [*AUTOMATIC_SCHEMA.schema.values()]
    for group in options_flow.OPTIONS_SCHEMA.schema.values():
        fields += group.schema.schema.values()
    for selector in fields:
        config = getattr(selector, "config", {})
        if "translation_key" in config:
            yield config["translation_key"], config["options"]
    # Of the dialog in repairs.py; its other options are devices.
    yield "chosen_device", [NO_DEVICE]


def test_icons_are_material_design_icons_and_states_differ_from_the_default(icons: Texts) -> None:
    assert set(icons) <= {"entity", "services", "triggers", "conditions"}
    for path, icon in leaves(icons):
        assert re.fullmatch(r"mdi:[a-z0-9-]+", icon), path
    for platform in icons.get("entity", {}).values():
        for entity in platform.values():
            assert entity["default"] not in entity.get("state", {}).values()
