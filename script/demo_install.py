"""The demo: one real install from start to end, shown as it happens.

Two Home Assistants: "offloader" has the device, "builder" builds for it. With ``--builder`` the
latter is the standalone builder, without a Home Assistant; with ``--local`` there is only one Home
Assistant, which builds by itself. Run it as ``script/demo``. The last line of its output is one
JSON object; the exit code is 0 only if Home Assistant's own esphome integration reports the new
version, and the firmware was built on the right machine.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
import json
import os
from pathlib import Path
import signal
import sys
import time

from tests.e2e.harness.any_builder import AnyBuilder
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import (
    PASSWORD,
    USERNAME,
    Client,
    Json,
    RequestFailedError,
)
from tests.e2e.harness.device import FIRST_VERSION, NEW_VERSION, Device
from tests.e2e.harness.home_assistant import HomeAssistant
from tests.e2e.harness.instance import Instance
from tests.e2e.harness.jobs import LONGEST_JOB, Job, follow
from tests.e2e.harness.offloader import Offloader
from tests.e2e.harness.pair import Pair, lending_builder
from tests.e2e.harness.playground import Playground
from tests.e2e.harness.processes import ProcessFailedError
from tests.e2e.harness.standalone import StandaloneBuilder
from tests.e2e.harness.waiting import until
from tests.e2e.harness.workspace import claim

_COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class DemoFailedError(Exception):
    """The install did not end well."""


_FAILURES = (DemoFailedError, ProcessFailedError, RequestFailedError, TimeoutError, OSError)


class Screen:
    """The output for people: steps with times, and the job's output."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def step(self, text: str) -> None:
        """Print what happens now."""
        print(_styled("1", f"{self.seconds:6.1f} s  {text}"))

    def job(self, stage: str | None, progress: int | None, line: str) -> None:
        """Print a line of the job's output with stage and percentage."""
        percent = "" if progress is None else f"{progress} %"
        print(
            _styled("36", f"{self.seconds:6.1f} s  {stage or 'queued':<11}{percent:>6} │ ") + line
        )


def _styled(style: str, text: str) -> str:
    return f"\033[{style}m{text}\033[0m" if _COLOURS else text


class Where(StrEnum):
    """Who builds."""

    LOCAL = "local"
    HOME_ASSISTANT = "home assistant"
    STANDALONE = "standalone builder"


async def run_demo(folder: Path, screen: Screen, where: Where, *, keep: bool) -> dict[str, Json]:
    """Run the whole demo and return the result to print."""
    print(_styled("1", f"One install: an ESPHome device from {FIRST_VERSION} to {NEW_VERSION}"))
    pair: Pair[AnyBuilder] | None = None
    if where is Where.HOME_ASSISTANT:
        pair = Pair(folder, lending_builder(folder / "builder"))
    elif where is Where.STANDALONE:
        pair = Pair(folder, StandaloneBuilder(folder / "standalone"))
    offloader = local_offloader(folder) if pair is None else pair.offloader
    homes: list[HomeAssistant] = [offloader]
    if pair is not None and isinstance(pair.builder, Builder):
        homes.append(pair.builder)
    playground = Playground(folder, offloader, *homes[1:]) if keep else None
    try:
        await start(offloader, screen)
        if pair is not None:
            await introduce(pair, screen)
        entity = await offloader.update_entity()
        screen.step(f"the device can be updated: {entity}")
        result = await install(offloader, entity, screen)
        if pair is not None and result["source_pin_sha256"] != pair.pin_sha256:
            raise DemoFailedError(f"built by {result['source_label'] or 'the offloader'}")
        screen.step(f"done: Home Assistant reports {result['to_version']}")
        if playground is not None:
            await playground.open(screen.step)
            print(guide(playground, offloader, homes), flush=True)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return result
    finally:
        if playground is not None:
            await playground.close()
        await (offloader if pair is None else pair).close()


