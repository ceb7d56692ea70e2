"""The builder's image, really built and run with Podman, on a base that stands in for Python's.

Docker, its hub and Python's own image cannot be had everywhere; Podman and the packages of Debian
can. The base has Python 3.14 from Debian's unstable distribution where that image has one of its
own, and is given that image's name, so that the Dockerfile is built as it is.
"""

import ast
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import shutil

from .processes import ProcessFailedError, environment, run
from .workspace import REPOSITORY

BASE = "docker.io/library/python:3.14-slim-trixie"
_PACKAGES = ("python3.14", "python3.14-venv", "ca-certificates")
_NOT_NEEDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

# What the builder asks the package index with.
_PASSED = ("SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "HTTPS_PROXY", "NO_PROXY")
# No higher than anywhere: raising them needs a right that a container engine may lack itself.
_LIMITS = ("--ulimit", "nofile=16384:16384", "--ulimit", "nproc=16384:16384")

_BUILD = 600.0
_COMMAND = 60.0


class NoImagesHereError(Exception):
    """Images cannot be built on this machine; says why."""


@dataclass(frozen=True, slots=True)
class Podman:
    """Podman with a store of its own in ``folder``."""

    folder: Path

    async def __call__(self, *arguments: str | Path, seconds: float = _COMMAND) -> str:
        """Run one of its commands and return the output; raises ProcessFailedError."""
        own = {"root": "store", "runroot": "run", "tmpdir": "tmp"}
        options = [f"--{option}={self.folder / name}" for option, name in own.items()]
        # Where cgroups are of both versions, its usual program to start containers refuses them.
        argv = ["podman", *options, "--cgroup-manager=cgroupfs", "--runtime=runc", *arguments]
        return await run(argv, cwd=REPOSITORY, env=environment(), seconds=seconds)

    async def build(self, name: str) -> None:
        """Build the image of the present sources; raises NoImagesHereError."""
        for program in ("podman", "runc", "mmdebstrap"):
            if shutil.which(program) is None:
                raise NoImagesHereError(f"no {program} here")
        if os.geteuid() != 0:
            raise NoImagesHereError("needs root")
        await self._check()
        await self._make_base()
        dockerfile = ("--file", "builder/Dockerfile", "--tag", name, ".")
        mounts = await self._index_settings()
        output = ("--format", "docker", "--network", "host")  # OCI's knows no health check
        await self("build", *output, *_LIMITS, *mounts, *dockerfile, seconds=_BUILD)
        await self("image", "prune", "--force", "--filter", "until=48h")

    async def _check(self) -> None:
        """Check that Podman works, if need be with a new store: this one may be of another."""
        try:
            await self("info")
        except ProcessFailedError:
            for name in ("store", "run", "tmp"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            try:
                await self("info")
            except ProcessFailedError as err:
                raise NoImagesHereError(f"podman does not work here: {err}") from err

    async def _make_base(self) -> None:
        """Make what stands in for Python's image, once."""
        argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
        # A mirror that is kept as of some day has a list past its date; its signature still counts.
        argv.append('--aptopt=Acquire::Check-Valid-Until "false"')
        argv += [f"--dpkgopt=path-exclude={path}" for path in _NOT_NEEDED]
        argv.append('--customize-hook=ln -s /usr/bin/python3.14 "$1/usr/local/bin/python3"')
        # It stays: only other arguments make another.
        tag = f"localhost/base:{hashlib.sha256(repr(argv).encode()).hexdigest()[:16]}"
        if not (await self("images", "--quiet", tag)).strip():
            archive = self.folder / "base.tar"
            mirror = await _mirror()
            try:
                await run(
                    [*argv, "sid", archive, mirror],
                    cwd=self.folder,
                    env=environment(),
                    seconds=_BUILD,
                )
                await self("import", "--quiet", archive, tag)
            except ProcessFailedError as err:
                raise NoImagesHereError(f"the base cannot be made: {err}") from err
            finally:
                archive.unlink(missing_ok=True)
        await self("tag", tag, BASE)

    async def _index_settings(self) -> list[str]:
        """Return what gives the build this machine's package index and certificates."""
        said = await run(
            ["python3", "-m", "pip", "config", "list"],
            cwd=self.folder,
            env=environment(),
            seconds=_COMMAND,
        )
        lines = [f"{option} = {value}" for option, value in _for_others(said).items()]
        path = self.folder / "pip.conf"
        path.write_text("\n".join(["[global]", *lines, ""]))
        return ["--volume", f"{path}:/etc/pip.conf:ro", *certificates()]


async def _mirror() -> str:
    """Return the mirror of Debian that this machine uses."""
    said = await run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
        cwd=REPOSITORY,
        env=environment(),
        seconds=_COMMAND,
    )
    for address in said.split():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise NoImagesHereError("no mirror of Debian in the apt sources of this machine")


def _for_others(said: str) -> dict[str, str]:
    """Return those of pip's settings that hold in a container, from what it lists."""
    found = {}
    for line in said.splitlines():
        name, _, quoted = line.partition("=")
        option = name.rpartition(".")[2]
        if option in {"index-url", "extra-index-url", "trusted-host", "proxy", "cert"}:
            words = [word for word in ast.literal_eval(quoted).split() if "file:" not in word]
            if words:
                found[option] = " ".join(words)
    return found


def certificates() -> list[str]:
    """Return the options by which a container trusts what this machine trusts."""
    file = environment().get("SSL_CERT_FILE")
    return [] if file is None else ["--volume", f"{file}:{file}:ro"]


def surroundings() -> list[str]:
    """Return the options that a container needs on this machine, whatever runs in it."""
    passed = [name for name in environment() if name in _PASSED or name.startswith("UV_INDEX")]
    # Nothing else ends it if the tests are killed.
    end = ("--timeout", "900")
    return [*_LIMITS, *end, *certificates(), *(word for name in passed for word in ("--env", name))]
