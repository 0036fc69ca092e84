"""The promise: a merge never allows what none of its sides allowed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.policy import Author, Effect, Kind, Mode, PolicyStore, Request, own
from mcpcore.policy.log import PolicyLog
from tests.policy.world import QUESTIONS, World, access, allowed, at


def joins(world: World, steps: int) -> list[tuple[PolicyStore, set[int], set[int]]]:
    """Walk; at every meeting of two clouds, what either allowed and what the merge allows."""
    met = []
    for _ in range(steps):
        world.walk()
        if world.dice.random() < 0.35:
            a, b = world.dice.sample(world.stores, 2)
            before = allowed(a) | allowed(b)
            a.join(b)
            met.append((a, before, allowed(a)))
    return met


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1 << 32))
def test_a_merge_never_allows_what_neither_side_allowed(seed):
    for _, before, after in joins(World(Mode.GUARDED, seed), 35):
        grown = after - before
        assert not grown, [str(QUESTIONS[i]) for i in sorted(grown)]


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1 << 32))
def test_edits_that_arrive_without_the_log_never_allow_more(seed):
    """Anti-entropy and Raft are two roads: edits may come long before the log that orders them."""
    world = World(Mode.GUARDED, seed)
    for _ in range(30):
        world.walk()
        a, b = world.dice.sample(world.stores, 2)
        before = allowed(a)
        a.join(b.state)
        assert allowed(a) <= before


def test_the_histories_of_these_laws_do_allow_and_do_loosen():
    """Otherwise the laws above would hold of nothing."""
    some, learned, unequal = 0, 0, 0
    for seed in range(6):
        world = World(Mode.GUARDED, seed)
        for store, before, after in joins(world, 35):
            some += bool(after)
            learned += store.prefix.epoch > 2
            unequal += before != after
    assert some > 20
    assert learned > 20
    assert unequal > 3


def test_optimistic_replicas_break_the_promise_and_every_break_is_on_the_list():
    """Deny-biased sets alone are not safe; who wants them gets the list of what may be wrong."""
    broken = 0
    for seed in range(25):
        for store, before, after in joins(World(Mode.OPTIMISTIC, seed), 35):
            if not after <= before:
                broken += 1
                assert any(c.kind is Kind.LOOSENING for c in store.conflicts), seed
    assert broken > 0


def pair(mode: Mode) -> tuple[PolicyLog, PolicyStore, PolicyStore]:
    """Two clouds that agree: a forbid stands over what nobody permits."""
    log = PolicyLog()
    log.apply(1, own("a", "a"))
    one = PolicyStore("east/1", prefix=log.prefix, mode=mode)
    one.add(Author("a"), access(Effect.FORBID, "a", "*", "write", "a/x"), at(1), "freeze")
    return log, one, one.copy("west/1")


WRITE = access(Effect.PERMIT, "a", "a/ann", "write", "a/x")
FREEZE = access(Effect.FORBID, "a", "*", "write", "a/x")


def question():
    return Request("a/ann", "write", "a/x")


def test_the_counterexample_a_permit_here_meets_a_lifted_forbid_there():
    """Two operations, and both replicas deny; the optimistic merge allows, and says so."""
    _, east, west = pair(Mode.OPTIMISTIC)
    east.add(Author("a"), WRITE, at(2))
    west.drop(Author("a"), FREEZE, at(2))
    assert not east.decide(question())
    assert not west.decide(question())

    east.join(west)

    assert east.decide(question())
    (conflict,) = [c for c in east.conflicts if c.kind is Kind.LOOSENING]
    assert {edit.cloud for edit in conflict.edits} == {"east", "west"}


def test_guarded_replicas_keep_both_loosenings_waiting_and_the_log_takes_them_in_turn():
    log, east, west = pair(Mode.GUARDED)
    east.add(Author("a"), WRITE, at(2))
    west.drop(Author("a"), FREEZE, at(2))

    east.join(west)

    assert not east.decide(question())
    assert len(east.view.pending) == 2
    for index, command in enumerate(east.to_order(), 2):
        log.apply(index, command)
    east.follow(log.prefix)
    assert east.decide(question())
    assert east.view.pending == []


@pytest.mark.parametrize("mode", Mode)
def test_tightening_needs_nobody(mode):
    log, east, west = pair(mode)
    before = allowed(east)
    west.add(Author("a"), access(Effect.FORBID, "a", "*", "read", "a/*"), at(3))
    assert allowed(west) <= before
    assert not log.prefix.loosenings


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_long_history_breaks_the_promise():
    """More clouds, longer walks, many seeds."""
    for seed in range(400):
        for _, before, after in joins(World(Mode.GUARDED, 10_000 + seed, clouds=4), 90):
            assert after <= before, seed
