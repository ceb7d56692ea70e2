"""What the last lines of a build mean, and what is told of them."""

from pathlib import Path
import signal
import threading
import time

import pytest

from custom_components.esphome_offload.engine.build import diagnosis
from custom_components.esphome_offload.engine.build.diagnosis import classify, diagnose
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.processes import ProcessResult
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey, reason_of_peer

FOLDER = Path("/config/esphome")
FAILED = ProcessResult(exit_code=1)
REFUSED = ProcessResult(exit_code=2)
SECRET = "hunter2-pass"


def judged(lines: list[str], result: ProcessResult = FAILED) -> BuildError:
    return classify(lines, result, FOLDER)


def test_an_invalid_configuration_is_reported_with_its_place() -> None:
    error = judged(
        [
            "INFO ESPHome 2026.10.0",
            "INFO Reading configuration demo.yaml...",
            "Failed config",
            "",
            "sensor.template: [source demo.yaml:5]",
            "  platform: template",
            "  ",
            "  [nme] is an invalid option for [sensor.template]. Did you mean [name]?",
            "  nme: x [source demo.yaml:7]",
        ],
        REFUSED,
    )
    assert (error.failure_reason, error.exit_code) == (FailureReason.CONFIG_INVALID, 2)
    assert error.reason == Reason(
        ReasonKey.CONFIG_REFUSED_AT,
        {"file": "demo.yaml", "row": "7"},
        "[nme] is an invalid option for [sensor.template]; did you mean [name]?",
    )


def test_the_block_that_esphome_quotes_is_not_told() -> None:
    error = judged(
        [
            "Failed config",
            "wifi: [source demo.yaml:5]",
            f"  {SECRET} is not what it should be",
            "  ssid: home",
            f"  password: {SECRET}",
        ],
        REFUSED,
    )
    assert error.reason == Reason(ReasonKey.CONFIG_REFUSED_AT, {"file": "demo.yaml", "row": "5"})


def test_a_file_that_is_no_yaml_is_an_invalid_configuration() -> None:
    error = judged(
        [
            "INFO Reading configuration demo.yaml...",
            "ERROR Error while reading config: Invalid YAML syntax:",
            "",
            "while parsing a flow node",
            f"expected the node content, but found '{SECRET}'",
            '  in "/config/esphome/common/base.yaml", line 12, column 5',
        ],
        REFUSED,
    )
    assert error.failure_reason is FailureReason.CONFIG_INVALID
    assert error.reason == Reason(
        ReasonKey.CONFIG_REFUSED_AT,
        {"file": "common/base.yaml", "row": "12"},
        "Invalid YAML syntax",
    )


def test_a_file_elsewhere_is_not_named() -> None:
    for place in ("/home/me/x.yaml", "/config/esphome/a/../../x.yaml", f"/{SECRET}"):
        error = judged(["Failed config", f"wifi: [source {place}:5]"], REFUSED)
        assert error.reason == Reason(ReasonKey.CONFIG_REFUSED)


def test_a_file_around_the_folder_is_named_as_the_configuration_does() -> None:
    place = "/config/esphome/../common/base.yaml"
    error = judged(["Failed config", f"wifi: [source {place}:5]"], REFUSED)
    assert error.reason.parameters["file"] == "../common/base.yaml"


def test_a_folder_behind_a_link_is_the_folder_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    line = f"wifi: [source {tmp_path}/real/a.yaml:5]"
    error = classify(["Failed config", line], REFUSED, tmp_path / "link")
    assert error.reason.parameters["file"] == "a.yaml"


def test_a_package_that_could_not_be_fetched_is_no_invalid_configuration() -> None:
    line = f"fatal: unable to access '{SECRET}': Could not resolve host: example.org"
    error = judged(["Failed config", "external_components:", line], REFUSED)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason == Reason(ReasonKey.DOWNLOAD_FAILED, line="Could not resolve host")


def test_a_refusal_without_words_is_one_too() -> None:
    assert judged([], REFUSED).reason == Reason(ReasonKey.CONFIG_REFUSED)


def test_once_it_was_valid_its_exit_code_says_nothing_about_the_configuration() -> None:
    error = classify(["a.cpp:1:2: error: no"], REFUSED, FOLDER, valid=True)
    assert (error.failure_reason, error.exit_code) == (FailureReason.COMPILE_FAILED, 2)


