"""What ESPHome's last lines say about a build that did not succeed.

What is shown of them to people is a reason; the lines themselves are for the job's log, because
ESPHome quotes the configuration, with its passwords.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
import re
import signal

from ..const import FailureReason
from ..reason import Reason, ReasonKey
from ..tool_line import safe_line, shown_path
from .model import BuildError
from .process.processes import ProcessResult

CONFIG_INVALID_EXIT_CODE = 2
"""What ``esphome`` exits with when it cannot read or does not accept a configuration."""

_LONGEST_LINE = 1000

# In lower case. Plain words, where they do, are found in one pass however a line is made.
_MEMORY = (
    "killed signal terminated program",
    "virtual memory exhausted",
    "cannot allocate memory",
    "out of memory allocating",
    "std::bad_alloc",
    "memoryerror",
)
_WEAK_MEMORY = ("out of memory",)
_DISK = ("no space left on device", "disk quota exceeded")
_NETWORK = (
    "could not resolve",
    "failed to resolve",
    "name resolution",
    "name or service not known",
    "nameresolutionerror",
    "connection refused",
    "connection timed out",
    "connection reset by peer",
    "max retries exceeded",
    "network is unreachable",
    "readtimeout",
    "connecttimeout",
    "httperror",
    "httpclienterror",
    "failed to download",
    "sslcertverificationerror",
    "certificate_verify_failed",
)
_TOOLS = (
    "packageexception",
    "unknownpackageerror",
    "not found on path (tried ",
    "no module named",
    "exec format error",
    "cannot execute",
    "could not find compiler",
    "could not find a compiler",
    "could not find c++ compiler",
    "could not find a c++ compiler",
    "cmake_cxx_compiler not set",
)
_TOOL = re.compile(
    r"packagemanager\w{0,40}error"
    r"|(?:g\+\+|\b(?:gcc|cmake|ninja|git))['\"]?: (?:command )?not found"
    r"|no such file or directory: '[^']{0,300}(?:g\+\+|gcc|cmake|ninja|git)'"
)
_DIAGNOSTIC = re.compile(r"^(\S[^:]{0,400}):(\d{1,9})(?::\d{1,9})?: (?:fatal )?error: ")
_LINKER = re.compile(
    r"undefined reference to |multiple definition of |will not fit in region"
    r"|\bld(?:\.\w{1,20})?: (?:cannot find -l|region .{0,200} overflowed)"
)
_SOURCE = re.compile(r"\[source ([^][:]{1,400}):(\d{1,9})\]")
_YAML_MARK = re.compile(r'\bin "([^"]{1,400})", line (\d{1,9})')

type _Sign = Callable[[str], bool]


def _words(words: Iterable[str]) -> _Sign:
    return lambda line: any(word in line for word in words)


_NETWORK_SIGNS = ((_words(_NETWORK), FailureReason.BUILDER_ENVIRONMENT, ReasonKey.DOWNLOAD_FAILED),)
_MEMORY_SIGNS = (
    (_words(_MEMORY), FailureReason.OUT_OF_MEMORY, ReasonKey.MEMORY_RAN_OUT),
    (_words(_DISK), FailureReason.BUILDER_ENVIRONMENT, ReasonKey.DISK_FULL),
)
_WEAK_SIGNS = ((_words(_WEAK_MEMORY), FailureReason.OUT_OF_MEMORY, ReasonKey.MEMORY_RAN_OUT),)
_LIKELY_SIGNS = (
    *_NETWORK_SIGNS,
    (_words(_TOOLS), FailureReason.BUILDER_ENVIRONMENT, ReasonKey.TOOL_MISSING),
    (
        lambda line: _TOOL.search(line) is not None,
        FailureReason.BUILDER_ENVIRONMENT,
        ReasonKey.TOOL_MISSING,
    ),
)


async def diagnose(
    tail: Sequence[str], result: ProcessResult, config_dir: Path, *, valid: bool
) -> BuildError:
    """Return why ESPHome exited with anything but 0, in a thread: a build chooses its lines."""
    return await asyncio.to_thread(classify, tuple(tail), result, config_dir, valid=valid)


def classify(
    tail: Sequence[str], result: ProcessResult, config_dir: Path, *, valid: bool = False
) -> BuildError:
    """Judge a compile by its last lines; blocks. Files are named relative to ``config_dir``.

    ``valid``: ESPHome has accepted the configuration. Then its exit code for one that is invalid
    is that of ninja, cmake or idf.py.

    What another builder might do better comes first, and a compiler's diagnostic, which it would
    not, before what its text may only happen to mention.
    """
    lines = [clipped.strip() for line in tail if (clipped := line[:_LONGEST_LINE]).strip()]
    lowered = [line.lower() for line in lines]
    code = result.exit_code
    if code == CONFIG_INVALID_EXIT_CODE and not valid:
        # The network comes into it with packages, external components, fonts and images.
        return _sign(lowered, _NETWORK_SIGNS, code) or BuildError(
            FailureReason.CONFIG_INVALID, _complaint(lines, config_dir), code
        )
    found = (
        _sign(lowered, _MEMORY_SIGNS, code)
        or _diagnostic(lines, config_dir, code)
        or _sign(lowered, _WEAK_SIGNS, code)
    )
    if found is not None:
        return found
    if result.out_of_memory:
        return BuildError(
            FailureReason.OUT_OF_MEMORY, Reason(ReasonKey.MEMORY_RAN_OUT), result.exit_code
        )
    if (found := _sign(lowered, _LIKELY_SIGNS, code)) is not None:
        return found
    if result.signal is not None:
        name = signal.Signals(result.signal).name
        return BuildError(
            FailureReason.BUILDER_ENVIRONMENT,
            Reason(ReasonKey.BUILD_KILLED, {"signal": name}),
            code,
        )
    return BuildError(
        FailureReason.COMPILE_FAILED, Reason(ReasonKey.BUILD_ENDED, {"code": str(code)}), code
    )


def _sign(
    lowered: Sequence[str],
    signs: Iterable[tuple[_Sign, FailureReason, ReasonKey]],
    exit_code: int,
) -> BuildError | None:
    """Return the first meaning that any line has."""
    for has, failure_reason, key in signs:
        if any(map(has, lowered)):
            return BuildError(failure_reason, Reason(key), exit_code)
    return None


def _diagnostic(lines: Sequence[str], config_dir: Path, exit_code: int) -> BuildError | None:
    """Return what the first error of the compiler or linker says."""
    for line in lines:
        if (found := _DIAGNOSTIC.match(line)) is not None:
            keys = ReasonKey.CODE_REFUSED, ReasonKey.CODE_REFUSED_AT
            reason = _at(found, *keys, safe_line(line), config_dir)
        elif _LINKER.search(line) is not None:
            reason = Reason(ReasonKey.CODE_NOT_LINKED, line=safe_line(line))
        else:
            continue
        return BuildError(FailureReason.COMPILE_FAILED, reason, exit_code)
    return None


def _complaint(lines: Sequence[str], config_dir: Path) -> Reason:
    """Return where ESPHome does not accept a configuration, and why where that can be shown."""
    sentences = (
        (index, said)
        for index, line in enumerate(lines)
        if (said := safe_line(line.removeprefix("ERROR "))) is not None
    )
    index, said = next(sentences, (0, None))
    # ESPHome names the place behind what is wrong there, and before it that of the whole block.
    places = [
        found
        for line in (*lines[index:], *reversed(lines[:index]))
        if (found := _SOURCE.search(line) or _YAML_MARK.search(line)) is not None
    ]
    keys = ReasonKey.CONFIG_REFUSED, ReasonKey.CONFIG_REFUSED_AT
    return _at(next(iter(places), None), *keys, said, config_dir)


def _at(
    found: re.Match[str] | None,
    key: ReasonKey,
    key_with_place: ReasonKey,
    line: str | None,
    config_dir: Path,
) -> Reason:
    if found is None or (file := shown_path(found[1], config_dir)) is None:
        return Reason(key, line=line)
    return Reason(key_with_place, {"file": file, "row": found[2]}, line)
