"""What ESPHome's last lines say about a build that did not succeed.

What is shown of them to people is a reason; the lines themselves are for the job's log, because
ESPHome quotes the configuration, with its passwords.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
import re
import signal

from ..const import FailureReason
from ..machine_sentences import CRASH, DISK, DOWNLOAD, MEMORY, NETWORK, SETUP, TOOLS
from ..reason import Reason, ReasonKey
from ..tool_line import shown_line, shown_path
from ..tool_sentences import CONFIGURATION, LINKER, OVERFLOWS, PROJECT, SIZE, Sentence
from .build_log import BuildLog, hollow, read_log
from .model import BuildError
from .process.processes import ProcessResult

CONFIG_INVALID_EXIT_CODE = 2
"""What ``esphome`` exits with when it cannot read or does not accept a configuration."""

_DIAGNOSTIC = re.compile(r"^(\S[^:]{0,400}):(\d{1,9})(?::\d{1,9})?: (?:fatal )?error: (.*)")
# What a compiler says of the machine in the form of a diagnostic, or of what another one left.
_NO_DIAGNOSTIC = re.compile(
    r"^\{standard input\}:|: error writing to |: (?:can't|cannot) (?:open|create) "
)
_SOURCE = re.compile(r"\[source ([^][:]{1,400}):(\d{1,9})\]")
_YAML_MARK = re.compile(r'\bin "([^"]{1,400})", line (\d{1,9})')
_OVERFLOW = re.compile(r"\boverflow (0x[0-9a-fA-F]{1,8})\)")
_OVERFLOWED = re.compile(r"overflowed by (\d{1,9}) bytes")
_GREATER = re.compile(r"\(?(\d{1,9})(?: bytes)?\)? is greater than maximum allowed \(?(\d{1,9})")
# How ESPHome says in a refused configuration that a download failed: with this the line begins.
_DOWNLOAD = re.compile(
    r"^(?:Error while reading config: )?(?:Error: ?|fatal: |error: |ERROR )?"
    r"(?:unable to access '|Could(?: not|n't) (?:download|fetch|check|resolve|read from remote)"
    r"|Failed to (?:download|fetch|clone|connect)|Unable to (?:download|fetch|clone|find remote)"
    r"|The requested URL returned|RPC failed|early EOF|git is not installed|Git command"
    r"|unable to look up|ssh: |Cloning into|HTTPS?ConnectionPool|Timeout|.{1,100}timed out$"
    r"|detected dubious ownership|object file .{1,200} is empty|loose object|bad object|Unable to create '"
    r"|the remote end hung up|could not (?:fetch|lock config file)|cannot (?:fetch|lock ref))"
)
# Nobody will ever get that.
_NOT_THERE = re.compile(
    r"\b4(?:0[0145]|10) Client Error|(?:HTTP|[Ee]rror:?) 4(?:0[0145]|10)\b|repository '.{1,400}' not found|could not read Username"
    r"|Authentication failed|couldn't find remote ref|Remote branch .{1,200} not found"
)

_SYMBOL = re.compile(r"undefined symbol ([A-Z][A-Z0-9_]{1,60})\b")
_SIGNALS = {each.value: each.name for each in signal.Signals}

type _Meaning = tuple[Sequence[Sentence], FailureReason, ReasonKey]

_MEMORY: _Meaning = (MEMORY, FailureReason.OUT_OF_MEMORY, ReasonKey.MEMORY_RAN_OUT)
_CRASH: _Meaning = (CRASH, FailureReason.BUILDER_ENVIRONMENT, ReasonKey.TOOL_CRASHED)
_DISK: _Meaning = (DISK, FailureReason.BUILDER_ENVIRONMENT, ReasonKey.DISK_FULL)
_TOOLS: _Meaning = (TOOLS, FailureReason.BUILDER_ENVIRONMENT, ReasonKey.TOOL_MISSING)
_NETWORK: _Meaning = (NETWORK, FailureReason.BUILDER_ENVIRONMENT, ReasonKey.DOWNLOAD_FAILED)
_DOWNLOADS: _Meaning = (DOWNLOAD, FailureReason.BUILDER_ENVIRONMENT, ReasonKey.DOWNLOAD_FAILED)
_SETUP: _Meaning = (SETUP, FailureReason.BUILDER_ENVIRONMENT, ReasonKey.TOOLS_NOT_SET_UP)
_PROJECT: _Meaning = (PROJECT, FailureReason.COMPILE_FAILED, ReasonKey.SETTINGS_REFUSED)


async def diagnose(
    tail: Sequence[str],
    result: ProcessResult,
    config_dir: Path,
    *,
    valid: bool,
    compiled: bool = False,
) -> BuildError:
    """Return why ESPHome exited with anything but 0, in a thread: a build chooses its lines."""
    return await asyncio.to_thread(
        classify, tuple(tail), result, config_dir, valid=valid, compiled=compiled
    )


def classify(
    tail: Sequence[str],
    result: ProcessResult,
    config_dir: Path,
    *,
    valid: bool = False,
    compiled: bool = False,
) -> BuildError:
    """Judge a compile by its last lines; blocks. Files are named relative to ``config_dir``.

    ``valid``: ESPHome has accepted the configuration. Then its exit code for one that is invalid
    is that of ninja, cmake or idf.py. ``compiled``: a source file was compiled. Both also where a
    line says so.
    """
    log = read_log(tail, valid=valid, compiled=compiled)
    code = result.exit_code
    if code == CONFIG_INVALID_EXIT_CODE and not log.valid:
        return _refused(log, config_dir, code)
    found = (
        _first(log.compile, (_DISK,), code)
        or _diagnostic(log.compile, config_dir, code)
        or _first(log.compile, (_MEMORY,), code)
        or _first(log.compile, (_CRASH,), code)
        or _too_large(log.compile, code)
        or _not_linked(log.compile, code)
    )
    if found is not None:
        return found
    if result.out_of_memory:
        return BuildError(FailureReason.OUT_OF_MEMORY, Reason(ReasonKey.MEMORY_RAN_OUT), code)
    found = (
        _first(log.setup, (_PROJECT, _TOOLS, _NETWORK), code)
        or _first(log.compile, (_TOOLS,), code)
        or _first(log.setup, (_DOWNLOADS, _SETUP), code)
    )
    if found is not None:
        return _with_symbol(found, log)
    # As a shell tells it of what it ran.
    ended_by = result.signal or (code - 128 if code - 128 in _SIGNALS else None)
    if ended_by is not None:
        return BuildError(
            FailureReason.BUILDER_ENVIRONMENT,
            Reason(ReasonKey.BUILD_KILLED, {"signal": _signal_name(ended_by)}),
            code,
        )
    ended = {"code": str(code)}
    if log.compiled and log.explained:
        reason = Reason(ReasonKey.BUILD_ENDED, ended)
        return BuildError(FailureReason.COMPILE_FAILED, reason, code)
    # Nobody knows whether the code compiles: where it does not, something says so.
    key = ReasonKey.BUILD_BROKE_OFF if log.compiled else ReasonKey.BUILD_NOT_BEGUN
    return BuildError(FailureReason.BUILDER_ENVIRONMENT, Reason(key, ended), code)


def _signal_name(number: int) -> str:
    """Return the name of a signal; of the real-time ones only the first and the last have one."""
    beyond = number - signal.SIGRTMIN
    return _SIGNALS.get(number, f"SIGRTMIN+{beyond}" if beyond > 0 else f"SIG{number}")


def _first(lines: Sequence[str], meanings: Iterable[_Meaning], code: int) -> BuildError | None:
    """Return the meaning of the first line that has one."""
    for line in lines:
        if hollow(line):
            continue
        for sentences, failure_reason, key in meanings:
            for sentence in sentences:
                if (said := sentence.shown(line, here=True)) is not None:
                    return BuildError(failure_reason, Reason(key, line=said), code)
    return None


def _with_symbol(error: BuildError, log: BuildLog) -> BuildError:
    """Add the setting that Kconfig gave up for; it stands in a warning before."""
    line = error.reason.line
    if line == "Aborting due to Kconfig warnings":
        symbols = (found[1] for each in log.lines if (found := _SYMBOL.search(each)) is not None)
        if (symbol := next(symbols, None)) is not None:
            reason = replace(error.reason, line=f"{line}: undefined symbol {symbol}")
            return BuildError(error.failure_reason, reason, error.exit_code)
    return error


def _diagnostic(lines: Sequence[str], config_dir: Path, code: int) -> BuildError | None:
    """Return what the first error of the compiler says."""
    for line in lines:
        if (found := _DIAGNOSTIC.match(line)) is None or _NO_DIAGNOSTIC.search(line):
            continue
        keys = ReasonKey.CODE_REFUSED, ReasonKey.CODE_REFUSED_AT
        reason = _at(found, *keys, shown_line(line), config_dir)
        return BuildError(FailureReason.COMPILE_FAILED, reason, code)
    return None


def _too_large(lines: Sequence[str], code: int) -> BuildError | None:
    """Return by how much the firmware is too large, if that is what went wrong."""
    too_large = (*OVERFLOWS, *SIZE)
    said = next((text for line in lines if (text := _said(line, too_large)) is not None), None)
    if said is None:
        return None
    overflows = [int(found[1]) for line in lines if (found := _OVERFLOWED.search(line)) is not None]
    overflows += [int(found[1], 16) for line in lines if (found := _OVERFLOW.search(line))]
    overflows += [
        int(found[1]) - int(found[2]) for line in lines if (found := _GREATER.search(line))
    ]
    # By how much it is too much says more than that something does not fit.
    line = next((text for each in lines if (text := _said(each, OVERFLOWS[:1])) is not None), said)
    if not overflows:
        return BuildError(
            FailureReason.COMPILE_FAILED, Reason(ReasonKey.FIRMWARE_TOO_LARGE, line=line), code
        )
    parameters = {"bytes": str(overflows[0])}
    reason = Reason(ReasonKey.FIRMWARE_TOO_LARGE_BY, parameters, line)
    return BuildError(FailureReason.COMPILE_FAILED, reason, code)


def _not_linked(lines: Sequence[str], code: int) -> BuildError | None:
    said = next((text for line in lines if (text := _said(line, LINKER)) is not None), None)
    if said is None:
        return None
    return BuildError(
        FailureReason.COMPILE_FAILED, Reason(ReasonKey.CODE_NOT_LINKED, line=said), code
    )


def _said(line: str, sentences: Iterable[Sentence]) -> str | None:
    found = (sentence.shown(line, here=True) for sentence in sentences)
    return next((text for text in found if text is not None), None)


def _refused(log: BuildLog, config_dir: Path, code: int) -> BuildError:
    """Return why ESPHome does not accept a configuration: what is wrong in it, or what it needs.

    The network comes into it with packages, external components, fonts and images. ESPHome quotes
    the configuration around what it says, so that a line counts only for how it begins.
    """
    missing = None
    if not any(_said(line, CONFIGURATION) is not None for line in log.setup):
        for line in filter(_DOWNLOAD.match, log.setup):
            said = shown_line(line, NETWORK)
            if _NOT_THERE.search(line) is None:
                reason = Reason(ReasonKey.DOWNLOAD_FAILED, line=said)
                return BuildError(FailureReason.BUILDER_ENVIRONMENT, reason, code)
            missing = missing or said
        if (found := _first(log.setup, (_DISK,), code)) is not None:
            return found
    reason = _complaint(log.lines, config_dir)
    if missing is not None:
        reason = replace(reason, line=missing)
    return BuildError(FailureReason.CONFIG_INVALID, reason, code)


def _complaint(lines: Sequence[str], config_dir: Path) -> Reason:
    """Return where ESPHome does not accept a configuration, and why where that can be shown."""
    sentences = (
        (index, said)
        for index, line in enumerate(lines)
        if (said := _said(line, CONFIGURATION)) is not None
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
