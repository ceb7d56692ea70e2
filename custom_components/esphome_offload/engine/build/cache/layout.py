"""CacheLayout: the one place that names a path under the cache folder."""

import contextlib
from dataclasses import dataclass
import hashlib
from pathlib import Path
import re
import threading
from typing import ClassVar
import uuid

from .ownership import guest_users
from .removal import remove

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def configuration_key(configuration: str) -> str:
    """Return a folder name for a configuration file name: readable, safe and never shared."""
    readable = _UNSAFE.sub("-", Path(configuration).stem).strip("-")[:40]
    digest = hashlib.sha256(configuration.encode()).hexdigest()[:10]
    return f"{readable}-{digest}" if readable else digest


def lock_of(folder: Path) -> Path:
    """Return what is locked while a folder is used; beside it, so that the folder can be removed."""
    return folder.with_name(f"{folder.name}.lock")


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Paths below ``root``. Nothing here needs to be in a backup: all can be made again."""

    root: Path
    FILE_COUNT: ClassVar[str] = ".files.json"

    @property
    def home(self) -> Path:
        """HOME of ESPHome's processes."""
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        """TMPDIR of all processes; emptied at each start."""
        return self.root / "tmp"

    @property
    def staging(self) -> Path:
        """Where we put things together, out of reach of builds; emptied at each start."""
        return self.root / "staging"

    @property
    def trash(self) -> Path:
        """What is being deleted; ``empty_trash`` deletes what an earlier start left there."""
        return self.root / "trash"

    @property
    def lease(self) -> Path:
        """What is locked as long as anything of a command is left."""
        return self.root / "running.lock"

    @property
    def logs(self) -> Path:
        """One file per job."""
        return self.root / "logs"

    @property
    def uv_cache(self) -> Path:
        """What uv has downloaded; on the file system of the toolchains, which link to it."""
        return self.root / "uv-cache"

    @property
    def tools(self) -> Path:
        """Compilers and frameworks that ESPHome downloads, shared by all trees."""
        return self.root / "tools"

    @property
    def compiler_cache(self) -> Path:
        """What was compiled, by ccache; among the tools, with which it is measured and removed."""
        return self.tools / "ccache"

    @property
    def toolchains(self) -> Path:
        """One virtual environment per ESPHome version."""
        return self.root / "toolchains"

    @property
    def trees(self) -> Path:
        """One build tree per configuration."""
        return self.root / "trees"

    def toolchain(self, version: str) -> Path:
        """Return the virtual environment of one ESPHome version (in its normal form)."""
        return self.toolchains / version

    def tree(self, configuration: str) -> Path:
        """Return ESPHome's data directory for building a configuration."""
        return self.trees / configuration_key(configuration)

    def tree_identity(self, configuration: str) -> Path:
        """Return the file that says what was built last in a tree; beside it, no build writes it."""
        return self.trees / f"{configuration_key(configuration)}.json"

    def file_count(self, configuration: str) -> Path:
        """Return where it is kept how many files a configuration is made of; beside its tree."""
        return self.trees / f"{configuration_key(configuration)}{self.FILE_COUNT}"

    @property
    def all_flash(self) -> Path:
        """What flashing needs, one folder per configuration."""
        return self.root / "flash"

    def flash(self, configuration: str, mac: str | None = None) -> Path:
        """Return ESPHome's data directory for flashing a configuration, or one of its devices."""
        folder = self.all_flash / configuration_key(configuration)
        return folder if mac is None else folder / configuration_key(mac)

    def data_dirs(self) -> list[Path]:
        """Return ESPHome's data directories, of all configurations and of packages; blocks."""
        return [self.packages, *self.trees.glob("*/"), *self.bundles.glob("*/data/")]

    @property
    def packages(self) -> Path:
        """ESPHome's data directory of remote packages that were fetched to know devices."""
        return self.root / "packages"

    @property
    def config_hash(self) -> Path:
        """ESPHome's data directory for hashing configurations, with the packages of all."""
        return self.root / "config-hash"

    @property
    def fetched(self) -> tuple[Path, ...]:
        """ESPHome's data directories that belong to no configuration."""
        return self.packages, self.config_hash

    @property
    def bundles(self) -> Path:
        """One folder per configuration."""
        return self.root / "bundles"

    def bundle(self, configuration: str) -> Path:
        """Return the folder of a configuration's bundle and of what ESPHome needs to make it."""
        return self.bundles / configuration_key(configuration)

    @property
    def all_firmware(self) -> Path:
        """What was built, one folder per configuration."""
        return self.root / "firmware"

    def firmware(self, configuration: str) -> Path:
        """Return the folder of a configuration's kept firmware, one folder each, named by SHA-256."""
        return self.all_firmware / configuration_key(configuration)

    @property
    def orphans(self) -> Path:
        """One empty file per configuration that is missing; its time says since when."""
        return self.root / "orphans"

    @property
    def guests(self) -> Path:
        """One folder per guest."""
        return self.root / "guests"

    @property
    def guest_logs(self) -> Path:
        """One file per build for a guest."""
        return self.root / "guest-logs"

    @property
    def inbox(self) -> Path:
        """Bundles that came and are not unpacked yet, one folder per guest; emptied at each start."""
        return self.root / "inbox"

    def guest(self, pin_sha256: str) -> CacheLayout:
        """Return the layout of all that a guest's builds write; toolchains are not there."""
        return CacheLayout(self.guests / pin_sha256[:32])

    @property
    def sources(self) -> Path:
        """What guests' bundles are unpacked into, one folder per configuration."""
        return self.root / "sources"

    def source(self, key: str) -> Path:
        """Return the folder of one bundle, by ``configuration_key``."""
        return self.sources / key

    def source_around(self, config_dir: Path) -> Path:
        """Return the folder of the bundle that a configuration's folder is of."""
        folders = (config_dir, *config_dir.parents)
        return next((each for each in folders if each.parent == self.sources), config_dir)

    def source_digest(self, key: str) -> Path:
        """Return the file that says which bundle is unpacked; touched whenever that is used."""
        return self.sources / f"{key}.sha256"

    def make(self) -> None:
        """Make the folders that processes expect to be there. Blocks."""
        # Trees hold secrets in plain text, as ESPHome's own data directory does.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if guest_users() is None:  # else guests' users pass it
            with contextlib.suppress(OSError):  # not every file system has rights
                self.root.chmod(0o700)
        for folder in (self.home, self.tmp, self.tools, self.toolchains, self.trees):
            folder.mkdir(exist_ok=True)

    def share(self) -> None:
        """Let users of guests reach toolchains and their own folders, and nothing else. Blocks."""
        if guest_users() is None:
            return
        for folder in (
            self.home,
            self.tmp,
            self.staging,
            self.trash,
            self.logs,
            self.uv_cache,
            self.tools,
            self.trees,
            self.all_flash,
            *self.fetched,
            self.bundles,
            self.all_firmware,
            self.orphans,
            self.guest_logs,
            self.inbox,
        ):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        for folder in (self.guests, self.toolchains):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
        # Who can read a file can lock it. uv lets everybody write to its own.
        for lock in (self.lease, *self.toolchains.glob("*/.lock")):
            lock.touch()
            lock.chmod(0o600)
        self.root.chmod(0o711)

    def empty_tmp(self) -> None:
        """Remove what earlier processes left behind; only while none of ours runs.

        Fast: ``empty_trash`` deletes it.
        """
        for folder in (self.staging, self.tmp):
            self.to_trash(folder)
        self.tmp.mkdir(parents=True, exist_ok=True)

    def empty_trash(self, stop: threading.Event) -> None:
        """Delete what an earlier start did not delete, also of guests. Blocks until ``stop``."""
        layouts = [self]
        if self.guests.is_dir():
            layouts.extend(CacheLayout(folder) for folder in self.guests.iterdir())
        for layout in layouts:
            if layout.trash.is_dir():
                for doomed in layout.trash.iterdir():
                    remove(doomed, stop)

    def discard(self, path: Path) -> None:
        """Remove a folder, if it is there: from its place at once, then from the disk. Blocks.

        What is interrupted half-way leaves nothing behind that looks usable.
        """
        if (doomed := self.to_trash(path)) is not None:
            remove(doomed)

    def to_trash(self, path: Path) -> Path | None:
        """Move a folder, if it is there, to where it can be deleted; return its path there. Fast."""
        self.trash.mkdir(parents=True, exist_ok=True)
        doomed = self.trash / uuid.uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            path.rename(doomed)
            return doomed
        return None
