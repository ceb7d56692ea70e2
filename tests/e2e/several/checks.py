"""What these tests do and check again and again."""

from collections.abc import Callable

from ..harness.client import Json
from ..harness.home import Home, until
from ..harness.jobs import (
    Job,
    follow,
    reach,
    submit,
)
from ..harness.several import Several
from ..harness.workshop import BuildServices


async def start(home: Home, device: str, action: str = "compile", **data: Json) -> str:
    """Start a job for a device of a home and return its id."""
    entity = await home.update_entity(f"{device}.yaml")
    job_id: str = (await submit(home.client, action, entity, **data))["job_id"]
    return job_id


async def compiled(home: Home, device: str, **data: Json) -> Job:
    """Compile, and return the job when it has ended, however."""
    return await follow(home.client, await start(home, device, **data))


async def as_it_is(home: Home, job_id: str) -> Job:
    """Return a job as it is now."""
    return await reach(home.client, job_id, lambda _event: True)


def waits_for(*reasons: str) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: the job waits, and names all of this."""
    return lambda event: all(reason in (event["job"]["waiting_for"] or "") for reason in reasons)


async def known(several: Several, builder: BuildServices, why_not: str | None) -> None:
    """Wait until the pi knows why a builder takes nothing; None for that it takes builds."""
    path = f"diagnostics/config_entry/{several.entries['pi', builder.name]}"

    async def so() -> bool:
        status: Json = (await several.pi.client.get(path))["data"]["builder"]
        return bool(status["why_not"] == why_not)

    await until(so, f"{builder.name} to be known as {why_not or 'available'}")


async def set_no_builder(home: Home, what: str) -> None:
    """Choose what becomes of a job that no builder takes."""
    await home.client.change_options(home.entry_id, "settings", no_builder=what)


def assert_built_by(label: str, job: Job) -> None:
    assert job["status"] == "completed", job["error"]
    assert job["source_label"] == label, job["why_not"]
