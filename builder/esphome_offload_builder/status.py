"""The status of the running program, as text."""

from collections.abc import Sequence

from .payloads import BuildPayload, GuestPayload, StatusPayload


def status_text(status: StatusPayload) -> str:
    """Return the whole status in lines."""
    free = status["disk_free_mib"]
    left = "" if free is None else f", {_gib(free * 2**20)} GiB free"
    lines = [
        f"{status['name']}, version {status['version']}, port {status['port']}",
        f"Pin: {status['pin_sha256']}",
        "Accepts builds" if status["available"] else f"Accepts no builds: {status['why_not']}",
        status["containment_text"],
        f"Slots: {status['busy']} of {status['slots']} in use, {status['queued']} builds wait",
        *(f"  {_build(each)}" for each in status["builds"]),
        f"Disk: {_gib(status['disk_used'])} of {_gib(status['disk_limit'])} GiB used by guests{left}",
        f"ESPHome versions: {', '.join(status['toolchains']) or 'none yet'}",
        _compiler_cache(status),
        guests_text(status["guests"]),
    ]
    return "\n".join(lines)


def guests_text(guests: Sequence[GuestPayload]) -> str:
    """Return the guests in lines."""
    if not guests:
        return "Guests: none; pair one with: esphome-offload-builder pair"
    return "\n".join(["Guests:", *(f"  {_guest(each)}" for each in guests)])


def _guest(guest: GuestPayload) -> str:
    seen = "connected" if guest["connected"] else f"last seen {guest['last_seen'] or 'never'}"
    return f"{guest['label']}: {seen}, {guest['builds']} builds, pin {guest['pin_sha256']}"


def _build(build: BuildPayload) -> str:
    percent = "" if build["percent"] is None else f" {build['percent']:.0f} %"
    ahead = "" if build["ahead"] is None else f", {build['ahead']} builds before it"
    return (
        f"{build['device']} of {build['guest']}, ESPHome {build['esphome_version']}:"
        f" {build['stage']}{percent}{ahead}"
    )


def _compiler_cache(status: StatusPayload) -> str:
    if not status["ccache"]:
        return "Compiler cache: none (comes with the first ESPHome version)"
    hits, files = status["ccache_hits"], status["ccache_files"]
    return f"Compiler cache: {hits} of {files} files since the start came from it"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
