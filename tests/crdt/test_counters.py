"""Counters: rights that never overspend, resets that remember what they must."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from mcpcore.crdt import BoundedCounter, Counter, GCounter, GSet, PNCounter, collect, join
from mcpcore.errors import InvalidInput, RightsExhausted
from tests.crdt.history import Replicas, programs
from tests.crdt.subjects import REPLICAS, SUBJECTS


@settings(deadline=None, max_examples=60)
@given(programs(SUBJECTS["BoundedCounter"], size=24))
def test_a_quota_is_never_overspent_however_the_replicas_are_cut_off(program):
    """Balegas et al. 2015: each checks its own rights only, and the sum never goes below zero."""
    replicas = Replicas(SUBJECTS["BoundedCounter"]).run(program)
    for view, replica in zip(replicas.views, REPLICAS, strict=True):
        assert view.rights(replica) >= 0
    for giver, taker in ((0, 1), (1, 2), (2, 0), (0, 1)):
        replicas.meet(giver, taker)
    merged = replicas.views[0]
    granted = sum(e.op[1] for e in replicas.events if e.op[0] == "grant")
    spent = sum(e.op[1] for e in replicas.events if e.op[0] == "spend")
    assert spent <= granted
    assert merged.value() == granted - spent == sum(map(merged.rights, REPLICAS))


def test_rights_that_a_replica_does_not_hold_can_neither_be_spent_nor_given():
    quota = BoundedCounter()
    quota.grant("a/1", 5)
    quota.transfer("a/1", "b/1", 2)
    before = quota.state.copy()
    with pytest.raises(RightsExhausted, match="rights for 3, not for 4") as refused:
        quota.spend("a/1", 4)
    assert (refused.value.held, refused.value.wanted) == (3, 4)
    with pytest.raises(RightsExhausted):
        quota.transfer("a/1", "c/1", 4)
    with pytest.raises(InvalidInput, match="the same"):
        quota.transfer("a/1", "a/1", 1)
    assert quota.state == before
    quota.spend("b/1", 2)
    assert quota.value() == 3


def test_a_reset_passes_on_what_the_resets_before_it_had_seen():
    a = Counter()
    a.add("a/1", 5)
    b = a.copy()
    b.reset("b/1")
    a.add("a/1", 1)  # concurrent with the first reset
    b.add("b/1", 7)
    b.reset("b/1")  # replaces the first reset, of which a has not heard either
    assert len(b.state.entries) == 1
    assert Counter(join(a.state, b.state)).value() == 1


def test_a_base_stays_while_a_running_total_still_contains_what_was_reset():
    a = Counter()
    a.add("a/1", 5)
    b = a.copy()
    b.reset("b/1")
    a.add("a/1", 1)
    a.join(b)
    collect(a.state, a.state.context)
    assert a.value() == 1
    a.add("a/1", 1)
    assert a.value() == 2
    a.reset("a/1")
    collect(a.state, a.state.context)
    assert a.state.entries == {}


@pytest.mark.parametrize("amount", [-1, 1.5, "1", True, None])
def test_only_amounts_can_be_counted(amount):
    for change in (GCounter().increment, PNCounter().decrement, BoundedCounter().grant):
        with pytest.raises(InvalidInput, match="no amount"):
            change("a/1", amount)


def test_a_counter_refuses_to_overflow_rather_than_to_wrap():
    view, counter = GCounter(), Counter()
    view.increment("a/1", (1 << 63) - 1)
    counter.add("a/1", (1 << 63) - 1)
    with pytest.raises(InvalidInput, match="beyond"):
        view.increment("a/1")
    with pytest.raises(InvalidInput, match="beyond"):
        counter.add("a/1", 1)
    assert (view.value(), counter.value()) == ((1 << 63) - 1,) * 2


def test_minus_zero_is_zero():
    one, other = GSet(), GSet()
    one.add(0.0)
    other.add(-0.0)
    assert one.state == other.state
