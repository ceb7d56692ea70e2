"""The sentences of tools that may be shown, here those about configurations and code.

A pattern is searched anywhere in a line of at most 1,000 characters. What is shown has no more of
the line than what the groups let through. Where a group is a name (of an option, a library, a
package), it is shown for what was judged on this machine only: a name that another machine sends
could be anything (``anywhere`` is shown then).
"""

from dataclasses import dataclass
import re
from typing import Final

from .reason_key import ReasonKey

_NAME: Final = r"[a-z][a-z0-9_]{0,40}"
_OPTION: Final = rf"\[({_NAME})((?:\.{_NAME})?)\]"
_REGION: Final = r"[`'\u2018]?([A-Za-z0-9_]{1,40})['\u2019]?"
_SECTION: Final = r"[`'\u2018]?(\.?[a-z0-9_.]{1,40})['\u2019]?"
_HEX: Final = r"0x[0-9a-fA-F]{1,8}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A pattern, what is shown of it here, and what of it may come from anywhere."""

    pattern: re.Pattern[str]
    here: str
    anywhere: str

    def shown(self, line: str, *, here: bool) -> str | None:
        """Return what is shown of a line, None when it is another sentence."""
        if (found := self.pattern.search(line)) is None:
            return None
        return (self.here if here else self.anywhere).format(*found.groups(default=""))


def fixed(pattern: str, shown: str | None = None) -> Sentence:
    """Return a sentence whose groups, if any, are numbers or words of a tool's own.

    Without ``shown`` it is shown as it is.
    """
    words = shown or re.sub(r"\\|\[.(.)\]", r"\1", pattern.removeprefix("^"))
    return Sentence(re.compile(pattern), words, words)


def named(pattern: str, here: str, anywhere: str) -> Sentence:
    """Return a sentence whose groups are names."""
    return Sentence(re.compile(pattern), here, anywhere)


OVERFLOWS: Final = (
    fixed(
        rf"region {_REGION} overflowed by (\d{{1,9}}) bytes", "region {0} overflowed by {1} bytes"
    ),
    fixed(
        rf"address {_HEX} of .{{0,300}}? section {_SECTION} is not within region {_REGION}",
        "section {0} is not within region {1}",
    ),
    fixed(
        rf"section {_SECTION} is not within region {_REGION}",
        "section {0} is not within region {1}",
    ),
    fixed(
        rf"section {_SECTION} will not fit in region {_REGION}",
        "section {0} will not fit in region {1}",
    ),
    fixed(rf"will not fit in region {_REGION}", "will not fit in region {0}"),
    fixed(r"\b([DI]RAM\d?|IROM|Flash) segment data does not fit", "{0} segment data does not fit"),
    fixed(
        rf"section {_SECTION} (?:(?:LMA|VMA) .{{0,80}}? )?overlaps section {_SECTION}",
        "section {0} overlaps section {1}",
    ),
)
"""What linkers say when memory or flash of the device is too small; the first says by how much."""

LINKER: Final = (
    fixed(r"undefined reference to ", "undefined reference to a symbol"),
    fixed(r"multiple definition of ", "multiple definition of a symbol"),
    fixed(r"undefined symbol: ", "undefined reference to a symbol"),
    named(
        r"cannot find (?:-l|the library )(?!c\b|m\b|gcc|stdc\+\+|supc)([A-Za-z0-9_+.-]{1,40})",
        "cannot find the library {0}",
        "cannot find the library",
    ),
)
"""What else linkers say."""

SIZE: Final = (
    fixed(
        rf"app partitions? (?:is|are) too small for binary .{{0,100}}?size ({_HEX})",
        "app partition is too small for binary size {0}",
    ),
    fixed(r"app partitions? (?:is|are) too small", "app partition is too small"),
    fixed(
        rf"[Bb]ootloader binary size ({_HEX}) bytes is too large",
        "bootloader binary size {0} bytes is too large",
    ),
    fixed(
        r"program size \(?(\d{1,9})(?: bytes)?\)? is greater than maximum allowed \(?(\d{1,9})(?: bytes)?\)?",
        "program size ({0} bytes) is greater than maximum allowed ({1} bytes)",
    ),
    fixed(
        r"data size \(?(\d{1,9})(?: bytes)?\)? is greater than maximum allowed \(?(\d{1,9})(?: bytes)?\)?",
        "data size ({0} bytes) is greater than maximum allowed ({1} bytes)",
    ),
    fixed(r"\b(text|data|rodata|bss|irom0|iram) segment is too large", "{0} segment is too large"),
    fixed(r"does not fit in configured flash size"),
    fixed(r"(exceeds (?:the )?(?:available|maximum|partition|flash) (?:space|size))", "size {0}"),
    fixed(r"[Ss]ketch too big", "sketch too big"),
    fixed(
        r"(?:[Ii]mage|[Ff]irmware|[Bb]inary) (?:size )?.{0,100}?(?:is )?too (?:large|big)",
        "image is too large",
    ),
    fixed(r"[Nn]ot enough (?:flash|space) ", "not enough flash"),
)
"""What tools say of firmware that the device has no room for."""

