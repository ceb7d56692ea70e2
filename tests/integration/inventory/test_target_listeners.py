"""Who is told of which changes, also in a fleet of hundreds."""

import asyncio

from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.inventory.target_listeners import TargetListeners

MANY = [f"device{number}.yaml" for number in range(300)]


@pytest.fixture
def listeners(hass: HomeAssistant) -> TargetListeners:
    return TargetListeners(hass)


def follow(listeners: TargetListeners, targets: list[str]) -> list[str]:
    """Follow each of the targets; return the list that then holds those that changed."""
    told: list[str] = []
    for target in targets:
        listeners.subscribe(lambda target=target: told.append(target), lambda target=target: target)  # type: ignore[misc]
    return told


def test_of_a_change_those_alone_are_told_that_follow_it(listeners: TargetListeners) -> None:
    told = follow(listeners, MANY)
    asked: list[str] = []
    listeners.subscribe(lambda: None, lambda: asked.append("asked") or "other.yaml")  # type: ignore[func-returns-value]
    asked.clear()
    of_any: list[None] = []
    listeners.subscribe(lambda: of_any.append(None), None)
    listeners.notify((MANY[7], "unknown.yaml"))
    assert told == [MANY[7]]
    assert len(of_any) == 1
    assert not asked


async def test_of_many_changes_all_are_told_a_few_at_a_time(
    hass: HomeAssistant, listeners: TargetListeners
) -> None:
    told = follow(listeners, MANY)
    rounds: list[int] = []
    listeners.notify(None)
    listeners.notify(MANY[:100])
    while len(told) < len(MANY):
        await asyncio.sleep(0)
        rounds.append(len(told))
    assert max(after - before for before, after in zip([0, *rounds], rounds, strict=False)) < 60
    await hass.async_block_till_done()
    assert sorted(told) == sorted(MANY)


async def test_what_changes_while_many_are_told_is_told_too(
    hass: HomeAssistant, listeners: TargetListeners
) -> None:
    told = follow(listeners, MANY)
    listeners.notify(None)
    await asyncio.sleep(0)
    assert told
    first = told[0]
    listeners.notify(None)
    await hass.async_block_till_done()
    assert told.count(first) == 2


def test_a_listener_that_follows_another_target_now_is_told_of_that(
    listeners: TargetListeners,
) -> None:
    target, told = "old.yaml", []
    unsubscribe = listeners.subscribe(lambda: told.append(target), lambda: target)
    target = "new.yaml"
    listeners.moved("old.yaml")
    listeners.notify(("old.yaml",))
    assert told == []
    listeners.notify(("new.yaml",))
    assert told == ["new.yaml"]

    unsubscribe()
    listeners.notify(("new.yaml",))
    assert told == ["new.yaml"]
