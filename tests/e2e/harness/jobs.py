"""Jobs as Home Assistant's API shows them."""

import asyncio
from collections.abc import Callable, Mapping

from .client import Client, Json

DOMAIN = "esphome_offload"

type Job = Mapping[str, Json]

# A first install makes an environment and compiles everything, perhaps on a busy machine.
LONGEST_JOB = 1800.0


class UnexpectedEndError(Exception):
    """A job ended before the state that was waited for; the message has its error."""


async def follow(
    client: Client,
    job_id: str,
    *,
    shown: Callable[[Json], None] | None = None,
    seconds: float = LONGEST_JOB,
) -> Job:
    """Follow a job to its end and return it; ``shown`` gets every message on the way."""
    return await _follow(client, job_id, lambda event: event["terminal"], shown, seconds)


async def reach(
    client: Client, job_id: str, what: Callable[[Json], bool], *, seconds: float = LONGEST_JOB
) -> Job:
    """Follow a job to the first message for which ``what`` is true; return the job as it is then.

    Raises UnexpectedEndError when it ends before.
    """

    def reached(event: Json) -> bool:
        if what(event):
            return True
        if event["terminal"]:
            job = event["job"]
            raise UnexpectedEndError(f"{job['status']} {job['failure_reason']}: {job['error']}")
        return False

    return await _follow(client, job_id, reached, None, seconds)


def has(text: str | None, part: str) -> bool:
    """Return whether a text for people has another one in it, whatever it begins with."""
    return part.casefold() in (text or "").casefold()


def in_stage(stage: str) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: the job is in a stage."""
    return lambda event: event["job"]["stage"] == stage and not event["job"]["finished_at"]


def has_printed(text: str) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: a line of output has ``text`` in it."""
    return lambda event: any(text in line for line in event["lines"])


async def job_now(client: Client, job_id: str) -> Job:
    """Return a job as it is now."""
    return await reach(client, job_id, lambda _event: True)


async def cancel_all(client: Client) -> None:
    """Cancel all jobs that have not ended."""
    for job in await all_jobs(client):
        if job["finished_at"] is None:
            await client.service(f"{DOMAIN}.cancel", None, {"job_id": job["job_id"]})


async def output(client: Client, job_id: str) -> list[str]:
    """Return all lines that a job has printed so far."""
    lines: list[str] = []
    while True:
        wanted = {"job_id": job_id, "from_line": len(lines), "limit": 5000}
        page = await client.service(f"{DOMAIN}.get_log", None, wanted, response=True)
        lines += page["lines"]
        if not page["lines"]:
            return lines


async def submit(client: Client, action: str, entity_id: str, **data: Json) -> Job:
    """Call one of our actions for one entity and return the job that it started."""
    target = {"entity_id": entity_id}
    answer = await client.service(f"{DOMAIN}.{action}", target, data, response=True)
    (job,) = answer["jobs"]
    return job  # type: ignore[no-any-return]


async def all_jobs(client: Client) -> list[Job]:
    """Return all jobs, newest first."""
    answer = await client.service(f"{DOMAIN}.get_jobs", None, {"limit": 500}, response=True)
    return answer["jobs"]  # type: ignore[no-any-return]


async def _follow(
    client: Client,
    job_id: str,
    done: Callable[[Json], bool],
    shown: Callable[[Json], None] | None,
    seconds: float,
) -> Job:
    async with (
        asyncio.timeout(seconds),
        client.subscribe(f"{DOMAIN}/job/follow", job_id=job_id) as events,
    ):
        while True:
            event = await events.get()
            if shown is not None:
                shown(event)
            if done(event):
                return event["job"]  # type: ignore[no-any-return]