def guide(playground: Playground, offloader: Offloader, homes: Sequence[HomeAssistant]) -> str:
    """Return which address is what, and what there is to try."""
    addresses = "\n".join(
        f"  {home.instance.url}  “{home.instance.name}”, which {'has the devices' if home is offloader else 'builds for it'}"
        for home in homes
    )
    return f"""
{_styled("1", "Open these addresses")}  user: {USERNAME}  password: {PASSWORD}
{addresses}

{_styled("1", f"Try this in “{offloader.instance.name}”")}  “ESPHome Offload” in the sidebar
  {offloader.device.name:<8}was updated just now: Activity in the sidebar and the page's Jobs say how
  {playground.outdated.name:<8}has an update: press Install, and watch its output
  {playground.changed.name:<8}has another file than it was built from, with a button more: install that
  {playground.mistaken.name:<8}failed: see why under Jobs or under Settings, Repairs. Its file has a mistake at
          the end; delete the part “binary_sensor:”, save, and press Retry:
          {playground.mistaken.yaml}
  {playground.builder.name:<8}is a builder that was discovered: Settings, Devices & services, Add.
          Its code is shown by this command, for five minutes:
          {playground.builder.environment.command} --data {playground.builder.data} pair
  An automation is made from a blueprint under Settings, Automations & scenes, Blueprints.

Everything keeps running until Ctrl-C."""


def local_offloader(folder: Path) -> Offloader:
    """Return an offloader without a builder."""
    instance = Instance(folder)
    instance.reset()
    return Offloader(instance, Device("kitchen", folder / "kitchen", instance.esphome))


async def start(offloader: Offloader, screen: Screen) -> None:
    """Start the device and the Home Assistant that has it."""
    device = offloader.device
    screen.step(f"getting the device's first program, ESPHome {FIRST_VERSION}")
    await device.flash(FIRST_VERSION)
    await device.switch_on()
    screen.step(f"the device “{device.name}” is on, API port {device.api_port}")
    await boot(offloader, screen)
    await offloader.add_devices()
    before = await until(offloader.reported_version, "the device in Home Assistant")
    screen.step(f"its esphome integration is connected and reports {before}")
    await offloader.set_up()
    screen.step("ESPHome Offload is set up")


async def boot(each: HomeAssistant, screen: Screen) -> None:
    """Start a Home Assistant."""
    await each.boot()
    config = await each.client.get("config")
    where = f"“{config['location_name']}” answers at {each.instance.url}"
    screen.step(f"Home Assistant {config['version']} {where}")


async def introduce(pair: Pair[AnyBuilder], screen: Screen) -> None:
    """Start the builder, have it lend its machine, and pair the two through the dialog."""
    builder = pair.builder
    if isinstance(builder, Builder):
        await boot(builder, screen)
        await builder.set_up()
        await builder.lend(slots=2)
        lends = f"“{builder.name}” lends its machine"
        screen.step(f"{lends}; it has neither devices nor an ESPHome folder")
    elif isinstance(builder, StandaloneBuilder):
        screen.step("installing the standalone builder, where no Home Assistant can be imported")
        # A machine that cannot contain builds would refuse; this demo builds its own device only.
        await builder.open("--uncontained")
        screen.step(f"“{builder.name}” answers at {builder.url}: a process of its own")
    await pair.introduce(builder.url)
    await pair.connected()
    screen.step(f"“offloader” is paired with “{builder.name}”, pin {pair.pin_sha256[:16]}…")


