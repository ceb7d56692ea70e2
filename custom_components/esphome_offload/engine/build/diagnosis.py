"""What ESPHome's last lines say about a build that did not succeed."""

from collections.abc import Sequence
from dataclasses import dataclass
import re
import signal

from ..const import FailureReason
from .process.processes import ProcessResult

CONFIG_INVALID_EXIT_CODE = 2
"""What ``esphome`` exits with when it cannot read or does not accept a configuration."""

_LONGEST_MESSAGE = 2000
"""Characters; ESPHome repeats the part of the configuration around each complaint."""

_MEMORY = re.compile(
    r"Killed signal terminated program|virtual memory exhausted|cannot allocate memory"
    r"|out of memory allocating|std::bad_alloc|^MemoryError",
    re.IGNORECASE,
)
_DISK = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_NETWORK = re.compile(
    r"Could not resolve|Failed to resolve|name resolution|Name or service not known"
    r"|NameResolutionError|Connection (?:refused|timed out|reset by peer)|Max retries exceeded"
    r"|Network is unreachable|ReadTimeout|ConnectTimeout|HTTPError|HTTPClientError"
    r"|Failed to download|SSLCertVerificationError|CERTIFICATE_VERIFY_FAILED",
    re.IGNORECASE,
)
_TOOLS = re.compile(
    r"PackageManager\w*Error|PackageException|UnknownPackageError"
    r"|\b(?:g\+\+|gcc|cmake|ninja|git)['\"]?: (?:command )?not found"
    r"|not found on PATH \(tried "
    r"|No such file or directory: '[^']*(?:g\+\+|gcc|cmake|ninja|git)'"
    r"|No module named|Exec format error|cannot execute"
    r"|Could not find (?:a )?(?:C\+\+ )?compiler|CMAKE_CXX_COMPILER not set",
    re.IGNORECASE,
)
_DIAGNOSTIC = re.compile(
    r"^\S.*?:\d+(?::\d+)?: (?:fatal )?error: |undefined reference to |multiple definition of "
    r"|\bld(?:\.\w+)?: (?:cannot find -l|region .* overflowed)|will not fit in region"
)
_WEAK_MEMORY = re.compile(r"\bout of memory\b", re.IGNORECASE)
_ERROR = re.compile(r"\berror\b", re.IGNORECASE)
# True of every failed build, so they say nothing about this one.
_HOLLOW = re.compile(
    r"^(?:ninja: build stopped|ERROR Host build failed|ERROR ninja .* failed with|=+ \[FAILED\]"
    r"|\*\*\* \[.*\] Error \d+|FAILED: )"
)

type _Meanings = tuple[tuple[re.Pattern[str], FailureReason], ...]

_NETWORK_ONLY: _Meanings = ((_NETWORK, FailureReason.BUILDER_ENVIRONMENT),)
_CERTAIN: _Meanings = (
    (_MEMORY, FailureReason.OUT_OF_MEMORY),
    (_DISK, FailureReason.BUILDER_ENVIRONMENT),
    (_DIAGNOSTIC, FailureReason.COMPILE_FAILED),
    (_WEAK_MEMORY, FailureReason.OUT_OF_MEMORY),
)
_LIKELY: _Meanings = (*_NETWORK_ONLY, (_TOOLS, FailureReason.BUILDER_ENVIRONMENT))


_LONGEST_LINE = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a build did not succeed; ``message`` is for people, mostly in ESPHome's own words."""

    reason: FailureReason
    message: str


def classify(tail: Sequence[str], result: ProcessResult) -> Failure:
    """Judge a compile that exited with anything but 0 by its last lines.

    What another builder might do better comes first, and a compiler's diagnostic, which it would
    not, before what its text may only happen to mention.
    """
    # A build that is not ours may print lines that would take seconds to search.
    lines = [clipped.rstrip() for line in tail if (clipped := line[:_LONGEST_LINE]).strip()]
    if result.exit_code == CONFIG_INVALID_EXIT_CODE:
        # The network comes into it with packages, external components, fonts and images.
        return _said(lines, _NETWORK_ONLY) or Failure(
            FailureReason.CONFIG_INVALID, _complaint(lines)
        )
    if failure := _said(lines, _CERTAIN):
        return failure
    if result.out_of_memory:
        return Failure(
            FailureReason.OUT_OF_MEMORY, "Memory ran out and a process of the build was killed"
        )
    if failure := _said(lines, _LIKELY):
        return failure
    if result.signal is not None:
        name = signal.Signals(result.signal).name
        return Failure(
            FailureReason.BUILDER_ENVIRONMENT, f"The build was ended from outside ({name})"
        )
    return Failure(FailureReason.COMPILE_FAILED, _last_word(lines, result.exit_code))


def _said(lines: list[str], meanings: _Meanings) -> Failure | None:
    """Return the first meaning that any line has, with the first such line."""
    for pattern, reason in meanings:
        for line in lines:
            if pattern.search(line):
                return Failure(reason, _without_level(line.strip()))
    return None


def _complaint(lines: list[str]) -> str:
    """Return what ESPHome says about a configuration, from its first word on."""
    for index, line in enumerate(lines):
        if line == "Failed config":
            lines = lines[index + 1 :]
            break
        if line.startswith("ERROR "):
            lines = [_without_level(line), *lines[index + 1 :]]
            break
    text = "\n".join(lines).strip()
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE].rsplit("\n", 1)[0] + "\n…"
    return text or "ESPHome does not accept the configuration"


def _last_word(lines: list[str], exit_code: int) -> str:
    telling = [line for line in lines if not _HOLLOW.search(line)]
    errors = [line for line in telling if _ERROR.search(line)]
    for line in (*reversed(errors), *reversed(telling)):
        return _without_level(line.strip())
    return f"ESPHome ended with exit code {exit_code}"


def _without_level(line: str) -> str:
    return line.removeprefix("ERROR ").removeprefix("WARNING ")
