"""The sources and texts of the integration, read for the tests that compare them."""

import ast
from collections.abc import Iterator
import json
from pathlib import Path
import string
from typing import Any, cast

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.jobs.refusal import RefusalReason
from custom_components.esphome_offload.engine.reason import ReasonKey

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "custom_components" / DOMAIN

type Texts = dict[str, Any]


def english() -> Texts:
    """Return translations/en.json."""
    return cast("Texts", json.loads((ROOT / "translations" / "en.json").read_text()))


def composed_keys() -> set[str]:
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
    # Each reason has its text among the exceptions. What JobQueue.cancel raises is passed on by
    # its own name.
    return (
        keys
        | {key.value for key in ReasonKey}
        | {RefusalReason.NOTHING_TO_CANCEL.value, RefusalReason.UNKNOWN_JOB.value}
    )


class Code:
    """The translation keys in the sources.

    A key is the literal value of a ``translation_key`` argument, or of the argument in the place
    of a parameter of that name, or of one called ``key`` of a helper called ``validation_error``.
    """

    def __init__(self) -> None:
        self.exception_keys: set[str] = set()
        self.exception_placeholders: list[tuple[str, set[str]]] = []
        self.issue_keys: set[str] = set()
        self.entity_keys: set[tuple[str, str]] = set()

    @classmethod
    def read(cls) -> Code:
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
        helpers = {"validation_error"} | {
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
                if name == "validation_error":
                    self.exception_placeholders.append((key, given))
        if "translation_key" not in arguments:
            return
        keys = _constants(arguments["translation_key"], constants)
        if name in ("async_create_issue", "_create_issue", "_create_of_target"):
            if (
                isinstance(key := arguments["translation_key"], ast.Name)
                and key.id not in constants
            ):
                return  # handed on by a helper, whose callers are read
            assert keys, f"line {node.lineno}: an issue whose key cannot be read"
            self.issue_keys |= keys
        elif name.endswith("Description"):
            platform = "sensor" if stem == "sensors" else stem
            self.entity_keys |= {(platform, key) for key in keys}
        elif name.endswith("Error") or name in (
            "ConfigEntryAuthFailed",
            "ConfigEntryNotReady",
            "UpdateFailed",
        ):
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
        if path.name == "versions.py":
            for key, value in zip(node.keys, node.values, strict=True):
                if (
                    isinstance(key, ast.Attribute)
                    and isinstance(key.value, ast.Name)
                    and key.value.id == "ReasonKey"
                ):
                    self.exception_keys |= _constants(value, {})


def _constants(node: ast.expr, constants: dict[str, Any]) -> set[str]:
    """Return the literal texts that an expression can have."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.Name) and isinstance(constants.get(node.id), str):
        return {constants[node.id]}
    if isinstance(node, ast.IfExp):
        return _constants(node.body, constants) | _constants(node.orelse, constants)
    return set()


def literals(path: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def placeholders(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def leaves(tree: Texts, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            assert isinstance(value, str), (*path, key)
            yield (*path, key), value
