"""The vocabulary that every part of the engine shares."""

from enum import StrEnum
from typing import Final

ZEROCONF_TYPE: Final = "_esphome-offload._tcp.local."

STANDALONE_PORT: Final = 16053
"""The port of standalone builders: not assigned by IANA, and below those that Linux gives to
outgoing connections."""

MIB: Final = 1024**2
GIB: Final = 1024**3

COMPILER_CACHE_GIB: Final = 5
"""The most that a compiler cache takes, unless an option says otherwise."""

REQUESTED_AUTO: Final = "auto"
REQUESTED_LOCAL: Final = "local"


class Operation(StrEnum):
    """What a FirmwareJob does."""

    INSTALL = "install"
    COMPILE = "compile"
    UPLOAD = "upload"
    CLEAN = "clean"

    @property
    def builds(self) -> bool:
        """Whether this operation needs a builder."""
        return self in (Operation.INSTALL, Operation.COMPILE)

    @property
    def flashes(self) -> bool:
        """Whether this operation ends with firmware on the device."""
        return self in (Operation.INSTALL, Operation.UPLOAD)


class JobStatus(StrEnum):
    """Where a job stands; the last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a job in this status never changes again."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Stage(StrEnum):
    """What a running job is doing."""

    PREPARING = "preparing"
    WAITING_BUILDER = "waiting_builder"
    DOWNLOADING = "downloading"
    """The tools of the build are downloaded and unpacked."""
    COMPILING = "compiling"
    FETCHING = "fetching"
    WAITING_DEVICE = "waiting_device"
    UPLOADING = "uploading"
    VERIFYING = "verifying"

    @property
    def waiting(self) -> bool:
        """Whether a job in this stage holds no slot and may be replaced."""
        return self in (Stage.WAITING_BUILDER, Stage.WAITING_DEVICE)


class Source(StrEnum):
    """Where a job is built; pending until a builder is chosen."""

    PENDING = "pending"
    LOCAL = "local"
    REMOTE = "remote"


class Image(StrEnum):
    """A file of a firmware."""

    OTA = "ota"
    FACTORY = "factory"
    """For a device that is flashed by cable: with boot loader and partitions where it needs them."""
    ELF = "elf"
    """With debug symbols."""


class FailureReason(StrEnum):
    """Why a job, or one attempt of it, did not succeed; for machines."""

    CONFIG_INVALID = "config_invalid"
    BUNDLE_INCOMPLETE = "bundle_incomplete"
    NO_BUILDER = "no_builder"
    BUILDER_UNAVAILABLE = "builder_unavailable"
    BUILDER_ENVIRONMENT = "builder_environment"
    VERSION_UNAVAILABLE = "version_unavailable"
    BUILD_LOST = "build_lost"
    """The builder was restarted, or for another reason has the build no more."""
    COMPILE_FAILED = "compile_failed"
    OUT_OF_MEMORY = "out_of_memory"
    INTEGRITY = "integrity"
    NO_FIRMWARE = "no_firmware"
    DEVICE_OFFLINE = "device_offline"
    UPLOAD_REFUSED = "upload_refused"
    UPLOAD_FAILED = "upload_failed"
    WRONG_DEVICE = "wrong_device"
    NOT_VERIFIED = "not_verified"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    INTERNAL = "internal"
