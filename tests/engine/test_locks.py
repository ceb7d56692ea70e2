import asyncio

from custom_components.esphome_offload.engine.locks import Locks


async def test_a_key_has_one_lock_as_long_as_somebody_holds_or_wants_it() -> None:
    locks = Locks()
    order: list[str] = []

    async def hold(name: str) -> None:
        async with locks["lamp"]:
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    async with locks["lamp"]:
        assert locks["lamp"].locked()
        assert not locks["fan"].locked()
        both = asyncio.gather(hold("a"), hold("b"))
        await asyncio.sleep(0)
    await both
    assert order == ["a", "a", "b", "b"]


async def test_locks_that_nobody_holds_are_not_kept() -> None:
    locks = Locks()
    for number in range(100):
        async with locks[f"{number}"]:
            assert len(locks) == 1
    assert len(locks) == 0