async def install(offloader: Offloader, entity: str, screen: Screen) -> dict[str, Json]:
    """Press Install, show what happens, and return once Home Assistant reports the new version."""
    client = offloader.client
    from_version = await offloader.reported_version()
    if from_version != FIRST_VERSION:
        raise DemoFailedError(f"the device reports {from_version} at the start")
    offered = await until(lambda: _latest(client, entity), "the newest version")
    # What the Install button sends; a version only when a newer one than ours is out by now.
    wanted = {} if offered == NEW_VERSION else {"version": NEW_VERSION}
    screen.step(f"calling update.install: {from_version} → {NEW_VERSION}")
    started = time.monotonic()
    async with client.subscribe(
        "subscribe_events", event_type="esphome_offload_job_queued"
    ) as queued:
        pressed = asyncio.create_task(
            client.service("update.install", {"entity_id": entity}, wanted, seconds=LONGEST_JOB)
        )
        try:
            job_id = await _job_id(queued, pressed)
            job = await show(client, job_id, screen)
            with suppress(RequestFailedError):  # what went wrong is in the job
                await pressed
        finally:
            pressed.cancel()
    if job["status"] != "completed":
        raise DemoFailedError(f"{job['failure_reason']}: {job['error']}")

    async def updated() -> str | None:
        version = await offloader.reported_version()
        return version if version == NEW_VERSION else None

    to_version = await until(updated, f"{NEW_VERSION} in Home Assistant's device")
    return {
        "result": "ok",
        "source": job["source"],
        "source_label": job["source_label"],
        "source_pin_sha256": job["source_pin_sha256"],
        "from_version": from_version,
        "to_version": to_version,
        "seconds": round(time.monotonic() - started, 1),
        "stages": job["stages"],
    }


async def show(client: Client, job_id: str, screen: Screen) -> Job:
    """Print a job's output as it comes, with stage and percentage; return the job at its end."""
    stage: str | None = None
    builder: str | None = None

    def shown(event: Json) -> None:
        nonlocal stage, builder
        job = event["job"]
        if job["source"] != "pending" and job["source_label"] != builder:
            builder = job["source_label"]
            screen.step(f"{builder} builds ({job['source']}, {job['routing_reason']})")
        if job["stage"] != stage and not event["terminal"]:
            stage = job["stage"]
            screen.step(str(stage))
        for line in event["lines"]:
            screen.job(stage, job["progress"], line)

    return await follow(client, job_id, shown=shown)


async def _latest(client: Client, entity: str) -> str | None:
    state = await client.state(entity)
    return None if state is None else state["attributes"].get("latest_version")


async def _job_id(queued: asyncio.Queue[Json], pressed: asyncio.Task[Json]) -> str:
    event = asyncio.create_task(queued.get())
    await asyncio.wait({event, pressed}, return_when=asyncio.FIRST_COMPLETED)
    if not event.done():
        event.cancel()
        await pressed  # raises why Home Assistant refused it
        raise DemoFailedError("update.install returned without starting a job")
    job_id: str = event.result()["data"]["job_id"]
    return job_id


async def _main(where: Where, *, keep: bool, folder_name: str) -> int:
    _cancel_on_signals()
    result: dict[str, Json]
    try:
        with claim(folder_name) as folder:
            result = await run_demo(folder, Screen(), where, keep=keep)
    except asyncio.CancelledError:
        result = {"result": "failed", "reason": "interrupted"}
    except _FAILURES as error:
        result = {"result": "failed", "reason": str(error) or type(error).__name__}
    print(json.dumps(result, ensure_ascii=False), flush=True)
    return 0 if result["result"] == "ok" else 1


def _cancel_on_signals() -> None:
    """Have the first signal cancel the current task, which then stops all that it has started."""
    task = asyncio.current_task()
    assert task is not None
    cancel = task.cancel
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:  # a second Ctrl-C must not keep it from stopping things
            interrupted = True
            cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave everything running, with something to try, until Ctrl-C",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--local", action="store_true", help="one Home Assistant, without a peer")
    who.add_argument("--builder", action="store_true", help="the standalone builder builds")
    parser.add_argument(
        "--folder", default="demo", help="the name of its folder in .cache (default: demo)"
    )
    arguments = parser.parse_args()
    where = Where.LOCAL if arguments.local else Where.HOME_ASSISTANT
    if arguments.builder:
        where = Where.STANDALONE
    return asyncio.run(_main(where, keep=arguments.keep, folder_name=arguments.folder))


if __name__ == "__main__":
    sys.exit(main())
