"""Bundles of guests, unpacked with every path checked: nothing of them is trusted."""

from collections.abc import Iterator
import gzip
import os
from pathlib import Path
import re
import shutil
import tarfile
import threading
from typing import Final, NoReturn
import zlib

from ..build.bundle import MANIFEST
from ..build.model import BuildError
from ..const import MIB, FailureReason
from ..reason import Reason, ReasonKey

UNPACKED_LIMIT: Final = 500 * MIB
"""What ESPHome itself allows a bundle to grow to."""
MEMBERS_LIMIT: Final = 20_000
_DEPTH_LIMIT: Final = 32
_PATH_LIMIT: Final = 1024
_NAME_LIMIT: Final = 255
# Long names and their like are read whole into memory before anything can be said about them.
_EXTENSION_LIMIT: Final = 64 * 1024
_EXTENSIONS: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# Headers that belong to a header that belongs to a header … end in RecursionError.
_DAMAGED: Final = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    UnicodeError,
    RecursionError,
)
_CHUNK: Final = 256 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")


class UnpackStopped(Exception):  # noqa: N818 - nothing went wrong
    """The caller did not want it any more."""


class _Member(tarfile.TarInfo):
    """A member whose header cannot fill the memory."""

    # The hook that tarfile names for subclasses; typeshed does not know it.
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS and self.size > _EXTENSION_LIMIT:
            raise _refused("a header is too long")
        if self.type == tarfile.XGLTYPE:
            # Each adds to what is remembered for all members after it.
            raise _refused("a header is about all files")
        if self.type == tarfile.GNUTYPE_SPARSE:
            _refuse_holes()
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]

    # The list of a file's holes is read into memory, and may be as long as the file. There are
    # three ways to write it.
    def _proc_gnusparse_00(self, *_: object) -> None:
        _refuse_holes()

    def _proc_gnusparse_01(self, *_: object) -> None:
        _refuse_holes()

    def _proc_gnusparse_10(self, *_: object) -> None:
        _refuse_holes()


def unpack(bundle: Path, folder: Path, stop: threading.Event) -> str:
    """Unpack a bundle (.tar.gz) into ``folder``, which must not be there yet. Blocking.

    Returns where in it the configuration's folder is: where the manifest is, ESPHome's first file.
    It is a folder below when the bundle also has files from outside of that; "" when it is the
    folder itself.

    Files get the present time, not the bundle's (which is 1970 for each): ESPHome compares the
    time of a configuration with that of what it made of an earlier one. Raises BuildError
    (bundle_incomplete) for a bundle that is not as it should be, OSError, and UnpackStopped once
    ``stop`` is set; ``folder`` is then gone.
    """
    # For the user that the guest's builds run as; the guest's folder is closed to all others.
    folder.mkdir(parents=True)
    try:
        # A stream does not remember its members: there may be many before one is refused.
        with (
            gzip.open(bundle) as plain,
            tarfile.TarFile(fileobj=plain, tarinfo=_Member, stream=True) as archive,
        ):
            return _Unpacking(folder, stop).take_all(archive)
    except _DAMAGED as err:
        shutil.rmtree(folder, ignore_errors=True)
        raise _refused(f"it is damaged ({err})") from err
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Unpacking:
    """The unpacking of one bundle."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self._folder = folder
        self._stop = stop
        self._left = UNPACKED_LIMIT

    def take_all(self, archive: tarfile.TarFile) -> str:
        inside = ""
        for number, member in enumerate(_members(archive)):
            if number >= MEMBERS_LIMIT:
                raise _refused("it holds too many files")
            parts = _parts(member.name)
            if number == 0 and parts[-1] == MANIFEST:
                inside = "/".join(parts[:-1])
            path = self._folder.joinpath(*parts)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                # As a second opinion; it raises for whatever it does not like.
                tarfile.data_filter(member, str(self._folder))
                self._take(archive, member, path)
            else:
                raise _refused(f"{member.name!r} is neither a file nor a folder")
        return inside

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        self._left -= member.size
        if self._left < 0:
            raise _refused(f"it is larger than {UNPACKED_LIMIT // MIB} MiB when unpacked")
        source = archive.extractfile(member)
        assert source is not None  # noqa: S101 - it is a file
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileExistsError as err:
            raise _refused(f"{member.name!r} is in it twice") from err
        with os.fdopen(descriptor, "wb") as target, source:
            while chunk := source.read(_CHUNK):
                if self._stop.is_set():
                    raise UnpackStopped
                target.write(chunk)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member


def _parts(name: str) -> list[str]:
    """Return the parts of a relative path that stays where it is put; raises BuildError."""
    parts = name.removesuffix("/").split("/")
    if (
        len(name) > _PATH_LIMIT
        or len(parts) > _DEPTH_LIMIT
        or _CONTROL.search(name)
        or any(part in {"", ".", ".."} for part in parts)
        or any(len(part.encode()) > _NAME_LIMIT for part in parts)
    ):
        raise _refused(f"{name[:200]!r} is not an allowed path")
    return parts


def _refuse_holes() -> NoReturn:
    raise _refused("a file has holes")


def _refused(why: str) -> BuildError:
    return BuildError(FailureReason.BUNDLE_INCOMPLETE, Reason(ReasonKey.BUNDLE_REFUSED, line=why))
