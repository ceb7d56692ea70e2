"""The pairing code on a terminal: large, with the time left."""

import asyncio
from contextlib import suppress
import sys
from typing import Final

import click
import pyfiglet

from .control_client import ControlClient
from .engine.host.pairing_window import WindowEnd
from .payloads import PairingPayload
from .settings import RefusedError

_EVERY: Final = 1.0
"""Seconds between two looks at the window."""

_ENDS: Final = {
    WindowEnd.CLOSED: "The window was closed.",
    WindowEnd.EXPIRED: "The time is over. Run this again for another code.",
    WindowEnd.WRONG_CODES: "Too many wrong codes. Run this again for another code.",
}


async def show_code(client: ControlClient) -> bool:
    """Open the window and show it until it ends; returns whether somebody has paired.

    Cancelled (Ctrl-C) it closes the window.
    """
    window = await client.open_window()
    code = window["code"] or ""
    click.echo(large(code))
    click.echo(f"Code: {code}")
    click.echo("Type it in Home Assistant: Settings > Devices & services > ESPHome Offload.")
    try:
        while window["code"] == code:
            _show_left(window)
            await asyncio.sleep(_EVERY)
            window = await client.window()
    except asyncio.CancelledError:
        with suppress(RefusedError):  # the program has ended: its window has, too
            await client.close_window()
        raise
    _line()
    end = WindowEnd(window["end"] or WindowEnd.CLOSED)
    if end is WindowEnd.PAIRED:
        click.echo(f"Paired with {window['newest_guest']}.")
        return True
    click.echo(_ENDS[end])
    return False


def large(code: str) -> str:
    """Return a code as large digits, in two groups."""
    middle = len(code) // 2
    text: str = pyfiglet.figlet_format(f"{code[:middle]} {code[middle:]}", font="big", width=100)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def _show_left(window: PairingPayload) -> None:
    """Show the time left, on one line that changes; not where a file is written."""
    if sys.stdout.isatty():
        minutes, seconds = divmod(window["seconds_left"], 60)
        tries = window["tries_left"]
        click.echo(f"\rTime left: {minutes}:{seconds:02d}   Tries left: {tries} ", nl=False)


def _line() -> None:
    if sys.stdout.isatty():
        click.echo()
