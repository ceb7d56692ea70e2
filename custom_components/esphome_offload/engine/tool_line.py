"""The lines of tools that may be shown to people: known sentences, without what they quote.

A line of a compiler or of ESPHome may hold any value of a configuration: in quotes, as the text of
an #error, as a name. To compare it with all values would need ESPHome's view of the configuration
(substitutions, packages, expressions). So nothing of a line is copied but what one of the sentences
that are the tools' own lets through: numbers, names of ESPHome's schema and of regions of memory.
What is no such sentence is for the job's log alone.
"""

from collections.abc import Iterable
from pathlib import Path
import re
from typing import Final

from .machine_sentences import CRASH, DEVICE, DISK, DOWNLOAD, MEMORY, NETWORK, SETUP, TOOLS
from .tool_sentences import CONFIGURATION, LINKER, OVERFLOWS, PROJECT, SIZE, Sentence

_LONGEST: Final = 1000
_SOURCE_FILE: Final = re.compile(
    r"(?:\.\./){0,3}(?:[\w@+-][\w@+. -]{0,60}/){0,8}[\w@+-][\w@+. -]{0,60}\.(?:ya?ml|h|hpp|c|cc|cpp|tcc|S)"
)
_IN_TREE: Final = re.compile(
    r"^(?:\.{0,2}/).{0,800}?(?:^|/)(?:\.piolibdeps/[^/]{1,60}/|(?=(?:src|managed_components|pio_components)/))(.{1,300})$"
)
_QUOTED: Final = r"['`\u2018\"][^'`\u2019\"]{0,200}['\u2019\"]"

# Sentences of the compilers, behind "error: ". "…" stands for what is quoted.
_COMPILER: Final = frozenset(
    {
        "… was not declared in this scope",
        "… was not declared in this scope; did you mean …?",
        "… does not name a type",
        "… has not been declared",
        "… has no member named …",
        "… has no member named …; did you mean …?",
        "… is not a member of …",
        "… is not a class or namespace",
        "… is not captured",
        "… is private within this context",
        "… is protected within this context",
        "… undeclared (first use in this function)",
        "… cannot be used as a function",
        "… redeclared as different kind of entity",
        "assignment of read-only variable …",
        "call of overloaded … is ambiguous",
        "cannot bind non-const lvalue reference of type … to an rvalue of type …",
        "cannot convert … to …",
        "cannot convert … to … in assignment",
        "cannot convert … to … in initialization",
        "cannot convert … to … in return",
        "conflicting declaration …",
        "could not convert … from … to …",
        "expected … at end of input",
        "expected … before … token",
        "expected … before numeric constant",
        "expected … before string constant",
        "expected … or … before … token",
        "expected declaration before … token",
        "expected expression before … token",
        "expected identifier before … token",
        "expected initializer before … token",
        "expected primary-expression before … token",
        "expected unqualified-id before … token",
        "expected unqualified-id before numeric constant",
        "expected type-specifier before … token",
        "invalid conversion from … to …",
        "invalid operands of types … and … to binary …",
        "invalid use of incomplete type …",
        "invalid use of void expression",
        "lvalue required as left operand of assignment",
        "no match for … (operand types are … and …)",
        "no match for call to …",
        "no matching function for call to …",
        "redefinition of …",
        "return-statement with a value, in function returning …",
        "return-statement with no value, in function returning …",
        "static assertion failed",
        "stray … in program",
        "too few arguments to function …",
        "too many arguments to function …",
        "unable to find numeric literal operator …",
        "use of deleted function …",
        "variable … was declared but never used",
    }
)
_DIAGNOSTIC: Final = re.compile(r"^[^\s:][^:]{0,400}:\d{1,9}(?::\d{1,9})?: (?:fatal )?error: (.*)$")
_MISSING_HEADER: Final = re.compile(r"[^\s:]{1,200}: No such file or directory")

_SENTENCES: Final = (
    *DISK,
    *OVERFLOWS,
    *LINKER,
    *SIZE,
    *CONFIGURATION,
    *PROJECT,
    *MEMORY,
    *CRASH,
    *TOOLS,
    *NETWORK,
    *DOWNLOAD,
    *SETUP,
    *DEVICE,
)


def safe_line(line: str) -> str | None:
    """Return what may be shown of a line that anybody wrote; None when no sentence in it is known."""
    return _shown(line, _SENTENCES, here=False)


def shown_line(line: str, first: Iterable[Sentence] = ()) -> str | None:
    """Return the same of a line that a tool wrote on this machine, with the names in it.

    The sentences in ``first`` are looked for before all others.
    """
    return _shown(line, (*first, *_SENTENCES), here=True)


def clip(line: str) -> str:
    """Return a line with at most 1,000 characters: the beginning and the end of a longer one."""
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 + 3 :]}"


def _shown(line: str, sentences: Iterable[Sentence], *, here: bool) -> str | None:
    line = clip(line).strip()
    if (found := _DIAGNOSTIC.match(line)) is not None:
        return _compiler_sentence(found[1])
    if line in _OUR_OWN:
        return line
    shown = (sentence.shown(line, here=here) for sentence in sentences)
    return next((text for text in shown if text is not None), None)


def shown_path(path: str, folder: Path) -> str | None:
    """Return the name of a source file as it may be shown, relative to ``folder``; blocks.

    One in a build tree is named from its sources or libraries on. None for one elsewhere, whose
    path would tell about the machine.
    """
    for root in (folder, folder.resolve()):
        if path.startswith(f"{root}/"):
            path = path.removeprefix(f"{root}/")
    if (found := _IN_TREE.search(path)) is not None:
        path = found[1]
    return path if is_source_file(path) else None


def is_source_file(path: str) -> bool:
    """Return whether a text has the form of a relative path to a source file."""
    return _SOURCE_FILE.fullmatch(path) is not None


def _compiler_sentence(message: str) -> str | None:
    if message.startswith("static assertion failed"):
        return "error: static assertion failed"
    if _MISSING_HEADER.match(message):
        return "error: No such file or directory"
    sentence = re.sub(_QUOTED, "…", message)
    # A type that is an alias of another is quoted twice.
    sentence = re.sub(r"… \{aka …\}", "…", sentence).split(" [-W")[0]
    return f"error: {sentence}" if sentence in _COMPILER else None


# What is shown comes back from a peer as it was shown there.
_OUR_OWN: Final = frozenset(
    {f"error: {sentence}" for sentence in _COMPILER}
    | {"error: No such file or directory"}
    | {sentence.anywhere for sentence in _SENTENCES if "{" not in sentence.anywhere}
)
