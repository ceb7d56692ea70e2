"""The types that jobs and builders exchange."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
import re
from typing import Annotated, Final, Protocol

from ..codec import Many, Number, Text
from ..const import FailureReason, Image, Source, Stage
from ..reason import Reason, ReasonKey
from ..target import mac_suffix
from .slots import Slots

CONFIGURED: Final = "OTA"
"""ESPHome's word for the address that the configuration gives, or that follows from the name."""
_MAC_SUFFIX = re.compile(r"-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A request for a build, with all that decides what it produces.

    ``configuration`` is a file name inside ``config_dir``; ``time_zone`` is the requester's
    IANA zone, because ESPHome's ``time:`` takes the build host's when the YAML names none.
    ``resume``: the builder was asked for this very attempt before, and was left alone with it.
    """

    job_id: str
    attempt_id: str
    configuration: str
    config_dir: Path
    device_name: str
    esphome_version: str
    time_zone: str
    clean: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """The content of ESPHome's ``build_info.json``; ``build_time`` as the device reports it."""

    esphome_version: Annotated[str, Text(64, free=True)]
    build_time: Annotated[str, Text(64, free=True)]
    config_hash: Annotated[int, Number(-(2**63), 2**63)]


@dataclass(frozen=True, slots=True)
class Node:
    """The name of the device; empty for an image that is not of the name that was claimed for it.

    ``adds_mac_suffix``: the device adds a part of its MAC address to the name. New firmware counts
    as good after ``good_after`` seconds, until then the boot loader goes back to the old one;
    0: it never does. ``address`` is where ESPHome looks for it, ``ota_port`` where it listens for
    firmware, ``api_port`` where its API does.
    """

    name: Annotated[str, Text(64)]
    adds_mac_suffix: bool = False
    good_after: Annotated[float, Number(0, 2**32)] = 0.0
    address: Annotated[str, Text(255)] | None = None
    ota_port: Annotated[int, Number(1, 65535)] | None = None
    api_port: Annotated[int, Number(1, 65535)] | None = None

    def is_of(self, device_name: str) -> bool:
        """Return whether a device with this name is such a device."""
        if not self.name or not device_name.startswith(self.name):
            return False
        rest = device_name.removeprefix(self.name)
        return not rest or (self.adds_mac_suffix and _MAC_SUFFIX.fullmatch(rest) is not None)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The files of a firmware that the builder keeps that made it.

    ``configuration`` is what it calls it, also when the file has another name here by now.
    """

    builder_id: Annotated[str, Text(64)]
    images: Annotated[tuple[Image, ...], Many(len(Image))]
    configuration: Annotated[str, Text(255, free=True)] = ""


@dataclass(frozen=True, slots=True)
class Firmware:
    """The result of a build, immutable and named by the SHA-256 (hex) of its OTA image.

    The image lies in a folder of its own that no later build touches. ``validated`` is ESPHome's
    record of the configuration that it was built from, by what its name is without that of the
    configuration; nothing from ESPHome versions that keep none. ``node`` is the device that it is
    for; None when it was kept by a version that did not look. ``images`` are the files beside
    the OTA image that are here.
    """

    sha256: str
    configuration: str
    device_name: str
    ota: Path
    build_info: BuildInfo
    validated: Mapping[str, Path] = field(default_factory=dict)
    node: Node | None = None
    images: Mapping[Image, Path] = field(default_factory=dict)
    elsewhere: Elsewhere | None = None

    @property
    def files(self) -> Mapping[Image, Path]:
        """Its files that are here."""
        return {Image.OTA: self.ota, **self.images}


@dataclass(frozen=True, slots=True)
class FlashRequest:
    """One flash of ``firmware``.

    ``addresses`` are host names, IPs or CONFIGURED; ESPHome tries each, IPv6 first. ``mac``: of one
    device among several of the configuration.
    """

    job_id: str
    attempt_id: str
    configuration: str
    config_dir: Path
    firmware: Firmware
    addresses: tuple[str, ...]
    time_zone: str
    mac: str | None = None

    @property
    def device_name(self) -> str:
        """The name of the device."""
        return self.firmware.device_name + ("" if self.mac is None else mac_suffix(self.mac))


class BuildSink(Protocol):
    """The receiver of the reports of a builder or the flasher; called on the event loop."""

    def stage(self, stage: Stage) -> None:
        """Enter a stage."""

    def progress(self, percent: float) -> None:
        """Report how far the current stage is, 0 to 100; an upload may begin again."""

    def lines(self, lines: Sequence[str]) -> None:
        """Report finished output lines, without terminators and escape codes."""

    def place(self, ahead: int) -> None:
        """Report that the builder has other builds before this one; a stage ends that."""
        return


class BuildError(Exception):
    """A build or flash did not succeed.

    ``failure_reason`` decides what the job does next, ``reason`` is what people are told.
    """

    def __init__(
        self, failure_reason: FailureReason, reason: Reason, exit_code: int | None = None
    ) -> None:
        """Keep both."""
        super().__init__(str(reason))
        self.failure_reason = failure_reason
        self.reason = reason
        self.exit_code = exit_code


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise BuildError (builder_environment) for an OSError: mostly the disk is full."""
    try:
        yield
    except OSError as error:
        raise BuildError(
            FailureReason.BUILDER_ENVIRONMENT,
            Reason(ReasonKey.DISK_UNUSABLE, line=error.strerror),
        ) from error


class BuildDetached(Exception):  # noqa: N818 - nothing went wrong with the build
    """The connection to a builder was taken down here; the build goes on there.

    Whoever finds that builder again can go on with the attempt (``BuildRequest.resume``).
    """


@dataclass(frozen=True, slots=True)
class BuilderStatus:
    """A builder at one moment. ``why_not`` is set when it is not available.

    ``busy`` and ``slots`` count builds, ``warm`` holds configurations with a build tree,
    ``memory_mib`` and ``disk_mib`` are what is free, None when unknown. Of ``ccache_files``
    that were compiled since its start its compiler cache had ``ccache_hits``. Not ``reachable``:
    what runs there cannot be heard of either.
    """

    available: bool
    why_not: Reason | None = None
    slots: int = 1
    busy: int = 0
    queue_length: int = 0
    versions: tuple[str, ...] = ()
    warm: frozenset[str] = field(default_factory=frozenset)
    memory_mib: int | None = None
    disk_mib: int | None = None
    ccache: bool = False
    ccache_hits: int = 0
    ccache_files: int = 0
    reachable: bool = True


class Builder(Protocol):
    """A machine that compiles. ``builder_id`` is "local" or a peer's pin.

    Whoever has something built holds one of ``slots`` meanwhile; None: the builder itself puts
    the builds in order.
    """

    builder_id: str
    label: str
    source: Source
    pin_sha256: str | None
    slots: Slots | None = None

    def status(self) -> BuilderStatus:
        """Return the last known status, without I/O."""

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever the status may have changed; returns unsubscribe."""

    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        """Build, or raise BuildError or BuildDetached.

        Cancelling ends every process within 5 s.
        """

    def leave(self) -> None:
        """Home Assistant stops: a build elsewhere goes on when it is cancelled from now on."""
        return

    async def fetch_image(self, firmware: Firmware, image: Image) -> Firmware:
        """Return a firmware with a file of it that this builder keeps; raises BuildError."""
        raise BuildError(
            FailureReason.NO_FIRMWARE,
            Reason(ReasonKey.IMAGE_GONE, {"configuration": firmware.configuration}),
        )

    async def clean(self, configuration: str, *, tools: bool = False) -> None:
        """Forget the build tree of a configuration; with ``tools`` also all downloaded tools."""
