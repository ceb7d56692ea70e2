import pytest

from custom_components.esphome_offload.engine.build.diagnosis import classify
from custom_components.esphome_offload.engine.build.process.processes import ProcessResult
from custom_components.esphome_offload.engine.const import FailureReason

FAILED = ProcessResult(exit_code=1)
REFUSED = ProcessResult(exit_code=2)


def test_an_invalid_configuration_is_reported_in_esphome_s_own_words() -> None:
    failure = classify(
        [
            "INFO ESPHome 2026.10.0",
            "INFO Reading configuration demo.yaml...",
            "Failed config",
            "",
            "sensor.template: [source demo.yaml:5]",
            "  platform: template",
            "  ",
            "  [nme] is an invalid option for [sensor.template]. Did you mean [name]?",
            "  nme: x",
        ],
        REFUSED,
    )
    assert failure.reason is FailureReason.CONFIG_INVALID
    assert failure.message == (
        "sensor.template: [source demo.yaml:5]\n"
        "  platform: template\n"
        "  [nme] is an invalid option for [sensor.template]. Did you mean [name]?\n"
        "  nme: x"
    )


def test_a_file_that_is_no_yaml_is_an_invalid_configuration() -> None:
    failure = classify(
        [
            "INFO Reading configuration demo.yaml...",
            "ERROR Error while reading config: Invalid YAML syntax:",
            "",
            "while parsing a flow node",
            "expected the node content, but found '<stream end>'",
        ],
        REFUSED,
    )
    assert failure.reason is FailureReason.CONFIG_INVALID
    assert failure.message == (
        "Error while reading config: Invalid YAML syntax:\n"
        "while parsing a flow node\n"
        "expected the node content, but found '<stream end>'"
    )


def test_a_package_that_could_not_be_fetched_is_no_invalid_configuration() -> None:
    line = "fatal: unable to access 'x': Could not resolve host: example.org"
    failure = classify(["Failed config", "external_components:", line], REFUSED)
    assert (failure.reason, failure.message) == (FailureReason.BUILDER_ENVIRONMENT, line)


def test_a_very_long_complaint_is_cut_at_a_line() -> None:
    failure = classify(["Failed config", *(f"line {number}" for number in range(1000))], REFUSED)
    assert len(failure.message) <= 2002
    assert failure.message.startswith("line 0\n")
    assert failure.message.endswith("\n…")


def test_a_refusal_without_words_still_says_something() -> None:
    assert classify([], REFUSED).message


@pytest.mark.parametrize(
    "diagnostic",
    [
        "demo.yaml:22:14: error: 'nope' was not declared in this scope",
        "src/main.cpp:7:10: fatal error: nothere.h: No such file or directory",
        "src/main.cpp:30: undefined reference to `missing()'",
        "main.cpp.o:(.text+0x1): multiple definition of `twice'",
        "x/bin/ld: region `iram0_0_seg' overflowed by 432 bytes",
    ],
)
def test_the_first_diagnostic_of_a_compiler_is_the_message(diagnostic: str) -> None:
    failure = classify(
        [
            "[52/53] CXX obj/src/main.cpp.o",
            "FAILED: obj/src/main.cpp.o ",
            "demo.yaml: In lambda function:",
            diagnostic,
            "src/other.cpp:1:1: error: another one",
            "ninja: build stopped: subcommand failed.",
            "ERROR Host build failed",
        ],
        FAILED,
    )
    assert (failure.reason, failure.message) == (FailureReason.COMPILE_FAILED, diagnostic)


def test_a_diagnostic_outweighs_memory_that_ran_out_elsewhere_on_the_machine() -> None:
    failure = classify(["a.cpp:1:2: error: no"], ProcessResult(exit_code=1, out_of_memory=True))
    assert failure.reason is FailureReason.COMPILE_FAILED


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
    failure = classify(["compilation terminated.", line, "ninja: build stopped: x."], FAILED)
    assert (failure.reason, failure.message) == (FailureReason.OUT_OF_MEMORY, line)


def test_what_the_kernel_says_about_memory_is_believed() -> None:
    killed = ProcessResult(exit_code=137, signal=9, out_of_memory=True)
    assert classify(["[5/50] CC a.o"], killed).reason is FailureReason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "line",
    [
        "src/main.cpp:1:1: fatal error: error writing to /tmp/cc1.s: No space left on device",
        "ERROR Failed to download from all mirrors:",
        "HTTPSConnectionPool(host='example.org', port=443): Max retries exceeded with url: /x",
        "curl: (7) Failed to connect to example.org port 443: Connection refused",
        "Temporary failure in name resolution",
        "HTTPClientError: 503",
        "UnknownPackageError: Could not find the package",
        "/bin/sh: 1: xtensa-esp32-elf-g++: not found",
        "ERROR gcc not found on PATH (tried gcc, clang, cc); install it or set CC",
        "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
        "ModuleNotFoundError: No module named 'esphome'",
    ],
)
def test_what_the_builder_lacks_is_its_environment(line: str) -> None:
    failure = classify(["INFO Compiling app...", line], FAILED)
    assert failure.reason is FailureReason.BUILDER_ENVIRONMENT
    assert failure.message == line.removeprefix("ERROR ")


def test_a_signal_from_outside_is_not_blamed_on_the_code() -> None:
    failure = classify(["[5/50] CC a.o"], ProcessResult(exit_code=137, signal=9))
    assert failure.reason is FailureReason.BUILDER_ENVIRONMENT
    assert "SIGKILL" in failure.message


def test_otherwise_the_last_line_that_tells_something_is_the_message() -> None:
    failure = classify(
        [
            "ERROR Component discovery went wrong",
            "see the log",
            "ninja: build stopped: subcommand failed.",
            "ERROR Host build failed",
        ],
        FAILED,
    )
    assert failure.reason is FailureReason.COMPILE_FAILED
    assert failure.message == "Component discovery went wrong"
    assert classify(["first", "last", ""], FAILED).message == "last"
    assert classify([], ProcessResult(exit_code=7)).message == "ESPHome ended with exit code 7"


def test_only_the_beginning_of_a_line_is_looked_at() -> None:
    line = "ERROR " + "x" * 65_000
    assert len(classify([line] * 500, FAILED).message) < 1000
