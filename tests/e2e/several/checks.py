"""Steps and checks that these tests share."""

from collections.abc import Callable

from ..harness.builder import Builder
from ..harness.client import Json
from ..harness.four_instances import FourInstances
from ..harness.jobs import Job, follow, has, submit
from ..harness.offloader import Offloader
from ..harness.waiting import until


async def start(offloader: Offloader, device: str, action: str = "compile", **data: Json) -> str:
    """Start a job for a device of an offloader and return its id."""
    entity = await offloader.update_entity(f"{device}.yaml")
    job_id: str = (await submit(offloader.client, action, entity, **data))["job_id"]
    return job_id


async def compiled(offloader: Offloader, device: str, **data: Json) -> Job:
    """Compile, and return the job when it has ended, well or not."""
    return await follow(offloader.client, await start(offloader, device, **data))


def waits_for(*reasons: str) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: the job waits, and gives all these reasons."""
    return lambda event: all(has(event["job"]["waiting_for"], reason) for reason in reasons)


async def known(instances: FourInstances, builder: Builder, why_not: str | None) -> None:
    """Wait until ``first`` knows why a builder takes no builds; None means that it takes them."""
    path = f"diagnostics/config_entry/{instances.entries['first', builder.name]}"

    async def reported() -> bool:
        status: Json = (await instances.first.client.get(path))["data"]["builder"]
        return status["why_not"] is None if why_not is None else has(status["why_not"], why_not)

    await until(reported, f"{builder.name} to be known as {why_not or 'available'}")


async def set_no_builder(offloader: Offloader, what: str) -> None:
    """Set the option for jobs that no builder takes."""
    await offloader.client.change_options(offloader.entry_id, "settings", no_builder=what)


def assert_built_by(label: str, job: Job) -> None:
    assert job["status"] == "completed", job["error"]
    assert job["source_label"] == label, job["why_not"]
