import base64
from collections.abc import Callable
import hashlib
import json
import os
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.protocol.identity import (
    Identity,
    IdentityError,
    PublicKey,
    load_or_create,
    renew,
)

# The points of small order on the curve and its twist, as libsodium lists them.
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


def test_the_first_use_makes_an_identity_that_stays(path: Path) -> None:
    made = load_or_create(path)
    assert load_or_create(path) == made


def test_two_instances_have_two_identities(tmp_path: Path) -> None:
    assert load_or_create(tmp_path / "a").pin_sha256 != load_or_create(tmp_path / "b").pin_sha256


def test_the_pin_is_the_sha256_of_the_public_key_in_hex(path: Path) -> None:
    identity = load_or_create(path)
    assert identity.pin_sha256 == hashlib.sha256(identity.public.raw).hexdigest()


def test_only_the_owner_can_read_the_file_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        load_or_create(path)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_but_the_file_is_left_in_the_folder(path: Path) -> None:
    load_or_create(path)
    renew(path)
    assert list(path.parent.iterdir()) == [path]


def test_renewing_makes_another_identity_that_stays(path: Path) -> None:
    old = load_or_create(path)
    new = renew(path)
    assert new.pin_sha256 != old.pin_sha256
    assert load_or_create(path) == new


def test_a_renewal_that_cannot_be_written_leaves_the_old_identity(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load_or_create(path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(IdentityError, match="cannot be written"):
            renew(path)
    assert load_or_create(path) == old
    assert list(path.parent.iterdir()) == [path]


def _altered(path: Path, **changes: object) -> bytes:
    record = json.loads(path.read_bytes())
    return json.dumps(record | changes).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: b"",
        lambda path: path.read_bytes()[:-10],
        lambda path: path.read_bytes() + b"x",
        lambda path: bytes(32),
        lambda path: b"[" * 4000,
        lambda path: b"[]",
        lambda path: _altered(path, version=2),
        lambda path: _altered(path, private_key="#"),
        lambda path: _altered(path, private_key=None),
        lambda path: _altered(path, private_key=base64.b64encode(bytes(31)).decode()),
        lambda path: _altered(path, private_key=base64.b64encode(bytes(32)).decode()),
        lambda path: _altered(path, pin_sha256="0" * 64),
    ],
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(path: Path, damage) -> None:
    load_or_create(path)
    damaged = damage(path)
    path.write_bytes(damaged)
    with pytest.raises(IdentityError, match="damaged; restore it from a backup"):
        load_or_create(path)
    assert path.read_bytes() == damaged


def test_a_damaged_file_can_be_renewed_on_purpose(path: Path) -> None:
    path.write_bytes(b"")
    assert renew(path) == load_or_create(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    load_or_create(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IdentityError):
        load_or_create(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_no_identity_stops_nobody_and_is_not_left_open(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(IdentityError, match="damaged"):
        load_or_create(path)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before


def test_a_file_that_others_can_read_is_closed_to_them_and_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = load_or_create(path)
    path.chmod(0o644)
    assert load_or_create(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert "could be read by other users" in caplog.text


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be written"):
        load_or_create(tmp_path / "missing" / "identity")


def test_the_private_key_is_not_in_the_repr() -> None:
    identity = Identity.generate()
    assert repr(identity.private) not in repr(identity)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_public_key_that_makes_the_secret_known_is_refused(point: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        PublicKey(bytes.fromhex(point))


def test_a_second_spelling_of_a_public_key_is_refused() -> None:
    spelled = bytearray(Identity.generate().public.raw)
    spelled[31] |= 0x80
    with pytest.raises(ValueError, match="public key"):
        PublicKey(bytes(spelled))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="public key"):
        PublicKey(bytes([9] * length))
