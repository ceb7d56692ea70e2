"""YamlReader: reads single YAML files, each once, without resolving what they include.

The content of a file is plain objects, with markers for ESPHome's tags. It is never changed
afterwards, so that an alias stays one shared object.
"""

import os
import stat
from typing import Final

import yaml

from .yaml_loader import Document, YamlLoader
from .yaml_nodes import SourceError

# Real configurations have a few dozen KiB.
MAX_FILE_SIZE: Final = 1024 * 1024
MAX_INCLUDE_DEPTH: Final = 20

type Signature = tuple[int, int, int, int]


class YamlReader:
    """Reads each file once; used for one scan."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._signatures: dict[str, Signature | None] = {}
        self._reading: list[str] = []

    def signature(self, path: str) -> Signature | None:
        """Return a value that changes with the file; None when there is no such file.

        The time of the last status change is part of it, because permissions matter.
        """
        if path not in self._signatures:
            try:
                self._signatures[path] = _signature(os.stat(path))  # noqa: PTH116 hot path
            except OSError, ValueError:
                self._signatures[path] = None
        return self._signatures[path]

    def document(self, path: str) -> Document:
        """Return the content of a file; never raises."""
        if (known := self._documents.get(path)) is not None:
            return known
        document = Document(path, touched={path})
        if path in self._reading or len(self._reading) > MAX_INCLUDE_DEPTH:
            document.error = SourceError(path, "it includes itself")
            return document
        self._reading.append(path)
        try:
            document.root = self._parse(document)
        except FileNotFoundError, NotADirectoryError:
            document.missing = True
            document.error = SourceError(path, "there is no such file")
        except SourceError as error:
            document.error = error
        finally:
            self._reading.pop()
        self._documents[path] = document
        return document

    def text(self, path: str) -> str:
        """Return a file's text; raises SourceError, or FileNotFoundError when it is not there."""
        try:
            content = self.content(path)
        except FileNotFoundError, NotADirectoryError:
            raise
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise SourceError(path, f"it cannot be read: {reason or error}") from error
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise SourceError(
                path, f"line {line}: it is not UTF-8 text; save it with that encoding"
            ) from error

    def content(self, path: str) -> bytes:
        """Return a regular file's bytes, at most MAX_FILE_SIZE; raises OSError or SourceError."""
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 a descriptor has no path
            status = os.fstat(descriptor)
            self._signatures[path] = _signature(status)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(path, "it is not a regular file")
            content = file.read(MAX_FILE_SIZE + 1)
        if len(content) > MAX_FILE_SIZE:
            raise SourceError(path, "it is larger than 1 MiB")
        return content

    def _parse(self, document: Document) -> object:
        path = document.path
        loader = YamlLoader(self.text(path), document, self)
        try:
            documents: list[object] = []
            while loader.check_data():  # type: ignore[no-untyped-call]
                documents.append(loader.get_data())
        except yaml.YAMLError as error:
            raise SourceError(path, _describe(error)) from error
        except RecursionError as error:
            raise SourceError(path, "its values are nested too deeply") from error
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            # PyYAML raises these where a value does not fit its explicit tag. Their texts quote the
            # value, which can be a password.
            raise SourceError(path, "a value in it does not fit its tag") from error
        finally:
            loader.dispose()
        if len(documents) > 2:
            raise SourceError(
                path, f"it holds {len(documents)} YAML documents, at most two are allowed"
            )
        # Of two documents, the first is front matter that ESPHome ignores.
        root = documents[-1] if documents else {}
        return {} if root is None else root


def _signature(status: os.stat_result) -> Signature:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it is not valid YAML"
        return f"line {mark.line + 1}: {problem}" if mark else problem
    return f"it is not valid YAML: {str(error).partition('\n')[0]}"
