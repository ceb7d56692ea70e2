"""Which files are problems, with which reason, as the real ESPHome and our judgement have it.

One process of ESPHome answers for all cases.
"""

from dataclasses import dataclass, field
import os
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.reason import ReasonKey as Key

from .folder import KITCHEN, Cases, Files

pytestmark = pytest.mark.slow

PLAIN = "esphome: {name: plain}\nesp32: {board: esp32dev}\n"
REMOTE = "packages: [github://somebody/something/device.yaml@main]\n"


@dataclass(frozen=True)
class Case:
    """Files, the node names of the devices, and the keys of the problems."""

    what: str
    files: Files
    devices: dict[str, str] = field(default_factory=dict)
    problems: dict[str, Key] = field(default_factory=dict)


def broken(what: str, text: str, key: Key = Key.CONFIGURATION_SYNTAX) -> Case:
    files = {"a.yaml": text, "kitchen.yaml": KITCHEN}
    return Case(what, files, {"kitchen.yaml": "kitchen"}, {"a.yaml": key})


def remote(what: str, text: str) -> Case:
    return Case(what, {"a.yaml": text}, {}, {"a.yaml": Key.CONFIGURATION_PACKAGE_NOT_FETCHED})


CASES = [
    broken("indentation", "esphome:\n  name: x\n bad: y\n"),
    broken("an open bracket", "esphome: {name: x\n"),
    broken("a key twice", "esphome:\n  name: x\n  name: y\n"),
    broken("an unknown anchor", "esphome: {name: x}\na: *nothing\n"),
    broken(
        "three documents",
        "a: 1\n---\nb: 2\n---\nesphome: {name: x}\n",
        Key.CONFIGURATION_DOCUMENTS,
    ),
    broken(
        "a document after the configuration",
        "esphome: {name: x}\nhost:\n---\n",
        Key.CONFIGURATION_WITHOUT_SECTION,
    ),
    broken("a merge of a computed file", "esphome: {name: x}\n<<: !include $x.yaml\n"),
    broken("a merge of a number", "esphome: {name: x}\n<<: 5\n"),
    broken("a tag that is unknown", "esphome: {name: x}\nsensor: !future x\n"),
    broken("a number that is none", "esphome: {name: x}\na: !!int x\n", Key.CONFIGURATION_REFUSED),
    broken("a control character", "esphome: {name: x}\na: \x07\n", Key.CONFIGURATION_REFUSED),
    Case(
        "what ESPHome refuses elsewhere keeps the device",
        {"a.yaml": PLAIN + "sensor:\n  - id: !extend x\n    name: y\n"},
        {"a.yaml": "plain"},
        {"a.yaml": Key.CONFIGURATION_REFUSED_AT},
    ),
    Case(
        "not UTF-8",
        {"a.yaml": b"esphome:\n  name: k\xfcche\n"},
        {},
        {"a.yaml": Key.CONFIGURATION_NOT_TEXT},
    ),
    Case(
        "a missing include that the name needs",
        {"a.yaml": "packages: {b: !include gone.yaml}\nesp32:\nesphome: {comment: x}\n"},
        {},
        {"a.yaml": Key.CONFIGURATION_FILE_MISSING},
    ),
    Case(
        "a missing include that the name does not need",
        {"a.yaml": PLAIN + "sensor: !include gone.yaml\n<<: !include gone2.yaml\n"},
        {"a.yaml": "plain"},
        {"a.yaml": Key.CONFIGURATION_FILE_MISSING},
    ),
    Case(
        "a broken file that many include is one problem",
        {
            "0.yaml": "esphome: {name: n0}\nhost:\nwifi: !include common/wifi.inc\n",
            "1.yaml": "esphome: {name: n1}\nhost:\nwifi: !include common/wifi.inc\n",
            "common/wifi.inc": "ssid: [\n",
        },
        {"0.yaml": "n0", "1.yaml": "n1"},
        {"common/wifi.inc": Key.CONFIGURATION_SYNTAX},
    ),
    Case(
        "broken secrets are one problem and hide no device",
        {
            "a.yaml": KITCHEN + "wifi: {ssid: !secret ssid }\n",
            "b.yaml": "esphome: {name: !secret nm }\nhost:\n",
            "secrets.yaml": "ssid: [\n",
        },
        {"a.yaml": "kitchen"},
        {"b.yaml": Key.CONFIGURATION_SYNTAX, "secrets.yaml": Key.CONFIGURATION_SYNTAX},
    ),
    Case(
        "an unknown secret hides no device",
        {"a.yaml": KITCHEN + "wifi: {ssid: !secret nm }\n", "secrets.yaml": "other: x\n"},
        {"a.yaml": "kitchen"},
        {"a.yaml": Key.CONFIGURATION_SECRET_UNKNOWN},
    ),
    Case(
        "a broken package that may hold the name is the reason",
        {
            "a.yaml": "packages: {b: !include common/b.inc}\nesphome: {name: '${n}'}\nhost:\n",
            "common/b.inc": "substitutions: {n: x\n",
        },
        {},
        {"a.yaml": Key.CONFIGURATION_SYNTAX, "common/b.inc": Key.CONFIGURATION_SYNTAX},
    ),
    Case(
        "files that others include need no name",
        {
            "base.yaml": "esphome: {name: '${name}'}\nhost:\n",
            "boot.yaml": "esphome: {on_boot: []}\n",
            "a.yaml": "substitutions: {name: a}\n"
            "packages: [!include base.yaml, !include boot.yaml]\n",
        },
        {"a.yaml": "a"},
    ),
    Case(
        "fragments that nobody includes",
        {
            "base.yaml": "esphome: {name: '${name}'}\nhost:\n",
            "boot.yaml": "esphome: {on_boot: []}\n",
            "wifi.yaml": "wifi: {ssid: x}\n",
            "empty.yaml": "",
            "list.yaml": "- a\n- b\n",
            "common.yaml": "esphome: {name: common}\nwifi: {ssid: x}\n",
            "chart.yaml": "{{ if .x }}\na: b\n{{ end }}\n",
            "secrets.enc.yaml": b"\0GITCRYPT\0\xff\xfeesphome:\n",
            "secrets_old.yaml": b"esphome: k\xfcche\n",
        },
    ),
    Case(
        "a device without a name",
        {"a.yaml": "esphome: {comment: x}\nesp32: {board: esp32dev}\n"},
        {},
        {"a.yaml": Key.CONFIGURATION_NAME_MISSING},
    ),
    Case(
        "a pipe is not waited for",
        {"kitchen.yaml": KITCHEN},
        {"kitchen.yaml": "kitchen"},
        {
            "pipe.yaml": Key.CONFIGURATION_FILE_UNREADABLE,
            "dangling.yaml": Key.CONFIGURATION_FILE_MISSING,
            "loop.yaml": Key.CONFIGURATION_FILE_UNREADABLE,
        },
    ),
    remote(
        "01 only remote",
        "substitutions: {device_name: x}\n"
        "packages: {r: {url: 'https://example.invalid/x', files: [panel.yaml]}}\n",
    ),
    remote("02 the name from elsewhere", REMOTE + "esphome: {friendly_name: Garage}\n"),
    remote("02 the substitution from elsewhere", REMOTE + "esphome: {name: '${name}'}\n"),
    Case(
        "a remote package that the name does not need",
        {"a.yaml": f"substitutions: {{name: adopted}}\n{REMOTE}esphome: {{name: '${{name}}'}}\n"},
        {"a.yaml": "adopted"},
    ),
    Case(
        "04 secrets that are one include",
        {
            "up/a.yaml": "x: 1\n",
            "a.yaml": PLAIN,
            "dev2.yaml": "esphome: {name: !secret nodename }\nhost:\n",
            "secrets.yaml": "!include up/secrets.yaml\n",
            "up/secrets.yaml": "pw: one\nnodename: dev-b\n",
        },
        {"a.yaml": "plain", "dev2.yaml": "dev-b"},
    ),
    Case(
        "05 lookup order",
        {
            "a.yaml": "substitutions: {room: hall}\npackages:\n  lamp: !include\n"
            "    file: lamp2.inc\n    vars: {node: 'lamp-${room}', room: attic}\nhost:\n",
            "lamp2.inc": "packages: {r: !include 'room-${room}.inc'}\nesphome: {name: '${node}'}\n",
            "room-attic.inc": "logger:\n",
        },
        {"a.yaml": "lamp-hall"},
    ),
    Case(
        "06 arithmetic with lists",
        {
            "a.yaml": "substitutions: {parts: [lamp, hall]}\n"
            "esphome: {name: \"${(parts + ['x'])|join('-')}\"}\nhost:\n",
            "b.yaml": "substitutions: {parts: [lamp, hall]}\n"
            "esphome: {name: \"${'two' if parts == ['lamp', 'hall'] else 'other'}\"}\nhost:\n",
        },
        {"a.yaml": "lamp-hall-x", "b.yaml": "two"},
    ),
    Case(
        "07 a substitution that cannot be resolved",
        {
            "a.yaml": "substitutions: {n: '${typo}'}\nesphome: {name: \"${n|default('x')}\"}\nhost:\n"
        },
        {},
        {"a.yaml": Key.CONFIGURATION_NAME_UNDEFINED},
    ),
    Case(
        "08 the default of a package",
        {
            "a.yaml": "packages: {a: !include a.inc}\nesphome: {name: '${c}'}\nhost:\n",
            "a.inc": "substitutions: {c: \"${d|default('first')}\", d: second}\n",
        },
        {"a.yaml": "first"},
    ),
    Case(
        "09 packages that are a configuration",
        {
            "a.yaml": "packages: !include common.inc\nesp32: {board: esp32dev}\n",
            "common.inc": "esphome: {name: dev-a}\nlogger:\n",
        },
        {},
        {"a.yaml": Key.CONFIGURATION_REFUSED_AT},
    ),
    Case(
        "10 broken secrets nearby",
        {
            "a.yaml": "packages: {b: !include common/base.inc}\nhost:\n",
            "common/base.inc": "esphome: {name: !secret nodename }\n",
            "common/secrets.yaml": "a: b: c\n",
            "secrets.yaml": "nodename: dev-a\n",
        },
        {"a.yaml": "dev-a"},
    ),
    Case("14 esphomeyaml", {"a.yaml": "esphomeyaml: {name: old-a}\nhost:\n"}, {"a.yaml": "old-a"}),
]

