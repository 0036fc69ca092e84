"""Commit wait on the event loop: never early, never spinning, never without an end."""

import asyncio

import pytest

from mcpcore.clock import Timestamp
from mcpcore.errors import ClockUncertain, CommitWaitTooLong
from mcpcore.node.commit_wait import wait_until_past

MS = 1_000_000


class Clock:
    """Says what is left as it was told to, then that nothing is."""

    def __init__(self, *left_ns):
        self.left_ns = list(left_ns)
        self.asked = 0

    def wait_until_past_ns(self, timestamp):
        self.asked += 1
        return self.left_ns.pop(0) if self.left_ns else 0


async def waited_s(clock, limit_ns=1000 * MS):
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await wait_until_past(clock, Timestamp(0), limit_ns=limit_ns)
    return loop.time() - begun


async def test_what_has_passed_is_not_waited_for():
    clock = Clock()

    assert await waited_s(clock) < 0.5
    assert clock.asked == 1


async def test_it_sleeps_as_long_as_the_clock_says_and_asks_again():
    clock = Clock(30 * MS, 20 * MS)

    assert await waited_s(clock) >= 0.0499
    assert clock.asked == 3, "uncertainty may have grown meanwhile"


async def test_a_few_nanoseconds_left_are_slept_not_spun():
    clock = Clock(*[1] * 20)

    assert await waited_s(clock) >= 20 * 0.0001
    assert clock.asked == 21


async def test_a_wait_beyond_the_limit_is_refused_at_once():
    loop = asyncio.get_running_loop()
    begun = loop.time()

    with pytest.raises(CommitWaitTooLong, match=r"3600\.000000 s left") as caught:
        await waited_s(Clock(3600 * 1000 * MS))

    assert loop.time() - begun < 0.5
    assert caught.value.wait_ns == 3600 * 1000 * MS


async def test_a_clock_that_never_gets_there_cannot_hold_the_caller():
    with pytest.raises(CommitWaitTooLong):
        await waited_s(Clock(*[20 * MS] * 100), limit_ns=100 * MS)


async def test_without_agreement_nobody_can_tell():
    with pytest.raises(ClockUncertain, match="no majority"):
        await waited_s(Clock(None))
