"""The command ``esphome-offload-builder``."""

import asyncio
from collections.abc import Coroutine
import json
import os
from pathlib import Path
import socket
from typing import TYPE_CHECKING, override

import click

from . import __version__
from .engine.const import COMPILER_CACHE_GIB, STANDALONE_PORT
from .process import become_builder
from .settings import DataFolder, RefusedError, Settings, Supervisor, read_options, read_pins
from .status import guests_text, status_text

if TYPE_CHECKING:
    from .control_client import ControlClient

_DEFAULT_DATA = Path.home() / ".local" / "share" / "esphome-offload-builder"


class _Group(click.Group):
    """A group whose commands say why they refuse."""

    @override
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RefusedError as err:
            raise click.ClickException(str(err)) from err


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT_DATA,
    envvar="ESPHOME_OFFLOAD_DATA",
    show_default=True,
    show_envvar=True,
    help="The folder of all that is kept; nobody else may read it.",
)
@click.option(
    "--options-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ESPHOME_OFFLOAD_OPTIONS_FILE",
    show_envvar=True,
    help="A JSON file with options of run that are given in no other way, such as slots.",
)
@click.pass_context
def main(ctx: click.Context, data: Path, options_file: Path | None) -> None:
    """Build ESPHome firmware for paired Home Assistants with ESPHome Offload."""
    ctx.obj = DataFolder(data.absolute())
    if options_file is not None and ctx.invoked_subcommand == "run":
        ctx.default_map = {"run": read_options(options_file)}


@main.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=STANDALONE_PORT,
    envvar="ESPHOME_OFFLOAD_PORT",
    show_default=True,
    show_envvar=True,
    help="The port at which Home Assistants connect.",
)
@click.option(
    "--host",
    envvar="ESPHOME_OFFLOAD_HOST",
    show_envvar=True,
    help="The address to listen on; all of this machine if it is not given.",
)
@click.option(
    "--name",
    default=socket.gethostname,
    envvar="ESPHOME_OFFLOAD_NAME",
    show_envvar=True,
    help="The name that Home Assistants show; that of this machine if it is not given.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 64),
    default=1,
    envvar="ESPHOME_OFFLOAD_SLOTS",
    show_default=True,
    show_envvar=True,
    help="Builds at the same time; each wants about 1 GB of memory.",
)
@click.option(
    "--disk",
    type=click.IntRange(1, 10_000),
    default=20,
    envvar="ESPHOME_OFFLOAD_DISK",
    show_default=True,
    show_envvar=True,
    help="GiB for the builds of all guests; what was not needed for longest goes first.",
)
@click.option(
    "--ccache",
    type=click.IntRange(1, 1000),
    default=COMPILER_CACHE_GIB,
    envvar="ESPHOME_OFFLOAD_CCACHE",
    show_default=True,
    show_envvar=True,
    help="GiB at most for the compiler cache of each guest, as a part of the above.",
)
@click.option(
    "--guest",
    "guests",
    metavar="PIN",
    multiple=True,
    envvar="ESPHOME_OFFLOAD_GUESTS",
    show_envvar=True,
    help="The pin of a Home Assistant that needs no pairing code here; may be repeated.",
)
@click.option(
    "--guests-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="ESPHOME_OFFLOAD_GUESTS_FILE",
    show_envvar=True,
    help="A file with such pins, one on a line.",
)
@click.option(
    "--uncontained",
    is_flag=True,
    envvar="ESPHOME_OFFLOAD_UNCONTAINED",
    show_envvar=True,
    help="Run builds also where this machine cannot contain what they do.",
)
@click.option(
    "--announce/--no-announce",
    default=True,
    envvar="ESPHOME_OFFLOAD_ANNOUNCE",
    show_envvar=True,
    help="Whether Home Assistants in the network discover this builder (mDNS).",
)
@click.option("--verbose", is_flag=True, help="Log more.")
@click.pass_obj
def run(
    folder: DataFolder,
    *,
    port: int,
    host: str | None,
    name: str,
    slots: int,
    disk: int,
    ccache: int,
    guests: tuple[str, ...],
    guests_file: Path | None,
    uncontained: bool,
    announce: bool,
    verbose: bool,
) -> None:
    """Run the builder until SIGTERM or Ctrl-C."""
    texts = [*guests, *([] if guests_file is None else [guests_file.read_text(encoding="utf-8")])]
    settings = Settings(
        folder=folder,
        name=name,
        port=port,
        host=host,
        slots=slots,
        disk_gib=disk,
        ccache_gib=ccache,
        guests=read_pins("\n".join(texts)),
        uncontained=uncontained,
        announce=announce,
        supervisor=Supervisor.from_environment(os.environ),
    )
    become_builder(settings, verbose=verbose)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the window as JSON and do not wait.")
@click.pass_obj
def pair(folder: DataFolder, *, as_json: bool) -> None:
    """Open the pairing window and show the code for it."""
    from .pairing import show_code  # noqa: PLC0415 - as below

    client = _client(folder)
    if as_json:
        _print_json(_run(client.open_window()))
    elif not _run(show_code(client)):
        raise click.exceptions.Exit(1)


@main.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the guests as JSON.")
@click.pass_context
def guests(ctx: click.Context, *, as_json: bool) -> None:
    """List the paired Home Assistants, or remove one."""
    if ctx.invoked_subcommand is None:
        known = _run(_client(ctx.obj).status())["guests"]
        _print_json(known) if as_json else click.echo(guests_text(known))


@guests.command()
@click.argument("pin")
@click.pass_obj
def remove(folder: DataFolder, pin: str) -> None:
    """Unpair the guest whose PIN begins like this, and delete what was built for it."""
    client = _client(folder)
    known = _run(client.status())["guests"]
    found = [each for each in known if each["pin_sha256"].startswith(pin.lower())]
    if len(found) != 1:
        raise RefusedError(f"{len(found)} guests have a pin that begins with {pin!r}")
    _run(client.remove_guest(found[0]["pin_sha256"]))
    click.echo(f"{found[0]['label']} is not paired any more")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.pass_obj
def status(folder: DataFolder, *, as_json: bool) -> None:
    """Show slots, builds, guests, toolchains and disk of the running builder."""
    payload = _run(_client(folder).status())
    _print_json(payload) if as_json else click.echo(status_text(payload))


@main.command()
@click.pass_obj
def clean(folder: DataFolder) -> None:
    """Delete build trees, firmware, tools, compiler caches and ESPHome versions not in use."""
    left = _run(_client(folder).clean())["disk_used"]
    click.echo(f"Builds of guests take {left / 2**20:.0f} MiB now")


def _client(folder: DataFolder) -> ControlClient:
    # Here, since ``run`` needs none of it, and it takes a small machine a while.
    from .control_client import ControlClient  # noqa: PLC0415

    return ControlClient(folder)


def _run[T](work: Coroutine[None, None, T]) -> T:
    return asyncio.run(work)


def _print_json(payload: object) -> None:
    click.echo(json.dumps(payload, indent=2, ensure_ascii=False))