AT = ReasonKey.CODE_REFUSED_AT


@pytest.mark.parametrize(
    ("diagnostic", "reason"),
    [
        (
            f"/config/esphome/demo.yaml:22:14: error: '{SECRET}' was not declared in this scope",
            Reason(
                AT,
                {"file": "demo.yaml", "row": "22"},
                "error: … was not declared in this scope",
            ),
        ),
        (
            "src/main.cpp:7:10: fatal error: nothere.h: No such file or directory",
            Reason(AT, {"file": "src/main.cpp", "row": "7"}, "error: No such file or directory"),
        ),
        (
            f"src/main.cpp:7:10: error: #error {SECRET}",
            Reason(AT, {"file": "src/main.cpp", "row": "7"}),
        ),
        (
            "/home/me/main.cpp:7:10: error: stray '@' in program",
            Reason(ReasonKey.CODE_REFUSED, line="error: stray … in program"),
        ),
    ],
)
def test_the_first_diagnostic_of_a_compiler_is_told(diagnostic: str, reason: Reason) -> None:
    error = judged(
        [
            "[52/53] CXX obj/src/main.cpp.o",
            "FAILED: obj/src/main.cpp.o ",
            "demo.yaml: In lambda function:",
            diagnostic,
            "src/other.cpp:1:1: error: another one",
            "ninja: build stopped: subcommand failed.",
            "ERROR Host build failed",
        ]
    )
    assert (error.failure_reason, error.reason) == (FailureReason.COMPILE_FAILED, reason)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "src/main.cpp:30: undefined reference to `missing()'",
            Reason(ReasonKey.CODE_NOT_LINKED, line="undefined reference to a symbol"),
        ),
        (
            "main.cpp.o:(.text+0x1): multiple definition of `twice'",
            Reason(ReasonKey.CODE_NOT_LINKED, line="multiple definition of a symbol"),
        ),
        (
            "x/bin/ld: region `iram0_0_seg' overflowed by 432 bytes",
            Reason(
                ReasonKey.FIRMWARE_TOO_LARGE_BY,
                {"bytes": "432"},
                "region iram0_0_seg overflowed by 432 bytes",
            ),
        ),
    ],
)
def test_what_a_linker_says_is_told(said: str, reason: Reason) -> None:
    error = judged(
        [
            "[53/53] LINK program",
            "FAILED: program ",
            said,
            "collect2: error: ld returned 1 exit status",
            "ninja: build stopped: subcommand failed.",
            "ERROR Host build failed",
        ]
    )
    assert (error.failure_reason, error.reason) == (FailureReason.COMPILE_FAILED, reason)


def test_a_diagnostic_outweighs_memory_that_ran_out_elsewhere_on_the_machine() -> None:
    killed = ProcessResult(exit_code=1, out_of_memory=True)
    assert judged(["a.cpp:1:2: error: no"], killed).failure_reason is FailureReason.COMPILE_FAILED


