"""What the other commands ask of the running program, and its answers, as JSON."""

from typing import Final, TypedDict

STATUS: Final = "/status"
PAIRING: Final = "/pairing"
GUESTS: Final = "/guests"
CACHE: Final = "/cache"


class BuildPayload(TypedDict):
    """A build that waits or runs; ``percent`` is that of its stage."""

    guest: str
    configuration: str
    device: str
    esphome_version: str
    stage: str
    percent: float | None
    ahead: int | None


class GuestPayload(TypedDict):
    """A guest; times are in ISO 8601, UTC."""

    pin_sha256: str
    label: str
    connected: bool
    paired_at: str
    last_seen: str | None
    builds: int


class StatusPayload(TypedDict):
    """The whole status; disk is in bytes.

    Of ``ccache_files`` that were compiled since the start, for all guests together, compiler caches
    had ``ccache_hits``.
    """

    name: str
    version: str
    pin_sha256: str
    port: int
    available: bool
    why_not: str | None
    containment: str
    containment_text: str
    slots: int
    busy: int
    queued: int
    builds: list[BuildPayload]
    guests: list[GuestPayload]
    toolchains: list[str]
    ccache: bool
    ccache_hits: int
    ccache_files: int
    memory_free_mib: int | None
    disk_free_mib: int | None
    disk_used: int
    disk_limit: int


class PairingPayload(TypedDict):
    """The pairing window; ``end`` says why it is not open any more."""

    code: str | None
    seconds_left: int
    tries_left: int
    end: str | None
    newest_guest: str | None


class CleanedPayload(TypedDict):
    """How many bytes guests' builds take after what is not in use was removed."""

    disk_used: int
