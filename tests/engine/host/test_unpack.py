"""Bundles from guests: nothing in them is trusted."""

from collections.abc import Callable
import gzip
import io
from pathlib import Path
import tarfile
import threading
import time
import tracemalloc

import pytest

from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.host import unpack as module
from custom_components.esphome_offload.engine.host.unpack import UnpackStopped, unpack

from .builder import make_bundle


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            member.size = member.size or len(content)
            archive.addfile(member, io.BytesIO(content) if content else None)
    return path


def of_type(kind: bytes, name: str = "lamp.yaml", link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


def refusal(bundle: Path, tmp_path: Path) -> str:
    with pytest.raises(BuildError) as error:
        unpack(bundle, tmp_path / "out", threading.Event())
    assert error.value.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    assert not (tmp_path / "out").exists()
    return str(error.value)


def test_unpacked_files_get_plain_modes_and_the_present_time(
    tmp_path: Path,
) -> None:
    folder = of_type(tarfile.DIRTYPE, "empty/")
    program = tarfile.TarInfo("components/x/__init__.py")
    program.mode = 0o4777
    long = tarfile.TarInfo("/".join(["d" * 60] * 4) + "/ä.h")
    bundle = pack(tmp_path / "b.tar.gz", (folder, b""), (program, b"print()"), (long, b"int"))
    before = time.time() - 5
    unpack(bundle, tmp_path / "out", threading.Event())
    out = tmp_path / "out"
    assert (out / "empty").is_dir()
    assert (out / long.name).read_bytes() == b"int"
    unpacked = out / program.name
    assert unpacked.read_bytes() == b"print()"
    # For the user that the guest's builds run as, and to execute nothing.
    assert unpacked.stat().st_mode & 0o7755 == 0o644
    assert unpacked.parent.stat().st_mode & 0o7755 == 0o755
    assert unpacked.stat().st_mtime > before


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../lamp.yaml",
        "a/../../lamp.yaml",
        "a/..",
        "..",
        ".",
        "./lamp.yaml",
        "a//b",
        "a\\..\\b",
        "a\nb",
        "a\x7fb",
        "n" * 300,
        "/".join("d" * 40),
        "x" * 200 + "/" + "/".join(["y" * 200] * 6),
    ],
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    bundle = pack(tmp_path / "b.tar.gz", (tarfile.TarInfo(name), b"x"))
    assert "not an allowed path" in refusal(bundle, tmp_path)


@pytest.mark.parametrize(
    "member",
    [
        of_type(tarfile.SYMTYPE, link="/etc/passwd"),
        of_type(tarfile.SYMTYPE, link="other.yaml"),
        of_type(tarfile.LNKTYPE, link="other.yaml"),
        of_type(tarfile.CHRTYPE),
        of_type(tarfile.BLKTYPE),
        of_type(tarfile.FIFOTYPE),
        of_type(b"Z"),
    ],
    ids=["link out", "link", "hard link", "character device", "block device", "pipe", "unknown"],
)
def test_members_other_than_files_and_folders_are_refused(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    other = (tarfile.TarInfo("other.yaml"), b"x")
    bundle = pack(tmp_path / "b.tar.gz", other, (member, b""))
    assert "neither a file nor a folder" in refusal(bundle, tmp_path)


def test_a_file_is_not_written_through_an_earlier_member(tmp_path: Path) -> None:
    twice = (tarfile.TarInfo("lamp.yaml"), b"1"), (tarfile.TarInfo("lamp.yaml"), b"2")
    assert "twice" in refusal(pack(tmp_path / "b.tar.gz", *twice), tmp_path)


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    members = (tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a/b"), b"2")
    bundle = pack(tmp_path / "b.tar.gz", *members)
    with pytest.raises((BuildError, OSError)):
        unpack(bundle, tmp_path / "out", threading.Event())
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_is_too_large_unpacked_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNPACKED_LIMIT", 100)
    files = {"a": b"x" * 60, "b": b"x" * 60}
    assert "larger than" in refusal(make_bundle(tmp_path / "b.tar.gz", files), tmp_path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMBERS_LIMIT", 3)
    files = {str(number): b"" for number in range(4)}
    assert "too many files" in refusal(make_bundle(tmp_path / "b.tar.gz", files), tmp_path)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    header = of_type(tarfile.XHDTYPE, "././@PaxHeader")
    header.size = size
    bundle = tmp_path / "b.tar.gz"
    with gzip.open(bundle, "wb") as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(64):
            file.write(bytes(1024 * 1024))
    tracemalloc.start()
    try:
        assert "header is too long" in refusal(bundle, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


def test_headers_of_headers_without_end_are_refused(tmp_path: Path) -> None:
    header = of_type(tarfile.GNUTYPE_LONGNAME, "././@LongLink")
    header.size = 1
    bundle = tmp_path / "b.tar.gz"
    with gzip.open(bundle, "wb") as file:
        file.write((header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 5000)
    assert "damaged" in refusal(bundle, tmp_path)


def test_a_header_about_all_files_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.gz"
    with tarfile.open(bundle, "w:gz", pax_headers={"comment": "remembered"}) as archive:
        archive.addfile(tarfile.TarInfo("lamp.yaml"))
    assert "about all files" in refusal(bundle, tmp_path)


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.size": "1", "GNU.sparse.numblocks": "0"},
        {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"},
    ],
    ids=["0.0", "0.1", "1.0"],
)
def test_a_file_with_holes_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    sparse = tarfile.TarInfo("lamp.yaml")
    sparse.pax_headers = headers
    bundle = pack(tmp_path / "b.tar.gz", (sparse, b"1\n0\n1\n".ljust(512, b"\0")))
    assert "a file has holes" in refusal(bundle, tmp_path)


def test_a_file_with_holes_of_the_old_format_is_refused(tmp_path: Path) -> None:
    bundle = pack(tmp_path / "b.tar.gz", (of_type(tarfile.GNUTYPE_SPARSE), b""))
    assert "a file has holes" in refusal(bundle, tmp_path)


def test_a_list_of_holes_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    holes = 500_000
    sparse = tarfile.TarInfo("lamp.yaml")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    bundle = pack(tmp_path / "b.tar.gz", (sparse, b"%d\n" % holes + b"0\n" * 2 * holes))
    tracemalloc.start()
    try:
        assert "a file has holes" in refusal(bundle, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < holes
    finally:
        tracemalloc.stop()


def _cut(bundle: Path) -> None:
    content = gzip.decompress(bundle.read_bytes())
    bundle.write_bytes(gzip.compress(content[: 512 + 100]))


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda bundle: bundle.write_bytes(bundle.read_bytes()[:-30]),
        lambda bundle: bundle.write_bytes(b"not an archive"),
        lambda bundle: bundle.write_bytes(b""),
        lambda bundle: bundle.write_bytes(gzip.compress(b"not an archive" * 100)),
    ],
    ids=["cut", "cut gzip", "no gzip", "nothing", "no archive"],
)
def test_a_damaged_bundle_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    bundle = make_bundle(tmp_path / "b.tar.gz", {"lamp.yaml": b"x" * 2000})
    damage(bundle)
    assert refusal(bundle, tmp_path)


def test_unpacking_stops_when_it_is_cancelled(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b.tar.gz", {"lamp.yaml": b"x"})
    stop = threading.Event()
    stop.set()
    with pytest.raises(UnpackStopped):
        unpack(bundle, tmp_path / "out", stop)
    assert not (tmp_path / "out").exists()
