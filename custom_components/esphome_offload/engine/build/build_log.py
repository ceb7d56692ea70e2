"""The lines of a failed build that may say why: errors, after the last step that went well."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import re

from ..tool_line import clip

VALIDATED = "Generating C++ source"
"""What ESPHome prints once it has accepted the configuration."""

_LEVEL = re.compile(r"^(?:ERROR|CRITICAL)\s+")
_NINJA = re.compile(r"^\[\d{1,9}/\d{1,9}\]")
_COMPILES = re.compile(
    r"^\[\d{1,9}/\d{1,9}\] ?(?:Building|CXX|CC|ASM|AR|LINK|Linking|Compiling)\b"
    r"|^(?:Compiling|Archiving|Linking) \S|^FAILED: |^\*\*\* \[.{1,400}\.(?:o|a|elf)\] Error"
)
_DIAGNOSTIC = re.compile(r"^\S[^:]{0,400}:\d{1,9}(?::\d{1,9})?: (?:fatal )?error: ")

# What was survived, whatever it says.
_SURVIVED = re.compile(
    r"^(?:-- )?(?:WARNING|INFO|DEBUG|VERBOSE|HINT|NOTE|NOTICE)\b|^(?:-- )?(?:[Ww]arning|hint)\b"
    r"|^\S[^:]{0,400}(?::\d{1,9}){0,2}: (?:[Ww]arning|note): |^CMake (?:Deprecation )?Warning\b"
    # The code that a compiler quotes, and what it marks there.
    r"|^\d{0,6} ?\| |^\|"
    r"|\b[Rr]etrying\b|\busing (?:the )?cached\b|\bthe installer will\b|\bto the installer\b"
    r"|\bcontinuing without\b|\bfalling back\b|\bwill (?:be )?(?:retried|ignored)\b"
)
# Commands that a tool quotes, with texts of the configuration in their definitions.
_COMMAND = re.compile(
    r"^(?:\S{1,400}/)?(?:[\w.+]{1,40}-){0,4}(?:ccache|g\+\+|gcc|c\+\+|cc|ar|ld|python[\d.]{0,5}|cmake)\"? +\S"
    r"|^cd \S| && \S"
)
_STEP = re.compile(
    r"^INFO (?!.{0,200}\b[Rr]etrying\b)|^-- (?!Configuring incomplete|WARNING|ERROR)|^=== updating "
    r"|\bhas been (?:successfully )?installed\b|^Successfully installed\b"
    r"|^(?:Tool|Platform|Library|Package) Manager: |^(?:HEAD is now at|Already up to date)"
    r"|^(?:Downloading|Extracting|Unpacking)\b.{0,200}\b100%"
)
"""What is printed when a step went well, or the next one starts."""
_ERROR = re.compile(
    r"^(?:ERROR|CRITICAL|FATAL)\b|^Failed config$|^(?:fatal|error|Error)\b|\berror: |^CMake Error\b|^FAILED: |^\*\*\* "
    r"|^[A-Z]\w{0,60}(?:Error|Exception)\b"
)
_HOLLOW = re.compile(
    r"^(?:ninja: build stopped|CMake configure failed with|Component discovery failed"
    r"|Reconfigure with discovered|ninja \S.{0,100} failed with|FATAL ERROR: command exited"
    r"|\S{1,400} -m west .{0,400} - failed \(returncode|(?:collect2|clang\S{0,20}): error: ld returned"
    r"|collect2: error: .{0,40} exit status|-- Configuring incomplete|compilation terminated"
    r"|CMake Error at [^:]{1,400}:\d{1,9} \(message\):$|Call Stack|command failed with return code"
    r"|Failed to download from all mirrors:|make(?:\[\d\])?: \*\*\* )"
    r"|^\S{1,20} (?:native )?build failed|\(returncode=\d{1,3}\)(?:\. Tail:)?$|^Traceback "
    r"|^RuntimeError: .{0,200}(?:failure|failed)$|^Build produced no "
)
"""What is true of every failed build of its kind."""

_PARAGRAPH = 1000


@dataclass(frozen=True, slots=True)
class BuildLog:
    """The last lines of a build, each without its level.

    ``setup`` and ``compile`` hold those that may decide, of the time after the last step that went
    well, and of all the time since the first source file was compiled (else the same). ``valid``
    and ``compiled`` say how far the build got, ``explained`` whether anything in ``compile`` is an
    error, whatever it means.
    """

    lines: tuple[str, ...]
    setup: tuple[str, ...]
    compile: tuple[str, ...]
    valid: bool
    compiled: bool
    explained: bool


def read_log(tail: Sequence[str], *, valid: bool = False, compiled: bool = False) -> BuildLog:
    """Return what the last lines of a build have to say; blocks for as long as there are lines."""
    lines = list(_paragraphs(clip(line) for line in tail))
    may_decide = list(_may_decide(lines))
    first = next((index for index, line in enumerate(lines) if _compiles(line)), None)
    setup = _since_last_step(lines, may_decide, after_compiling=first is not None)
    start = 0 if first is None and compiled else first
    # Not only since its first line: a tool says what is wrong before it says what it did not make.
    while start and _STEP.search(lines[start - 1]) is None:
        start -= 1
    compiling = [line for line in may_decide[start or 0 :] if line is not None]
    return BuildLog(
        lines=tuple(_LEVEL.sub("", line) for line in lines),
        setup=tuple(setup),
        compile=tuple(setup)
        if start is None
        else tuple(_LEVEL.sub("", line) for line in compiling),
        valid=valid or any(VALIDATED in line for line in tail),
        compiled=compiled or first is not None,
        explained=any(map(_explains, compiling)),
    )


def compiles(line: str) -> bool:
    """Return whether a line says that a source file of the build is, or was, compiled."""
    return _COMPILES.match(line) is not None


def hollow(line: str) -> bool:
    """Return whether a line says no more than that a build failed."""
    return _HOLLOW.search(line) is not None


def _explains(line: str) -> bool:
    return _ERROR.search(line) is not None and not hollow(_LEVEL.sub("", line))


def _compiles(line: str) -> bool:
    return compiles(line) or _DIAGNOSTIC.match(line) is not None


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Join what CMake wraps; the lines that it indents belong together until a blank one."""
    message = paragraph = ""
    for line in lines:
        stripped = line.strip()
        if message and line.startswith("  ") and stripped:
            paragraph = f"{paragraph} {stripped}".strip()[:_PARAGRAPH]
            continue
        if paragraph:
            # Whatever a warning says was survived.
            yield f"{message}{paragraph}".strip()
            paragraph = ""
        if stripped.startswith(("CMake Error", "CMake Warning", "CMake Deprecation")):
            message = "" if stripped.startswith("CMake Error") else "Warning: "
            message = message or " "
        elif stripped:
            message = ""
        if stripped:
            yield stripped
    if paragraph:
        yield f"{message}{paragraph}".strip()


