"""Places at a target: who gets one, who is told that there is none, and nobody is forgotten."""

from __future__ import annotations

import asyncio

from mcpcore.errors import TargetUnavailable
from mcpcore.saga import Fuse, TargetSettings
from mcpcore.saga.engine.targets import Target


def target(*, failures: int = 5) -> Target:
    """One place, and nine may wait for it."""
    fuse = Fuse(timeout_s=1, failures=failures, open_s=60)
    settings = TargetSettings(fuse=fuse, calls_max=1, waiting_max=9)
    return Target("t", settings, lambda: 1, lambda name, state: None)


async def test_when_the_circuit_opens_everybody_who_waits_for_a_place_is_told() -> None:
    """One freed place wakes one; if that one is refused, the place is the next one's."""
    sick = target(failures=1)
    first = sick.try_enter()
    assert first is not None
    waiting = [asyncio.ensure_future(sick.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    first.give_back(False)
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, TargetUnavailable) for answer in answers)


async def test_a_freed_place_belongs_to_whoever_waited_longest() -> None:
    busy = target()
    first = busy.try_enter()
    assert first is not None
    order: list[int] = []

    async def enter(number: int) -> None:
        ticket = await busy.enter()
        order.append(number)
        ticket.give_back(True)

    waiting = [asyncio.ensure_future(enter(number)) for number in range(3)]
    await asyncio.sleep(0)
    first.give_back(True)
    assert busy.try_enter() is None, "the place is promised"
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]


async def test_whoever_gives_up_while_a_place_becomes_free_takes_nobody_elses_and_keeps_none() -> (
    None
):
    busy = target()
    first = busy.try_enter()
    assert first is not None
    gives_up, stays = (asyncio.ensure_future(busy.enter()) for _ in range(2))
    await asyncio.sleep(0)
    gives_up.cancel()
    first.give_back(True)  # in the same turn of the loop
    async with asyncio.timeout(5):
        second = await stays
    assert gives_up.cancelled()

    leaves = asyncio.ensure_future(busy.enter())
    await asyncio.sleep(0)
    second.give_back(True)
    leaves.cancel()  # the place was promised to it already
    await asyncio.wait({leaves})
    assert busy.try_enter() is not None