CIRCLES: dict[str, Files] = {
    "itself": {"a.yaml": "packages: {a: !include a.yaml}\nhost:\n"},
    "each other": {
        "a.yaml": "packages: {b: !include b.inc}\nhost:\n",
        "b.inc": "packages: [!include a.yaml]\n",
    },
    "merged": {"a.yaml": "<<: !include b.inc\nhost:\n", "b.inc": "<<: !include a.yaml\n"},
    "as packages": {"a.yaml": "packages: !include a.yaml\nhost:\n"},
}

VALUES = [
    "wifi: {password: !!int hunter2}\nesphome: {name: x}\n",
    "esphome: {name: x}\nwifi:\n  password: hunter2\n bad: y\n",
    "esphome: {name: x}\nwifi:\n  password: hunter2\n  hunter2 without a colon\n  x: y\n",
    'esphome: {name: x}\nwifi: {password: "hunter2\n',
    'substitutions: {p: hunter2}\nesphome: {name: "${ int(p) }"}\nhost:\n',
    'substitutions: {p: hunter2}\nesphome: {name: "${ p * p }"}\nhost:\n',
    "esphome: {name: !secret hunter2 , comment: !secret pw }\nhost:\n",
    "substitutions: {c: !secret pw }\nesphome: {name: x, comment: 'it is ${c}'}\nhost:\n",
    "esphome: {name: x}\nhost:\npackages: {a: !include 'hunter2/${x}.yaml'}\n",
    "esphome: {name: x}\nhost:\nsensor: {hunter2: !extend hunter2}\n",
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    folder = tmp_path_factory.mktemp("problems")
    cases = Cases(folder)
    for case in CASES:
        cases.add(case.what, case.files)
    pipes = folder / "a pipe is not waited for"
    os.mkfifo(pipes / "pipe.yaml")
    (pipes / "dangling.yaml").symlink_to("nowhere")
    (pipes / "loop.yaml").symlink_to("loop.yaml")
    for name, files in CIRCLES.items():
        cases.add(f"circle {name}", files)
    for index, text in enumerate(VALUES):
        cases.add(f"value {index}", {"a.yaml": text, "secrets.yaml": "pw: hunter2\n"})
    return cases


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_devices_and_problems(cases: Cases, case: Case) -> None:
    prefix = f"{case.what}/"
    devices = {
        name.removeprefix(prefix): configuration.node_name
        for name, configuration in cases.judged(case.what).configurations.items()
    }

    assert (devices, cases.problems(case.what)) == (case.devices, case.problems)


@pytest.mark.parametrize("circle", CIRCLES)
def test_files_that_include_each_other_in_a_circle_are_problems(cases: Cases, circle: str) -> None:
    case = f"circle {circle}"
    assert not cases.judged(case).configurations
    assert cases.problems(case)


@pytest.mark.parametrize("index", range(len(VALUES)), ids=VALUES)
def test_an_answer_quotes_no_secret_and_no_value(cases: Cases, index: int) -> None:
    answer = cases.answer(f"value {index}")
    assert "hunter2" not in repr(answer).replace("'name': 'hunter2'", "")


def test_a_problem_says_where(cases: Cases) -> None:
    parameters = cases.judged("indentation").problems["indentation/a.yaml"].parameters
    assert parameters == {"file": "indentation/a.yaml", "row": "3"}
    what = "a missing include that the name needs"
    parameters = cases.judged(what).problems[f"{what}/a.yaml"].parameters
    assert parameters["missing"] == f"{what}/gone.yaml"


def test_a_fragment_that_was_a_device_is_a_problem(cases: Cases) -> None:
    case = "fragments that nobody includes"
    assert cases.problems(case, before=["base.yaml", "common.yaml", "wifi.yaml", "chart.yaml"]) == {
        "base.yaml": Key.CONFIGURATION_NAME_UNDEFINED,
        "common.yaml": Key.CONFIGURATION_PLATFORM_MISSING,
        "chart.yaml": Key.CONFIGURATION_SYNTAX,
    }


def test_all_that_is_read_is_named(cases: Cases) -> None:
    answer = cases.answer("04 secrets that are one include", "dev2.yaml")
    assert [Path(each).relative_to("04 secrets that are one include") for each in answer.reads] == [
        Path("dev2.yaml"),
        Path("secrets.yaml"),
        Path("up/secrets.yaml"),
    ]
    answer = cases.answer("10 broken secrets nearby")
    assert f"{Path('10 broken secrets nearby')}/common/secrets.yaml" in answer.reads
