"""A builder with two guests, and commands that try things there."""

import json
import os
from pathlib import Path
import socket
import subprocess
import sys

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.ownership import guest_user
from custom_components.esphome_offload.engine.build.process.containment import (
    Contained,
    GuestContainment,
    Rules,
)
from custom_components.esphome_offload.engine.build.process.processes import (
    Command,
    Processes,
    ProcessResult,
)

from .processes import LONG

TRY = """
import ctypes, errno, json, os, resource, signal, socket, stat, sys
at = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
for statement in sys.argv[2:]:
    try:
        exec(statement)
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("done")
"""


class ContainmentHarness:
    """Home Assistant's folder, two guests, a toolchain, and a process that belongs to no guest."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.processes = processes
        self.config = folder / "config"
        cache = CacheLayout(self.config / ".cache" / "offload")
        self.layout = CacheLayout(cache.root / "guests" / "one")
        self.other = CacheLayout(cache.root / "guests" / "two")
        self.toolchain = cache.toolchain("2026.10.0")
        self.sources = self.layout.sources
        self.tree = self.layout.trees / "lamp"
        self.files = {
            "storage": self.config / ".storage" / "auth",
            "theirs": self.other.trees / "lamp" / "secrets.yaml",
            "module": self.toolchain / "lib" / "module.py",
            "yaml": self.sources / "lamp.yaml",
            "lock": self.layout.trees / "lamp.lock",
            "ours": self.tree / "ours",
        }
        for layout in (self.layout, self.other):
            layout.root.mkdir(parents=True)
            layout.make()
            layout.sources.mkdir()
        for path in self.files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("content")
        cache.share()
        self.cache = cache
        for layout in (self.layout, self.other):
            if (user := guest_user(layout.root, cache.trash)) is not None:
                tree = layout.trees / "lamp"
                for path in (layout.home, layout.tmp, layout.tools, tree, *tree.iterdir()):
                    os.chown(path, user, user)
        self.victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({LONG})"],
            env={"TOKEN": "secret"},
        )
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()
        self.at = {name: str(path) for name, path in self.files.items()} | {
            "config": str(self.config),
            "guests": str(self.other.root.parent),
            "home": str(self.layout.home),
            "listener": str(folder / "socket"),
            "sources": str(self.sources),
            "tmp": str(self.layout.tmp),
            "toolchain": str(self.toolchain),
            "tools": str(self.layout.tools),
            "tree": str(self.tree),
            "trees": str(self.layout.trees),
            "victim": self.victim.pid,
        }

    def close(self) -> None:
        self.listener.close()
        self.victim.kill()
        self.victim.wait()

    def open_to_users(self) -> None:
        """Let every user pass to the cache, and close what is private, as it has to be."""
        self.config.chmod(0o711)
        self.files["storage"].parent.chmod(0o700)
        for folder in self.cache.root.parents:
            if folder.is_relative_to(self.config):
                folder.chmod(0o711)

    def rules(self, layout: CacheLayout | None = None, *, by_landlock: bool = True) -> Rules:
        """Return the rules for a build of the first guest, or of the one with this layout."""
        layout = layout or self.layout
        return GuestContainment(layout, (self.config,), by_landlock)(
            Contained(
                python=Path(sys.executable),
                toolchain=self.toolchain,
                config_dir=layout.sources,
                data_dir=layout.trees / "lamp",
                env={},
            )
        )

    def command(self, rules: Rules | None, *argv: str, lock: Path | None = None) -> Command:
        """Return a command of Python, not that of the virtual environment that runs this."""
        python = str(Path(sys.executable).resolve())
        return Command(
            argv=(python, "-I", "-S", *argv),
            cwd=self.sources,
            env={
                "PATH": "/usr/bin:/bin",
                **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            },
            lock=lock,
            rules=rules,
        )

    async def run(self, rules: Rules | None, *argv: str) -> tuple[ProcessResult, str]:
        return await self.processes.capture(self.command(rules, *argv), timeout=60)

    async def tries(
        self, *statements: str, contained: bool = True, by_landlock: bool = True
    ) -> str:
        """Return "done" or the name of the error for each, with blanks between."""
        rules = self.rules(by_landlock=by_landlock) if contained else None
        _, output = await self.run(rules, "-c", TRY, json.dumps(self.at), *statements)
        return " ".join(output.split())
