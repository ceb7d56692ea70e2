"""Which files are somebody's devices, and what people are told about the others."""

from collections.abc import Mapping
import os
from pathlib import Path

from ..reason import Reason, ReasonKey
from .answers import Answer, Known
from .model import Configuration, ScanResult

_YAML = (".yaml", ".yml")


def judge(config_dir: str, known: Mapping[str, Known]) -> ScanResult:
    """Return the configurations and problems.

    A fragment, which others include or nobody does at the moment, is neither. What was a device
    stays one, as it was, while a mistake in it or in what it includes may hide it.
    """
    answers = {name: each.answer for name, each in known.items()}
    included = {read for name, answer in answers.items() for read in answer.reads if read != name}
    configurations: dict[str, Configuration] = {}
    problems: dict[str, Reason] = {}
    for name, answer in answers.items():
        former = known[name].device
        reason = _problem(answer, was_device=former is not None, included=name in included)
        if reason is not None:
            problems[name] = reason
        if answer.is_device:
            configurations[name] = _configuration(config_dir, answer)
        elif former is not None and (reason is not None or answer.faults):
            configurations[name] = _configuration(config_dir, former)
    for name, answer in answers.items():
        if answer.node_name is not None or answer.says_device or name in configurations:
            for fault in answer.faults:
                problems.setdefault(fault.file, fault.reason)
    unsure = frozenset(
        name
        for name, each in known.items()
        if each.esphome_version is None or each.answer.broken or each.answer.faults
    )
    return ScanResult(configurations, problems, unsure=unsure)


def _problem(answer: Answer, *, was_device: bool, included: bool) -> Reason | None:
    problem = answer.problem
    if problem is None:
        platform_missing = answer.node_name is not None and not answer.is_device
        if was_device and platform_missing and not answer.faults:
            return Reason(ReasonKey.CONFIGURATION_PLATFORM_MISSING, {"file": answer.file})
        return None
    if was_device and not (included and answer.is_template):
        return problem
    if answer.broken:
        # A file of secrets may be encrypted, and is nobody's device.
        own = answer.says_device and not Path(answer.file).name.startswith("secrets")
        return problem if own or included else None
    if included and answer.node_name is None:
        return None
    if answer.remote_packages_missing:
        return problem
    # A template, to be copied or included from elsewhere.
    template = problem.key is ReasonKey.CONFIGURATION_NAME_UNDEFINED
    if (template and not answer.own_substitutions) or (
        problem.key is ReasonKey.CONFIGURATION_NAME_MISSING and answer.platform is None
    ):
        return None
    return problem if answer.says_device or answer.node_name is not None else None


def _configuration(config_dir: str, answer: Answer) -> Configuration:
    others = (read for read in answer.reads if read != answer.file and read.endswith(_YAML))
    return Configuration(
        file_name=answer.file,
        node_name=answer.node_name or "",
        friendly_name=answer.friendly_name,
        comment=answer.comment,
        platform=answer.platform,
        deep_sleep=answer.deep_sleep,
        files=tuple(
            Path(os.path.normpath(f"{config_dir}/{name}"))
            for name in (answer.file, *sorted(others))
        ),
        adds_mac_suffix=answer.adds_mac_suffix,
        min_version=answer.min_version,
        access=answer.access,
    )
