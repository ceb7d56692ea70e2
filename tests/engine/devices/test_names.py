"""The node name is what ESPHome itself comes to.

One process of the real ESPHome answers for all cases.
"""

import pytest

from custom_components.esphome_offload.engine.reason import ReasonKey

from .folder import Cases, Files

pytestmark = pytest.mark.slow

HOST = "host:\n"

# what, files, node name, friendly name
CASES: list[tuple[str, dict[str, str], str, str | None]] = [
    ("a plain name", {"a.yaml": "esphome: {name: kitchen}\n"}, "kitchen", None),
    (
        "substitutions that use each other, in any order",
        {
            "a.yaml": "substitutions: {m: '${n}-light', n: kitchen}\n"
            "esphome: {name: $m, friendly_name: '${n} at $m'}\n"
        },
        "kitchen-light",
        "kitchen at kitchen-light",
    ),
    (
        "an expression",
        {
            "a.yaml": "substitutions: {n: Kitchen, i: 3}\n"
            "esphome: {name: '${ n | lower }-${ i + 1 }', friendly_name: '${ n ~ \" x\" }'}\n"
        },
        "kitchen-4",
        "Kitchen x",
    ),
    (
        "a statement",
        {
            "a.yaml": "substitutions: {n: Kit Chen}\n"
            "esphome: {name: \"<% set x = n | lower | replace(' ', '-') %>${x}\"}\n"
        },
        "kit-chen",
        None,
    ),
    (
        "a default for what is not defined",
        {"a.yaml": "esphome: {name: \"${ zz | default('spare') }\"}\n"},
        "spare",
        None,
    ),
    (
        "a substitution that is a mapping",
        {
            "a.yaml": "substitutions:\n  d: {name: foo, room: 'Bar ${d.name}'}\n"
            "esphome: {name: '${d.name}', friendly_name: \"${ d['room'] }\"}\n"
        },
        "foo",
        "Bar foo",
    ),
    (
        "a whole block from a substitution",
        {"a.yaml": "substitutions:\n  b: {name: block, friendly_name: Block}\nesphome: ${b}\n"},
        "block",
        "Block",
    ),
    (
        "a key from a substitution",
        {"a.yaml": "substitutions: {p: esphome}\n${p}: {name: keyed}\n"},
        "keyed",
        None,
    ),
    (
        "what is not defined stays in texts",
        {"a.yaml": "esphome: {name: shop, friendly_name: 'Costs $5 ${nothing}'}\n"},
        "shop",
        "Costs $5 ${nothing}",
    ),
    (
        "a package",
        {
            "a.yaml": "packages: {b: !include b.yaml}\nesphome: {friendly_name: Mine}\n",
            "b.yaml": "esphome: {name: packed, friendly_name: Theirs}\n",
        },
        "packed",
        "Mine",
    ),
    (
        "an inline package",
        {"a.yaml": "substitutions: {n: in}\npackages:\n  x: {esphome: {name: '${n}line'}}\n"},
        "inline",
        None,
    ),
    (
        "substitutions of the main file over those of packages",
        {
            "a.yaml": "substitutions: {name: main}\npackages: {b: !include b.yaml}\n",
            "b.yaml": "substitutions: {name: pkg, title: 'Title ${name}'}\n"
            "esphome: {name: '${name}', friendly_name: '${title}'}\n",
        },
        "main",
        "Title main",
    ),
    (
        "variables of an include over its own substitutions",
        {
            "a.yaml": "packages:\n  - !include {file: b.yaml, vars: {name: var}}\n",
            "b.yaml": "substitutions: {name: pkg}\nesphome: {name: '${name}'}\n",
        },
        "var",
        None,
    ),
    (
        "a later package over an earlier one",
        {
            "a.yaml": "packages:\n  one: !include b.yaml\n  two: !include c.yaml\n",
            "b.yaml": "esphome: {name: bb, friendly_name: BB}\n",
            "c.yaml": "esphome: {name: cc}\n",
        },
        "cc",
        "BB",
    ),
    (
        "nested packages, file names from substitutions, inherited variables",
        {
            "a.yaml": "substitutions: {board: esp}\n"
            "packages: {b: !include {file: b.yaml, vars: {p: one}}}\n",
            "b.yaml": "packages: {c: !include {file: 'c-${board}.yaml', vars: {q: '${p}-two'}}}\n",
            "c-esp.yaml": "esphome: {name: '${p}-${q}-${board}'}\n",
        },
        "one-one-two-esp",
        None,
    ),
    (
        "defaults of an included file",
        {
            "a.yaml": "packages:\n  one: !include {file: b.yaml, vars: {n: given}}\n",
            "b.yaml": "defaults: {n: dn, m: dm}\nesphome: {name: '${n}-${m}'}\n",
        },
        "given-dm",
        None,
    ),
    (
        "a variable that uses its own name means the outer one",
        {
            "a.yaml": "substitutions: {n: outer}\n"
            "packages: {b: !include {file: b.yaml, vars: {n: '${n}-in'}}}\n",
            "b.yaml": "esphome: {name: '${n}'}\n",
        },
        "outer-in",
        None,
    ),
    (
        "a variable that stands later than its user means the outer one",
        {
            "a.yaml": "substitutions: {n: outer}\n"
            "packages: {b: !include {file: b.yaml, vars: {t: '${n}-in', n: bar}}}\n",
            "b.yaml": "esphome: {name: '${t}', friendly_name: '${n}'}\n",
        },
        "outer-in",
        "bar",
    ),
    (
        "substitutions of a lower package that need those of a higher one",
        {
            "a.yaml": "substitutions: {room: r}\n"
            "packages:\n  a: !include b.yaml\n  b: !include c.yaml\n",
            "b.yaml": "substitutions: {n: '${k}-${room}', k: low}\nesphome: {name: '${n}'}\n",
            "c.yaml": "substitutions: {k: high}\n",
        },
        "high-r",
        None,
    ),
    (
        "mappings in substitutions are merged",
        {
            "a.yaml": "substitutions: {d: {a: main}}\npackages:\n  a: !include b.yaml\n",
            "b.yaml": "substitutions: {d: {a: pk, b: two}}\nesphome: {name: '${d.a}-${d.b}'}\n",
        },
        "main-two",
        None,
    ),
    (
        "an include with a condition",
        {
            "a.yaml": "substitutions: {c: 'false'}\npackages:\n"
            "  - !include {file: c.yaml, condition: true}\n"
            "  - !include {file: b.yaml, condition: '${c}'}\n",
            "b.yaml": "esphome: {name: bb}\n",
            "c.yaml": "packages:\n  - esphome: {name: cc}\n",
        },
        "cc",
        None,
    ),
    (
        "packages from another file",
        {
            "a.yaml": "packages: !include p.yaml\n",
            "p.yaml": "one:\n  esphome: {name: one}\ntwo: !include t.yaml\n",
            "t.yaml": "esphome: {friendly_name: Two}\n",
        },
        "one",
        "Two",
    ),
    (
        "packages from a folder",
        {"a.yaml": "packages: !include_dir_named pk\n", "pk/x.yaml": "esphome: {name: dirn}\n"},
        "dirn",
        None,
    ),
    (
        "substitutions from another file",
        {
            "a.yaml": "substitutions: !include s.yaml\nesphome: {name: '${n}'}\n",
            "s.yaml": "n: elsewhere\n",
        },
        "elsewhere",
        None,
    ),
    (
        "substitutions merged from another file",
        {
            "a.yaml": "substitutions:\n  <<: !include s.yaml\n  n: own\n"
            "esphome: {name: '${n}-${k}'}\n",
            "s.yaml": "n: theirs\nk: kk\n",
        },
        "own-kk",
        None,
    ),
    (
        "a merged file with variables",
        {
            "a.yaml": "substitutions: {n: global}\n<<: !include {file: b.yaml, vars: {n: mv}}\n",
            "b.yaml": "esphome: {name: '${n}'}\n",
        },
        "mv",
        None,
    ),
    (
        "the block from another file",
        {
            "a.yaml": "substitutions: {n: abc}\nesphome: !include e.yaml\n",
            "e.yaml": "name: ${n}\n",
        },
        "abc",
        None,
    ),
    (
        "anchors, an earlier one first",
        {
            "a.yaml": ".a: &a {name: a1}\n.b: &b {name: b1, friendly_name: FB}\n"
            "esphome:\n  <<: [*a, *b]\n"
        },
        "a1",
        "FB",
    ),
    (
        "something taken away",
        {
            "a.yaml": "packages: {b: !include b.yaml}\nesphome: {friendly_name: !remove }\n",
            "b.yaml": "esphome: {name: rm, friendly_name: Gone}\n",
        },
        "rm",
        None,
    ),
    (
        "an empty block over a package",
        {
            "a.yaml": "packages: {b: !include b.yaml}\nesphome:\n",
            "b.yaml": "esphome: {name: kept}\n",
        },
        "kept",
        None,
    ),
    (
        "a secret",
        {"a.yaml": "esphome: {name: !secret nm }\n", "secrets.yaml": "nm: hidden\n"},
        "hidden",
        None,
    ),
    (
        "a secret in a substitution and in a package of another folder",
        {
            "a.yaml": "substitutions: {n: !secret nm }\npackages: {b: !include sub/b.yaml}\n",
            "secrets.yaml": "nm: hidden\n",
            "sub/b.yaml": "esphome: {name: '${n}', friendly_name: !secret nm }\n",
        },
        "hidden",
        "hidden",
    ),
    (
        "the secrets beside the file that uses them",
        {
            "a.yaml": "packages: {b: !include sub/b.yaml}\n",
            "secrets.yaml": "nm: far\nfn: Far\n",
            "sub/secrets.yaml": "<<: !include ../secrets.yaml\nnm: near\n",
            "sub/b.yaml": "esphome: {name: !secret nm , friendly_name: !secret fn }\n",
        },
        "near",
        "Far",
    ),
    (
        "front matter before the configuration",
        {"a.yaml": "meta: 1\n---\nesphome: {name: fm}\n"},
        "fm",
        None,
    ),
    (
        "tags that mean nothing here",
        {
            "a.yaml": "esphome:\n  name: tags\n  on_boot:\n    - lambda: !lambda 'return;'\n"
            "sensor:\n  - id: !lambda 'return 1;'\n"
        },
        "tags",
        None,
    ),
    (
        "an item of a list",
        {
            "a.yaml": "substitutions: {l: [one, '${k}-two'], k: kk}\nesphome: {name: '${ l[1] }', friendly_name: \"${ l | length }${ l[:1] | join }\"}\n"
        },
        "kk-two",
        "2one",
    ),
    (
        "the keys of a mapping",
        {
            "a.yaml": 'substitutions: {d: {x: 1, y: 2}}\nesphome: {name: "${ d | list | join(\'-\') }", friendly_name: "${ d | length }"}\n'
        },
        "x-y",
        "2",
    ),
    (
        "substitutions merged from a folder",
        {
            "a.yaml": "substitutions: !include_dir_merge_named pk\nesphome: {name: '${n}'}\n",
            "pk/x.yaml": "n: dm\n",
        },
        "dm",
        None,
    ),
    (
        "packages merged from lists in a folder",
        {
            "a.yaml": "packages: !include_dir_merge_list pk\n",
            "pk/x.yaml": "- esphome: {name: one}\n",
            "pk/y.yaml": "- esphome: {friendly_name: Two}\n",
        },
        "one",
        "Two",
    ),
    (
        "the default of an environment variable",
        {"a.yaml": "esphome: {name: !env_var ESPHOME_OFFLOAD_UNSET spare }\n"},
        "spare",
        None,
    ),
    (
        "a literal",
        {"a.yaml": "substitutions: {n: x}\nesphome: {name: a, friendly_name: !literal '${n}'}\n"},
        "a",
        "${n}",
    ),
    (
        "merged lists with variables",
        {
            "a.yaml": "esphome:\n  <<: !include {file: l.yaml, vars: {n: lv}}\n",
            "l.yaml": "- name: ${n}\n- friendly_name: F ${n}\n",
        },
        "lv",
        "F lv",
    ),
    (
        "a chain of merged files",
        {
            "a.yaml": "<<: !include {file: b.yaml, condition: true}\n",
            "b.yaml": "!include {file: c.yaml, vars: {n: deep}}\n",
            "c.yaml": "esphome: {name: '${n}'}\n",
        },
        "deep",
        None,
    ),
    (
        "a merge that is switched off",
        {
            "a.yaml": "<<: !include {file: b.yaml, condition: false}\nesphome: {name: own}\n",
            "b.yaml": "esphome: {name: b}\ncomment: [\n",
        },
        "own",
        None,
    ),
]