def _may_decide(lines: Sequence[str]) -> Iterator[str | None]:
    """Return each line that may be the reason; None for one that says what was survived."""
    continues = traced = False
    for line in lines:
        # The code that Python quotes of a file.
        quoted_code = traced and _ERROR.search(line) is None
        traced = line.startswith('File "')
        if traced or quoted_code:
            yield None
            continue
        if _SURVIVED.search(line) is not None:
            # A warning that ends so quotes what it is about in the lines that follow.
            continues = line.startswith("WARNING") and line.endswith(":")
            yield None
            continue
        if continues and not (_LEVEL.match(line) or _NINJA.match(line) or _STEP.search(line)):
            yield None
            continue
        continues = False
        progress = compiles(line) and not line.startswith(("FAILED", "***"))
        command = _COMMAND.search(line) is not None and _DIAGNOSTIC.match(line) is None
        quoted = progress or command or _NINJA.match(line) is not None
        yield None if quoted else line


def _since_last_step(
    lines: Sequence[str], may_decide: Sequence[str | None], *, after_compiling: bool
) -> list[str]:
    """Return what may decide behind the last step that went well and has an error behind it."""
    since: list[str] = []
    failed = False
    for line, deciding in zip(reversed(lines), reversed(may_decide), strict=True):
        step = _STEP.search(line) is not None or (after_compiling and _COMPILES.match(line))
        if step and failed and not line.startswith(("FAILED", "***")):
            break
        if deciding is not None:
            since.append(_LEVEL.sub("", deciding))
            failed = failed or _explains(deciding)
    return since[::-1]
