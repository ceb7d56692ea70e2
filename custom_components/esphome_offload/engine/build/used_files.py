"""UsedFiles: the files that a validated configuration names, where a build uses no other ones.

A folder, Python of somebody, or a header that includes whatever it likes may have any file used:
of such a configuration it is not known, and in doubt it is not.
"""

from collections.abc import Iterator
import json
from pathlib import Path
import re
from typing import Final

_LAMBDA: Final = "__esphome_lambda__"
"""ESPHome's key for the body of a lambda."""
_LONGEST_NAME: Final = 1024
_MOST_BYTES: Final = 1024 * 1024
"""Of a file that may name other ones."""
_DOUBTFUL: Final = ("build_flags", "environment_variables")
"""Options of ``esphome:`` that can have any file used."""
_OPTIONS: Final = re.compile(
    r"board_build\.(flash_mode|f_cpu|f_flash|f_boot|mcu|flash_size|psram_type)"
    r"|board_upload\.(flash_size|maximum_size|maximum_ram_size)|(upload|monitor)_(speed|port)"
)
"""The ``platformio_options`` that can name no file."""
_VALUE: Final = re.compile(r"[\w. -]*")
_LIBRARY: Final = re.compile(r"\w[\w .+-]*(/\w[\w .+-]*)?(\s*@\s*[\w .,<>=~^+-]+)?")
"""A name in a registry, with a version."""
_REMOTE: Final = re.compile(r":/|\.git\b|\bgit@|^file:|=file:", re.IGNORECASE)
_FRAMEWORK: Final = re.compile(
    r"([\w./-]+@)?https://github\.com/"
    r"((pioarduino|espressif|earlephilhower)/[\w.-]+/releases/download/[\w./-]+"
    r"|(maxgerhardt/platform-raspberrypi|libretiny-eu/libretiny)\.git#v?\d+(\.\d+)+[\w.-]*)"
)
"""What ESPHome itself fills in: releases, which stay what they are."""
_SOURCES: Final = frozenset(
    {".h", ".hh", ".hpp", ".hxx", ".h++", ".c", ".cc", ".cpp", ".cxx", ".c++", ".ino", ".inc"}
    | {".ipp", ".tpp", ".tcc", ".s", ".ld", ".py"}
)
_INCLUDES: Final = re.compile(r"(?:#|%:|\?\?=)[\s\\]*(?:include|import|embed)[^\n]*|incbin")
_BESIDE: Final = re.compile(
    r"""(?:\#|%:)\s*include\s*(?:"(?P<quoted>[\w.+/-]+)"|<(?P<angled>[\w.+/-]+)>)\s*(//.*)?"""
)
_LINK: Final = re.compile(r"""href\s*=\s*["'](?!\#|data:)|<!ENTITY|@import|url\(""", re.IGNORECASE)


def used_files(config: dict[str, object], config_dir: Path) -> list[Path] | None:
    """Return the files that are named; None when a build may use other ones. Blocks.

    Raises OSError.
    """
    if _is_doubtful(config):
        return None
    found: dict[Path, None] = {}
    waiting = [config_dir / text for text in _texts(config) if _may_be_path(text)]
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists():
            continue
        if not path.is_file() or not str(path).isprintable():
            return None
        found[path] = None
        named = _named_in(path)
        if named is None:
            return None
        waiting.extend(named)
    return list(found)


def _is_doubtful(config: dict[str, object]) -> bool:
    """Return whether a build may use what is not known here."""
    block = config.get("esphome")
    if not isinstance(block, dict) or any(block.get(option) for option in _DOUBTFUL):
        return True
    options = block.get("platformio_options") or {}
    if not isinstance(options, dict) or not all(
        _OPTIONS.fullmatch(str(name)) and _VALUE.fullmatch(str(value))
        for name, value in options.items()
    ):
        return True
    libraries = block.get("libraries") or []
    if not isinstance(libraries, list) or not all(
        isinstance(each, str) and _LIBRARY.fullmatch(each) for each in libraries
    ):
        return True
    # Their Python may read any file.
    if config.get("external_components"):
        return True
    if any("include" in body or "incbin" in body or "embed" in body for body in _lambdas(config)):
        return True
    return any(_is_doubtful_framework(each.get("framework")) for each in _sections(config)) or any(
        "file:/" in text.lower() for text in _texts(config)
    )


def _is_doubtful_framework(framework: object) -> bool:
    if not isinstance(framework, dict):
        return False
    given = (framework.get("source"), framework.get("platform_version"))
    return bool(framework.get("components")) or any(
        _REMOTE.search(str(each)) and not _FRAMEWORK.fullmatch(str(each)) for each in given
    )


def _sections(value: object) -> Iterator[dict[str, object]]:
    """Yield all maps of a configuration, but for the bodies of lambdas."""
    if isinstance(value, dict):
        if _LAMBDA not in value:
            yield value
            for each in value.values():
                yield from _sections(each)
    elif isinstance(value, list):
        for each in value:
            yield from _sections(each)


def _lambdas(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if _LAMBDA in value:
            yield json.dumps(value)
        for each in value.values():
            yield from _lambdas(each)
    elif isinstance(value, list):
        for each in value:
            yield from _lambdas(each)


def _texts(value: object) -> Iterator[str]:
    """Yield all texts, but for the bodies of lambdas."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        if _LAMBDA not in value:
            for each in value.values():
                yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _may_be_path(text: str) -> bool:
    # A separator of something, mostly; as a path it would be all that there is.
    return 0 < len(text) < _LONGEST_NAME and "\0" not in text and text not in (".", "/")


def _named_in(path: Path) -> list[Path] | None:
    """Return what a file may name that is not simply beside it; None when that is not known."""
    kind = path.suffix.lower()
    if kind not in (*_SOURCES, ".json", ".svg", ".html", ".css"):
        return []
    if path.stat().st_size > _MOST_BYTES:
        return None
    content = path.read_bytes().decode(errors="replace")
    if kind == ".json":
        try:
            texts = [text for text in _texts(json.loads(content)) if _may_be_path(text)]
        except ValueError, RecursionError:
            return None
        return [path.parent / text for text in texts]
    if kind == ".svg":
        return None if _LINK.search(content) else []
    if kind in _SOURCES and not _includes_what_is_copied(content):
        return None
    return []


def _includes_what_is_copied(content: str) -> bool:
    """Return whether a source includes only what is in the build's own folders."""
    for directive in _INCLUDES.finditer(content):
        include = _BESIDE.fullmatch(directive[0].strip())
        if include is None:
            return False
        name = include["quoted"] or include["angled"]
        if name.startswith("/") or ".." in name.split("/"):
            return False
    return True
