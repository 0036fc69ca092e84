"""Changes of verdicts as a stream: the newest of each group, and never silence about a gap."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node import verdict_stream
from mcpcore.node.client.verdicts import VerdictTold, follow_verdicts
from mcpcore.node.verdict_stream import VerdictStream, VerdictWatch
from mcpcore.raft.evidence import Evidence
from mcpcore.raft.split import SplitDetector, SplitState, Verdict
from tests.node.simulated_cluster import NAMES, client_of
from tests.node.test_verdicts_in_simulator import TIMEOUT_S, settled

STATES = tuple(SplitState)


def verdict(group: str, state: SplitState = SplitState.HEALTHY) -> Verdict:
    evidence = Evidence(
        node="a", group=group, leads=True, leader="a", term=1, contact_age_ns=0,
        election_timeout_ns=10**9, commit=1, last_index=1, peers=(),
    )  # fmt: skip
    told = SplitDetector().observe(evidence, 0)
    assert told is not None
    return replace(told, state=state)


def stream() -> VerdictStream:
    return VerdictStream(lambda left: None)


@given(st.lists(st.tuples(st.sampled_from("gh"), st.sampled_from(STATES)), min_size=1))
@settings(deadline=None)
def test_a_slow_listener_ends_with_the_newest_of_each_group_and_knows_what_it_missed(
    changes: list[tuple[str, SplitState]],
) -> None:
    heard = stream()
    for group, state in changes:
        heard.put(verdict(group, state))
    told = []
    while (changed := heard.pop()) is not None:
        told.append(changed)
    assert {each.verdict.group: each.verdict.state for each in told} == dict(changes)
    assert len(told) + sum(each.passed_over for each in told) == len(changes)


def test_what_waits_is_bounded_and_says_that_something_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdict_stream, "GROUPS_WAITING_MAX", 2)
    heard = stream()
    for group in "ghi":
        heard.put(verdict(group))
    first, second = heard.pop(), heard.pop()
    assert first is not None
    assert second is not None
    assert (first.verdict.group, first.passed_over) == ("h", 1)
    assert (second.verdict.group, second.passed_over) == ("i", 0)
    assert heard.pop() is None


async def test_a_listener_waits_and_is_done_when_the_stream_is_closed() -> None:
    left: list[VerdictStream] = []
    heard = VerdictStream(left.append)
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, heard.put, verdict("g"))
    loop.call_later(0.05, heard.close)
    assert [changed.verdict.group async for changed in heard] == ["g"]
    heard.close()
    assert left == [heard]


async def test_a_closed_stream_ends_the_watch_of_a_client() -> None:
    heard = stream()
    watch = VerdictWatch(heard)
    heard.put(verdict("g"))
    events, over = watch.take()
    assert (len(events), over) == (1, False)
    watch.cancel()
    assert watch.take() == ([], True)


def test_every_node_tells_a_client_of_its_changes_and_a_lost_node_is_told_once() -> None:
    """Over the wire: a member is cut off from the others, and its client still hears it."""
    world, cluster, leader, others = settled()
    told: list[VerdictTold] = []

    async def main() -> None:
        async with (
            client_of(cluster, "listener") as client,
            aclosing(follow_verdicts(client)) as changes,
        ):
            async for each in changes:
                told.append(each)

    async def in_process() -> list[Any]:
        async with cluster.nodes[others[0]].verdicts() as changes:
            async for changed in changes:
                return [changed.verdict.state, changed.passed_over]
        return []

    try:
        world.host("listener", main)
        world.run(1)
        cut = world.inject("partition", others[0], to=(leader, others[1]))
        world.run(4 * TIMEOUT_S)
        assert world.call(others[0], in_process(), within_s=1) == [SplitState.READ_ONLY, 0]
        cut.end()
        world.run(6)
        states = [each.verdict["state"] for each in told if each.node == others[0]]
        assert states == ["suspect", "read_only", "healthy"]
        assert {each.node for each in told} <= set(NAMES)
        world.inject("crash", others[1])
        world.run(12)
        assert [each.node for each in told if each.lost] == [others[1]]
    finally:
        world.__exit__(None, None, None)
