"""Each claim in quality_scale.yaml is held to what hassfest reads in the sources of core.

hassfest does not check custom integrations for these rules. The checks are written after its
``quality_scale_validation``; what they ask beside a file's existence is the same.
"""

import ast
from collections.abc import Callable, Iterator
import json
from pathlib import Path
import re

import homeassistant.components
from homeassistant.const import Platform
import probatio
import pytest
import yaml

from .sources import ROOT

CONFIG_FLOW = ROOT / "config_flow.py"
DISCOVERIES = {
    "bluetooth",
    "dhcp",
    "esphome",
    "hassio",
    "homekit",
    "mqtt",
    "ssdp",
    "usb",
    "zeroconf",
}
ENTRY_ERRORS = {"ConfigEntryAuthFailed", "ConfigEntryError", "ConfigEntryNotReady"}
ENTRY_TYPE = re.compile(r"[A-Za-z]+ConfigEntry")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {
        node.name: node
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def called(path: Path) -> set[str]:
    """Return the names of all functions and methods that a module calls."""
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }


def platforms() -> Iterator[Path]:
    for platform in Platform:
        if (path := ROOT / f"{platform}.py").exists():
            yield path


def action_setup() -> None:
    setup = functions(ROOT / "__init__.py")["async_setup_entry"]
    names = {node.attr for node in ast.walk(setup) if isinstance(node, ast.Attribute)}
    assert not names & {"async_register", "async_register_admin_service"}


def config_flow() -> None:
    assert CONFIG_FLOW.exists()
    texts = json.loads((ROOT / "translations" / "en.json").read_text())
    for flow in ("config", "options"):
        for name, step in texts[flow]["step"].items():
            for form in (step, *step.get("sections", {}).values()):
                assert form.get("data_description", {}).keys() == form.get("data", {}).keys(), name


def config_entry_unloading() -> None:
    assert "async_unload_entry" in functions(ROOT / "__init__.py")


def diagnostics() -> None:
    assert "async_get_config_entry_diagnostics" in functions(ROOT / "diagnostics.py")


def discovery() -> None:
    assert {f"async_step_{name}" for name in DISCOVERIES} & functions(CONFIG_FLOW).keys()


def parallel_updates() -> None:
    assert list(platforms())
    for path in platforms():
        assigned = {
            target.id
            for node in parsed(path).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "PARALLEL_UPDATES" in assigned, path.name


def reauthentication_flow() -> None:
    assert "async_step_reauth" in functions(CONFIG_FLOW)


def reconfiguration_flow() -> None:
    assert "async_step_reconfigure" in functions(CONFIG_FLOW)


def runtime_data() -> None:
    setup = functions(ROOT / "__init__.py")["async_setup_entry"]
    assert any(
        isinstance(node, ast.Attribute)
        and node.attr == "runtime_data"
        and isinstance(node.ctx, ast.Store)
        for node in ast.walk(setup)
    )


def before_setup() -> None:
    raised = {
        node.exc.func.id
        for path in ROOT.rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    assert raised & ENTRY_ERRORS


def unique_config_entry() -> None:
    assert {"async_set_unique_id", "_abort_if_unique_id_configured"} <= called(CONFIG_FLOW)


def exception_translations() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and isinstance(node.exc.func, ast.Name)
                and node.exc.func.id in {"HomeAssistantError", "ServiceValidationError"}
            ):
                given = {keyword.arg for keyword in node.exc.keywords}
                assert {"translation_domain", "translation_key"} <= given, f"{path}:{node.lineno}"


CHECKS: dict[str, Callable[[], None]] = {
    "action-setup": action_setup,
    "config-entry-unloading": config_entry_unloading,
    "config-flow": config_flow,
    "diagnostics": diagnostics,
    "discovery": discovery,
    "exception-translations": exception_translations,
    "parallel-updates": parallel_updates,
    "reauthentication-flow": reauthentication_flow,
    "reconfiguration-flow": reconfiguration_flow,
    "runtime-data": runtime_data,
    "test-before-setup": before_setup,
    "unique-config-entry": unique_config_entry,
}


@pytest.fixture(scope="module")
def rules() -> dict[str, object]:
    return yaml.safe_load((ROOT / "quality_scale.yaml").read_text())["rules"]


def test_every_rule_is_done_to_do_or_exempt_for_a_reason(rules: dict[str, object]) -> None:
    esphome = Path(homeassistant.components.__file__).parent / "esphome" / "quality_scale.yaml"
    known = yaml.safe_load(esphome.read_text())["rules"].keys()
    exempt = probatio.Schema(
        {probatio.Required("status"): "exempt", probatio.Required("comment"): str}
    )
    explained = probatio.Schema(
        {
            probatio.Required("status"): probatio.In(["done", "todo"]),
            probatio.Required("comment"): str,
        }
    )
    probatio.Schema({str: probatio.Any("done", "todo", exempt, explained)})(rules)
    assert rules.keys() == known


@pytest.mark.parametrize("rule", CHECKS)
def test_a_rule_that_is_done_passes_the_check_of_hassfest(
    rules: dict[str, object], rule: str
) -> None:
    claim = rules[rule]
    status = claim["status"] if isinstance(claim, dict) else claim
    assert status == "done"
    CHECKS[rule]()


def entry_arguments() -> Iterator[tuple[str, ast.arg]]:
    """Return the arguments that take a config entry in the functions that Home Assistant calls."""
    for name, second in (
        ("__init__", ("async_setup_entry", "async_unload_entry", "async_remove_entry")),
        ("__init__", ("async_remove_config_entry_device", "async_migrate_entry")),
        ("diagnostics", ("async_get_config_entry_diagnostics", "async_get_device_diagnostics")),
        *((path.stem, ("async_setup_entry",)) for path in platforms()),
    ):
        found = functions(ROOT / f"{name}.py")
        for function in second:
            if function in found:
                yield f"{name}.{function}", found[function].args.args[1]
    yield "config_flow", functions(CONFIG_FLOW)["async_get_options_flow"].args.args[0]


def test_the_functions_that_home_assistant_calls_take_a_typed_entry() -> None:
    for where, argument in entry_arguments():
        annotation = argument.annotation
        assert isinstance(annotation, ast.Name), where
        assert ENTRY_TYPE.fullmatch(annotation.id), where


def test_no_entry_of_ours_is_untyped_anywhere() -> None:
    # ConfigEntry[...] and names of types that end in it are fine; the bare name is not.
    for path in ROOT.rglob("*.py"):
        tree = parsed(path)
        subscripted = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
        bare = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Name)
            and node.id == "ConfigEntry"
            and id(node) not in subscripted
        ]
        assert not bare, f"{path.relative_to(ROOT)}: {bare}"