PROJECT: Final = (
    named(
        r"Failed to resolve component '([A-Za-z][A-Za-z0-9_.-]{0,60})'",
        "Failed to resolve component '{0}'",
        "Failed to resolve a component",
    ),
    fixed(r"Failed to resolve a component"),
    fixed(r"Aborting due to Kconfig warnings"),
    named(
        r"undefined symbol ([A-Z][A-Z0-9_]{1,60})",
        "Kconfig: undefined symbol {0}",
        "Kconfig: undefined symbol",
    ),
    fixed(r"\bKconfig\b|\bkconfig\.py", "Kconfig does not accept the settings"),
    fixed(r"devicetree error|Failed to parse devicetree|edtlib|EDTError|dtlib", "devicetree error"),
    named(r"No board named ['\"]?([a-z][a-z0-9_/@-]{0,60})", "No board named {0}", "No such board"),
    fixed(r"Unknown board ID|UnknownBoard|Invalid BOARD", "Unknown board ID"),
    named(
        r"Unknown CMake command \"([A-Za-z_]\w{0,60})\"",
        'Unknown CMake command "{0}"',
        "Unknown CMake command",
    ),
    fixed(r"include could not find"),
    fixed(r"does not contain a CMakeLists\.txt file"),
    fixed(r"Cannot find source file"),
    fixed(
        r"[Vv]ersion solving failed|Cannot find a satisfying version|no versions of",
        "Version solving failed: the component registry has no such version",
    ),
    fixed(
        r"not supported by (?:the native toolchain|'toolchain: arduino')",
        "not supported by the native toolchain",
    ),
    fixed(r"This board doesn't support", "This board doesn't support the framework"),
    fixed(
        r"drop the raw build flags|conflict with .{1,60}; ",
        "Build flags of the configuration conflict",
    ),
    fixed(
        r"is not routed to the link line|must be a hex literal|requires MMU_IRAM_SIZE",
        "A build flag of the configuration is not valid",
    ),
    fixed(
        r"has no build of Arduino core|Arduino core [\w.]{1,20} is not supported",
        "This version of the Arduino core is not supported",
    ),
    fixed(r"Two libraries resolve to the same", "Two libraries resolve to the same module"),
    fixed(
        r"No version of .{1,120} satisfies all requirements|Invalid PIO library|Unsupported library platforms",
        "A library of the configuration cannot be used",
    ),
    fixed(r"a project the manifest does not have", "A project is not in the west manifest"),
    fixed(
        r"(?:InputError|ValidationError): (?:Partition|Error at line)|partition table .{0,80}(?:not valid|invalid)",
        "The partition table is not valid",
    ),
    fixed(r"[Mm]alformed build flag", "Malformed build flag"),
    fixed(r"Invalid board"),
    fixed(r"Local library directory does not exist"),
)
"""What build systems say of settings that no machine can build."""

CONFIGURATION: Final = (
    named(
        rf"\[({_NAME})\] is an invalid option for {_OPTION}[.;] [Dd]id you mean \[({_NAME})\]",
        "[{0}] is an invalid option for [{1}{2}]; did you mean [{3}]?",
        "Invalid option for [{1}]; did you mean [{3}]?",
    ),
    named(
        rf"\[({_NAME})\] is an invalid option for {_OPTION}",
        "[{0}] is an invalid option for [{1}{2}]",
        "Invalid option for [{1}]",
    ),
    named(
        rf"[Ii]nvalid option for {_OPTION}[.;] [Dd]id you mean \[({_NAME})\]",
        "Invalid option for [{0}{1}]; did you mean [{2}]?",
        "Invalid option for [{0}]; did you mean [{2}]?",
    ),
    named(
        rf"[Ii]nvalid option for {_OPTION}",
        "Invalid option for [{0}{1}]",
        "Invalid option for [{0}]",
    ),
    named(
        rf"'({_NAME})' is a required option for {_OPTION}",
        "'{0}' is a required option for [{1}{2}]",
        "'{0}' is a required option for [{1}]",
    ),
    fixed(r"^Platform not found"),
    fixed(r"^Component not found"),
    named(
        rf"^Component ({_NAME}) requires (?:component )?({_NAME})",
        "Component {0} requires component {1}",
        "A component requires another component",
    ),
    fixed(r"^A component requires another component"),
    fixed(r"Invalid YAML syntax"),
    fixed(r"Secret .{0,100}not defined", ReasonKey.LINE_SECRET_UNDEFINED.text),
    fixed(r"^Couldn't find ID", ReasonKey.LINE_ID_UNDEFINED.text),
    fixed(r"^ID .{0,100}redefined", ReasonKey.LINE_ID_TWICE.text),
    fixed(r"^[Dd]uplicate key", ReasonKey.LINE_KEY_TWICE.text),
    fixed(
        r"^Unable to find (action|condition|effect|filter|trigger) with (?:the|this) name",
        "Unable to find {0} with the name that is used",
    ),
    fixed(
        r"^Pin .{1,60} is used in multiple places|^A pin is used in",
        ReasonKey.LINE_PIN_TWICE.text,
    ),
    fixed(r"^(Invalid pin number|Cannot resolve pin name)", "{0}"),
    fixed(
        r"^This (?:feature|component|variable|option) (?:is )?only",
        "This is not supported on this platform",
    ),
)
"""What ESPHome says of a configuration."""
