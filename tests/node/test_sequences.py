"""The client's half of "exactly once": a number is used once, and given up only when answered."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.sequences import WINDOW, Sequences
from mcpcore.raft.sessions import SessionLimits


@given(st.lists(st.integers(0, 9), max_size=200))
@settings(deadline=None)
def test_acknowledged_are_exactly_the_numbers_below_the_lowest_one_under_way(
    ends: list[int],
) -> None:
    sequences, out, used = Sequences(7), {}, set()
    for end in ends:
        stack = ExitStack()
        number = stack.enter_context(sequences.next())
        assert number not in used, "a number is for one command"
        used.add(number)
        out[number] = stack
        if end < len(out):  # one of those under way is answered
            out.pop(sorted(out)[end]).close()
        sequences.check()
        assert sequences.acknowledged_below == min(out, default=len(used))


async def test_no_more_are_under_way_than_the_window_and_waiters_go_on_one_by_one() -> None:
    sequences, taken = Sequences(1), []
    first = ExitStack()
    first.enter_context(sequences.next())
    with ExitStack() as rest:
        for _ in range(WINDOW - 1):
            rest.enter_context(sequences.next())
        assert not sequences.has_room

        async def one() -> None:
            await sequences.room()
            with sequences.next() as number:
                sequences.check()
                taken.append(number)
                await asyncio.sleep(0)

        waiting = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.sleep(0)
        assert not taken
        first.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert taken == [WINDOW], "one number was answered, so there is room for one more"
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting)
    assert taken == list(range(WINDOW, WINDOW + 5))


def test_the_window_leaves_the_nodes_room_to_remember_every_answer() -> None:
    assert SessionLimits().window >= 2 * WINDOW
