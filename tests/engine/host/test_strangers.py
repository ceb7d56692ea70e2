"""Connections on which nobody has proven to be a guest: bounded, fair, and a few at a time."""

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.host.strangers import (
    Stranger,
    Strangers,
    Turns,
    network_of,
)


def request(remote: str | None) -> web.Request:
    return cast("web.Request", SimpleNamespace(remote=remote, transport=Mock()))


def admit(strangers: Strangers, remote: str, *, waiting: bool = True) -> Stranger:
    admitted = strangers.admit(request(remote))
    assert admitted is not None
    admitted.waiting = waiting
    return admitted


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", None, True),
        ("unix", None, False),
    ],
)
def test_a_network_is_an_ipv4_address_or_the_64_of_an_ipv6_address(
    address: str, other: str | None, same: bool
) -> None:
    assert (network_of(address) == network_of(other)) is same


def test_those_of_the_largest_network_make_room_the_oldest_idle_one_first() -> None:
    strangers = Strangers(limit=4)
    quiet = admit(strangers, "192.0.2.1")
    busy = admit(strangers, "2001:db8::1", waiting=False)
    idle = [admit(strangers, f"2001:db8::{number}") for number in (2, 3)]
    admit(strangers, "192.0.2.2")
    assert [each.evicted for each in (quiet, busy, *idle)] == [False, False, True, False]
    admit(strangers, "2001:db8::4")
    assert [each.evicted for each in (quiet, busy, *idle)] == [False, False, True, True]


def test_a_network_that_fills_everything_locks_out_only_itself() -> None:
    strangers = Strangers(limit=3)
    crowd = [admit(strangers, "2001:db8::1", waiting=False) for _ in range(3)]
    assert strangers.admit(request("2001:db8::2")) is None
    assert not any(each.evicted for each in crowd)
    admit(strangers, "192.0.2.1")
    assert [each.evicted for each in crowd] == [True, False, False]


def test_who_has_left_makes_room() -> None:
    strangers = Strangers(limit=1)
    first = admit(strangers, "192.0.2.1", waiting=False)
    assert strangers.admit(request("192.0.2.1")) is None
    strangers.leave(first)
    strangers.leave(first)
    admit(strangers, "192.0.2.1")


def test_a_broken_connection_has_no_transport() -> None:
    gone = Stranger(cast("web.Request", SimpleNamespace(remote=None, transport=None)))
    gone.evict()
    assert gone.evicted


async def test_few_turns_are_granted_in_one_round_of_the_loop() -> None:
    turns = Turns()
    rounds: list[int] = []
    now = 0

    async def stranger() -> None:
        await turns.wait()
        rounds.append(now)

    tasks = [asyncio.create_task(stranger()) for _ in range(21)]
    tasks[2].cancel()
    while not all(task.done() for task in tasks):
        now += 1
        await asyncio.sleep(0)
    assert len(rounds) == 20
    assert rounds == sorted(rounds)
    assert max(rounds.count(each) for each in rounds) <= 4
