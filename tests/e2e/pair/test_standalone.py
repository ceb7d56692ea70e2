"""What the standalone builder alone has: its commands, its log, and how it ends."""

import asyncio
import json
import time

import pytest

from ..harness.jobs import follow, job_now, output, submit
from ..harness.pair import Pair
from ..harness.relay import Relay
from ..harness.standalone import StandaloneBuilder
from ..harness.waiting import PATIENCE, until
from .checks import STANDALONE, Talking, assert_compiled, assert_well

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.builders(STANDALONE),
]


async def test_status_and_log_tell_of_a_build(
    pair: Pair[StandaloneBuilder], compiling: Talking
) -> None:
    builder = pair.builder
    (build,) = (await builder.json("status"))["builds"]
    told = (build["guest"], build["device"], build["stage"])
    assert told == ("offloader", pair.offloader.device.name, "compiling")
    compiling.go_on()
    assert_compiled(pair, await follow(pair.offloader.client, compiling.job_id))
    status = await builder.json("status")
    assert status["builds"] == []
    assert status["ccache"] is True
    assert status["ccache_files"] > 0
    printed = await output(pair.offloader.client, compiling.job_id)
    assert any("Compiler cache: " in line for line in printed)
    lines = builder.log.splitlines()
    for event in ("Build submitted", "Build started", "Build completed"):
        assert any(event in line for line in lines), event
    assert all(line[:4].isdigit() for line in lines)


async def test_firmware_that_was_built_is_there_after_a_crash(
    pair: Pair[StandaloneBuilder], relay: Relay, entity: str
) -> None:
    state = pair.builder.data / "guest-builds.json"
    pair.offloader.device.configure(greeting="kept")
    relay.stall_downloads()
    try:
        job = await submit(pair.offloader.client, "compile", entity)
        await asyncio.wait_for(relay.stalled.wait(), PATIENCE)
        attempt_id = (await job_now(pair.offloader.client, job["job_id"]))["attempts"][-1][
            "attempt_id"
        ]

        async def kept() -> bool:
            # How it ended is written a moment later.
            return attempt_id in json.dumps(json.loads(state.read_text())["attempts"])

        await until(kept, "the end of the build to be on disk")
        await pair.builder.crash()
        await pair.builder.boot()
    finally:
        await relay.resume_downloads()
    job = await follow(pair.offloader.client, job["job_id"])
    assert_compiled(pair, job)
    assert len(job["attempts"]) == 1


async def test_sigterm_ends_it_and_its_builds_within_ten_seconds(
    pair: Pair[StandaloneBuilder], compiling: Talking
) -> None:
    builder = pair.builder
    began = time.monotonic()
    assert await builder.terminate() == 0
    assert time.monotonic() - began < 10
    assert builder.build_processes() == {}
    assert "Traceback" not in builder.log
    await builder.boot()
    follower = asyncio.create_task(follow(pair.offloader.client, compiling.job_id))

    async def over() -> bool:
        # The build that takes its place talks as well.
        compiling.go_on()
        return follower.done()

    await until(over, "the end of the job")
    assert_well(await follower)