@pytest.mark.parametrize(
    "line",
    [
        "c++: fatal error: Killed signal terminated program cc1plus",
        "virtual memory exhausted: Cannot allocate memory",
        "OSError: [Errno 12] Cannot allocate memory",
        "cc1plus: out of memory allocating 65536 bytes after a total of 88150016 bytes",
        "ninja: fatal: out of memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_a_compiler_without_memory_is_recognised(line: str) -> None:
    error = judged(["compilation terminated.", line, "ninja: build stopped: x."])
    assert error.failure_reason is FailureReason.OUT_OF_MEMORY
    assert (error.reason.key, error.reason.line is None) == (ReasonKey.MEMORY_RAN_OUT, False)


def test_what_the_kernel_says_about_memory_is_believed() -> None:
    killed = ProcessResult(exit_code=137, signal=9, out_of_memory=True)
    assert judged(["[5/50] CC a.o"], killed).failure_reason is FailureReason.OUT_OF_MEMORY


NETWORK = ReasonKey.DOWNLOAD_FAILED
TOOLS = ReasonKey.TOOL_MISSING
NOT_SET_UP = ReasonKey.TOOLS_NOT_SET_UP


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (
            "src/main.cpp:1:1: fatal error: error writing to /tmp/cc1.s: No space left on device",
            ReasonKey.DISK_FULL,
        ),
        ("  https://example.org/x.zip: 404 Client Error: Not Found for url", NETWORK),
        (
            "HTTPSConnectionPool(host='example.org', port=443): Max retries exceeded with url: /x",
            NETWORK,
        ),
        ("curl: (7) Failed to connect to example.org port 443: Connection refused", NETWORK),
        ("Temporary failure in name resolution", NETWORK),
        ("HTTPClientError: 503", NETWORK),
        ("UnknownPackageError: Could not find the package", NOT_SET_UP),
        ("RuntimeError: Can't create Python virtual environment for x", NOT_SET_UP),
        ("PackageManagerInstallError: no", ReasonKey.BUILD_NOT_BEGUN),
        ("/bin/sh: 1: xtensa-esp32-elf-g++: not found", TOOLS),
        ("ERROR gcc not found on PATH (tried gcc, clang, cc); install it or set CC", TOOLS),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'ninja'", TOOLS),
        ("ModuleNotFoundError: No module named 'esphome'", TOOLS),
    ],
)
def test_what_the_builder_lacks_is_its_environment(line: str, key: ReasonKey) -> None:
    error = judged(["INFO Compiling app...", line])
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason.key is key


@pytest.mark.parametrize(
    ("number", "name"),
    [(9, "SIGKILL"), (signal.SIGRTMIN + 6, "SIGRTMIN+6"), (32, "SIG32")],
)
def test_a_signal_from_outside_is_not_blamed_on_the_code(number: int, name: str) -> None:
    error = judged(["[5/50] CC a.o"], ProcessResult(exit_code=128 + number, signal=number))
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason == Reason(ReasonKey.BUILD_KILLED, {"signal": name})
    assert reason_of_peer(error.reason.key, {"signal": name}, None, {"label": ""}) == error.reason


def test_before_anything_was_compiled_it_is_the_builder_that_failed() -> None:
    error = judged(["INFO Compiling app...", f"ERROR {SECRET} went wrong"])
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason == Reason(ReasonKey.BUILD_NOT_BEGUN, {"code": "1"})


@pytest.mark.parametrize(
    "lines",
    [
        ["[1/3] CXX obj/src/build_info_data.cpp.o", "ERROR Host build failed"],
        [
            "[3/3] LINK program",
            "ERROR Build produced no trees/lamp/build/lamp/.pioenvs/lamp/program",
            "ERROR Host build failed",
        ],
    ],
    ids=["ninja was killed", "the disk was taken away"],
)
def test_where_nothing_says_that_the_code_is_wrong_the_builder_failed(lines: list[str]) -> None:
    error = judged(["INFO Compiling app...", *lines])
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason == Reason(ReasonKey.BUILD_BROKE_OFF, {"code": "1"})


def test_otherwise_the_exit_code_is_all_that_is_told() -> None:
    lines = ["[5/50] CC a.o", f"ERROR {SECRET} went wrong"]
    error = judged(lines, ProcessResult(exit_code=7))
    assert error.failure_reason is FailureReason.COMPILE_FAILED
    assert error.reason == Reason(ReasonKey.BUILD_ENDED, {"code": "7"})


async def test_lines_of_a_build_are_judged_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def classify_here(*_args: object, **_options: object) -> BuildError:
        threads.append(threading.current_thread())
        return BuildError(FailureReason.COMPILE_FAILED, Reason(ReasonKey.CODE_REFUSED))

    monkeypatch.setattr(diagnosis, "classify", classify_here)
    await diagnose([], FAILED, FOLDER, valid=True)
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize(
    "part",
    [
        "x",
        ":1",
        ":1:1: error: '",
        "PackageManager",
        "No such file or directory: '",
        "ld: region ",
        "[source ",
        'in "',
        "*** [",
        "E",
    ],
)
def test_no_lines_take_long_to_judge(part: str) -> None:
    lines = [part * (64 * 1024 // len(part))] * 500
    before = time.thread_time()
    judged(lines, FAILED)
    judged(lines, REFUSED)
    # A tenth of this where nothing else runs; a pattern that is not linear takes minutes.
    assert time.thread_time() - before < 5
