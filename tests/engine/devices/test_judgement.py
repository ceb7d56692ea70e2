"""Which files are devices and which are told about, from what ESPHome says of them."""

import pytest

from custom_components.esphome_offload.engine.devices.answers import Answer, Fault, Known
from custom_components.esphome_offload.engine.devices.judgement import judge
from custom_components.esphome_offload.engine.devices.model import ScanResult
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey as Key


def judged(*answers: Answer, before: tuple[str, ...] = ()) -> ScanResult:
    known = {
        answer.file: Known(
            "2026.10.0", {}, answer, device=FORMER if answer.file in before else None
        )
        for answer in answers
    }
    return judge("/config/esphome", known)


def reason(key: Key, file: str = "a.yaml") -> Reason:
    return Reason(key, {"file": file})


SYNTAX = reason(Key.CONFIGURATION_SYNTAX)
UNDEFINED = reason(Key.CONFIGURATION_NAME_UNDEFINED)
NAMELESS = reason(Key.CONFIGURATION_NAME_MISSING)
REFUSED = reason(Key.CONFIGURATION_REFUSED)
FORMER = Answer("a.yaml", node_name="a", platform="host", complete=True)
DEVICE = Answer("b.yaml", node_name="b", platform="host", complete=True)


def test_a_device_has_its_files_itself_first() -> None:
    answer = Answer(
        "a.yaml",
        node_name="a",
        platform="esp32",
        reads=("a.yaml", "x.h", "../secrets.yaml", "common/b.yaml", "parts"),
        complete=True,
    )
    device = judged(answer).configurations["a.yaml"]
    assert [str(file) for file in device.files] == [
        "/config/esphome/a.yaml",
        "/config/secrets.yaml",
        "/config/esphome/common/b.yaml",
    ]


@pytest.mark.parametrize(("complete", "is_device"), [(True, False), (False, True)])
def test_what_names_no_platform_is_a_device_only_if_one_may_be_elsewhere(
    complete: bool, is_device: bool
) -> None:
    answer = Answer("a.yaml", node_name="a", complete=complete)
    assert ("a.yaml" in judged(answer).configurations) is is_device
    assert judged(answer).problems == {}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer("a.yaml", broken=True, problem=SYNTAX), False),
        (Answer("a.yaml", broken=True, problem=SYNTAX, says_device=True), True),
        (Answer("a.yaml", block=True, problem=UNDEFINED, says_device=True), False),
        (
            Answer(
                "a.yaml", block=True, problem=UNDEFINED, says_device=True, own_substitutions=True
            ),
            True,
        ),
        (Answer("a.yaml", block=True, problem=NAMELESS, says_device=True), False),
        (Answer("a.yaml", block=True, problem=NAMELESS, says_device=True, platform="host"), True),
        (Answer("a.yaml", problem=REFUSED), False),
        (Answer("a.yaml", problem=REFUSED, says_device=True), True),
        (Answer("a.yaml", problem=REFUSED, remote_packages_missing=True), True),
        (Answer("a.yaml", node_name="a", platform="host", problem=REFUSED), True),
        (Answer("secrets.enc.yaml", broken=True, problem=SYNTAX, says_device=True), False),
    ],
)
def test_who_is_told_about(answer: Answer, told: bool) -> None:
    assert bool(judged(answer).problems) is told
    # What was a device is always told about, and stays one.
    found = judged(answer, before=(answer.file,))
    assert found.problems == {answer.file: answer.problem}
    assert found.configurations.keys() == {answer.file}


def test_a_device_that_lost_its_platform_is_told_about() -> None:
    found = judged(Answer("a.yaml", node_name="a", complete=True), before=("a.yaml",))
    assert found.problems == {"a.yaml": reason(Key.CONFIGURATION_PLATFORM_MISSING)}
    assert found.configurations["a.yaml"].platform == "host"


@pytest.mark.parametrize("name", [None, "a"])
def test_a_device_stays_one_while_a_file_that_it_includes_is_broken(name: str | None) -> None:
    fault = Fault("common/base.yaml", reason(Key.CONFIGURATION_SYNTAX, "common/base.yaml"))
    includer = Answer("a.yaml", node_name=name, complete=True, faults=(fault,))
    found = judged(includer, before=("a.yaml",))
    assert found.configurations["a.yaml"].platform == "host"
    assert found.problems == {"common/base.yaml": fault.reason}
    assert found.unsure == {"a.yaml"}
    assert judged(includer).configurations == {}


def test_a_device_that_says_nothing_of_one_any_more_is_none() -> None:
    found = judged(Answer("a.yaml"), before=("a.yaml",))
    assert (found.configurations, found.problems, found.unsure) == ({}, {}, set())


@pytest.mark.parametrize("problem", [NAMELESS, UNDEFINED])
def test_a_device_that_became_a_package_of_others_is_none(problem: Reason) -> None:
    template = Answer("a.yaml", block=True, problem=problem, says_device=True, platform="host")
    includer = Answer("b.yaml", node_name="b", platform="host", reads=("b.yaml", "a.yaml"))
    found = judged(template, includer, before=("a.yaml",))
    assert found.configurations.keys() == {"b.yaml"}
    assert found.problems == {}


def test_an_included_file_is_told_about_only_if_it_is_broken() -> None:
    includer = Answer("b.yaml", node_name="b", platform="host", reads=("b.yaml", "a.yaml"))
    fragment = Answer("a.yaml", block=True, problem=REFUSED, says_device=True)
    broken = Answer("a.yaml", broken=True, problem=SYNTAX)
    assert judged(includer, fragment).problems == {}
    assert judged(includer, broken).problems == {"a.yaml": SYNTAX}


def test_what_devices_include_is_told_about_once() -> None:
    fault = Fault("common.inc", reason(Key.CONFIGURATION_SYNTAX, "common.inc"))
    one = Answer("a.yaml", node_name="a", platform="host", faults=(fault,))
    two = Answer("b.yaml", node_name="b", platform="host", faults=(fault,))
    fragment = Answer("c.yaml", faults=(Fault("d.inc", SYNTAX),))
    assert judged(one, two, fragment).problems == {"common.inc": fault.reason}


def test_what_only_the_plain_reader_has_seen_or_cannot_be_read_is_unsure() -> None:
    known = {"b.yaml": Known(None, {}, DEVICE)}
    assert judge("/config", known).unsure == {"b.yaml"}
    assert judged(DEVICE).unsure == frozenset()
    assert judged(Answer("a.yaml", broken=True, problem=SYNTAX)).unsure == {"a.yaml"}