LONG = "a" * 32
REFUSED: list[tuple[str, ReasonKey]] = [
    ("Kitchen", ReasonKey.CONFIGURATION_NAME_INVALID),
    ("küche", ReasonKey.CONFIGURATION_NAME_INVALID),
    ("'a b'", ReasonKey.CONFIGURATION_NAME_INVALID),
    ("''", ReasonKey.CONFIGURATION_NAME_INVALID),
    (LONG, ReasonKey.CONFIGURATION_NAME_TOO_LONG),
    ("12", ReasonKey.CONFIGURATION_NAME_NOT_TEXT),
    ("[x]", ReasonKey.CONFIGURATION_NAME_NOT_TEXT),
    ("${ 2 * 3 }", ReasonKey.CONFIGURATION_NAME_NOT_TEXT),
    ("!lambda x", ReasonKey.CONFIGURATION_NAME_NOT_TEXT),
    ("$missing", ReasonKey.CONFIGURATION_NAME_UNDEFINED),
    ("${ missing | lower }", ReasonKey.CONFIGURATION_NAME_UNDEFINED),
    ("${ 1 / 0 }", ReasonKey.CONFIGURATION_EXPRESSION),
    ("${ 'x' | nofilter }", ReasonKey.CONFIGURATION_EXPRESSION),
    ("!secret nothing", ReasonKey.CONFIGURATION_SECRET_UNKNOWN),
    ("!env_var ESPHOME_OFFLOAD_UNSET", ReasonKey.CONFIGURATION_VARIABLE_OF_ENVIRONMENT),
]

