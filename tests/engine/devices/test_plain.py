"""The small reader knows plain names, and says nothing about what it cannot read."""

import time

import pytest

from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.devices.plain import read


@pytest.mark.parametrize(
    ("text", "name", "friendly_name"),
    [
        ("esphome: {name: kitchen, friendly_name: Kitchen}\nhost:\n", "kitchen", "Kitchen"),
        ("host:\nesphome:\n  comment: x\n  name: 'kitchen'\n", "kitchen", None),
        ("substitutions: {a: $b, b: hall}\nesphome: {name: '${a}-x'}\nhost:\n", "hall-x", None),
        ("sensor: [{a: {name: b}}, [c]]\nesphome: {on_boot: [x], name: k}\nhost:\n", "k", None),
        ("? {a: b}\n: c\nesphome: {name: k}\nhost:\n", None, None),
        ("? &a b\n: c\n*a : d\nesphome: {name: k}\nhost:\n", "k", None),
        ("esphome: {name: !secret nm, friendly_name: '${x}'}\nhost:\n", None, None),
        ("esphome: {name: Kitchen}\nhost:\n", None, None),
        ("esphome: {name: '${ 1 + 1 }'}\nhost:\n", None, None),
        ("substitutions: {a: $b, b: $a}\nesphome: {name: $a}\nhost:\n", None, None),
        ("esphome: !include x.yaml\nhost:\n", None, None),
        ("a: 1\n---\nesphome: {name: kitchen}\nhost:\n", None, None),
        ("esphome: {name: kitchen\n", None, None),
        ("\0\xff", None, None),
        ("- a\n", None, None),
        ("", None, None),
    ],
)
def test_the_name(text: str, name: str | None, friendly_name: str | None) -> None:
    answer = read("a.yaml", text.encode("latin-1"))
    assert (answer.node_name, answer.friendly_name) == (name, friendly_name)
    assert answer.problem is None


def test_what_stands_beside_it() -> None:
    answer = read(
        "a.yaml",
        b"esphome: {name: k, name_add_mac_suffix: true}\nesp32: {board: x}\ndeep_sleep:\n"
        b"packages: {a: !include common/base.yaml}\nwifi: !include 'common/$x.yaml'\n"
        b"api: {password: !secret pw }\n",
    )
    assert answer.platform == "esp32"
    assert answer.adds_mac_suffix
    assert answer.deep_sleep
    assert not answer.complete
    assert answer.access.ota is None
    assert answer.reads == ("a.yaml", "common/base.yaml", "common/", "secrets.yaml")


@pytest.mark.parametrize(
    ("text", "adds"),
    [
        ("esphome: {name: k, name_add_mac_suffix: yes}\n", [True, True]),
        ("esphome: {name: k, name_add_mac_suffix: false}\n", [False, False]),
        ("substitutions: {a: 'on'}\nesphome: {name: k, name_add_mac_suffix: $a}\n", [True, True]),
        ("esphome: {name: k}\n", [False, False]),
        ("esphome: {name: k}\npackages: {a: !include b.yaml}\n", [False, True]),
        ("esphome: {name: k, <<: !include b.yaml}\n", [False, True]),
        ("esphome: {name: k, name_add_mac_suffix: $a}\n", [False, True]),
        ("esphome: {name: k, name_add_mac_suffix: !secret a}\n", [False, True]),
    ],
)
def test_several_devices_stay_several_where_the_text_does_not_say(
    text: str, adds: list[bool]
) -> None:
    former = Answer("a.yaml", node_name="k", adds_mac_suffix=True)
    answers = [read("a.yaml", text.encode(), each) for each in (None, former)]
    assert [answer.adds_mac_suffix for answer in answers] == adds
    assert {answer.node_name for answer in answers} == {"k"}


def test_harm_costs_nothing() -> None:
    bomb = "".join(
        f".l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" if i else ".l0: &l0 x\n"
        for i in range(40)
    )
    began = time.monotonic()
    assert read("a.yaml", (bomb + "esphome: {name: k}\nhost:\n").encode()).node_name == "k"
    assert read("a.yaml", b"esphome: {name: k}\na: " + b"[" * 100_000).node_name is None
    assert time.monotonic() - began < 5