OTHERS: dict[str, Files] = {
    "through packages": {
        "a.yaml": "packages: {b: !include common/b.yaml}\nesphome: {name: a}\n",
        "common/b.yaml": "esp8266: {board: d1}\ndeep_sleep:\nesphome: {comment: By the door}\n",
    },
    "suffix": {
        "a.yaml": f"esphome: {{name: {'a' * 24}, name_add_mac_suffix: true}}\nhost:\n",
        "b.yaml": f"esphome: {{name: {'a' * 25}, name_add_mac_suffix: true}}\nhost:\n",
    },
    "circle": {"a.yaml": "substitutions: {a: '${b}', b: '${a}'}\nesphome: {name: '${a}'}\nhost:\n"},
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    cases = Cases(tmp_path_factory.mktemp("names"))
    for name, files, _, _ in CASES:
        cases.add(name, {f: text + (HOST if f == "a.yaml" else "") for f, text in files.items()})
    for name, _ in REFUSED:
        written = f"substitutions: {{own: x}}\nesphome:\n  name: {name}\nhost:\n"
        cases.add(f"refused {REFUSED_IDS[name]}", {"a.yaml": written})
    for name, files in OTHERS.items():
        cases.add(name, files)
    return cases


REFUSED_IDS = {name: str(index) for index, (name, _) in enumerate(REFUSED)}


@pytest.mark.parametrize(
    ("case", "node_name", "friendly_name"),
    [(case[0], case[2], case[3]) for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_the_name_comes_from(
    cases: Cases, case: str, node_name: str, friendly_name: str | None
) -> None:
    device = cases.configuration(case)

    assert (device.node_name, device.friendly_name) == (node_name, friendly_name)
    assert device.platform == "host"
    assert "a.yaml" not in cases.problems(case)


def test_platform_deep_sleep_and_comment_come_through_packages(cases: Cases) -> None:
    device = cases.configuration("through packages")

    assert device.platform == "esp8266"
    assert device.deep_sleep
    assert device.comment == "By the door"


@pytest.mark.parametrize(("name", "key"), REFUSED)
def test_a_name_that_esphome_refuses_is_a_problem(cases: Cases, name: str, key: ReasonKey) -> None:
    case = f"refused {REFUSED_IDS[name]}"

    assert not cases.judged(case).configurations
    assert cases.problems(case) == {"a.yaml": key}


def test_a_name_with_mac_suffix_is_shorter_by_it(cases: Cases) -> None:
    assert cases.configuration("suffix").adds_mac_suffix
    reason = cases.judged("suffix").problems["suffix/b.yaml"]
    assert reason.key is ReasonKey.CONFIGURATION_NAME_TOO_LONG
    assert reason.parameters["limit"] == "24"


def test_substitutions_that_use_each_other_in_a_circle_are_a_problem(cases: Cases) -> None:
    assert cases.problems("circle") == {"a.yaml": ReasonKey.CONFIGURATION_NAME_UNDEFINED}
