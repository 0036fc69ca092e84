"""Stale reads with a bound that is kept, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, StalenessNotPromised
from mcpcore.raft.staleness import StalenessLedger

MS = 1_000_000


def test_what_is_applied_bounds_the_age_and_what_is_known_counts_the_entries() -> None:
    ledger = StalenessLedger("main")
    ledger.applied(10)
    ledger.told(10, 1000 * MS, settled=True)
    ledger.told(14, 2000 * MS, settled=True)
    bound = ledger.bound(2500 * MS)
    assert (bound.at_most_ms, bound.at_most_entries, bound.known_at_ns) == (1500, 4, 1000 * MS)
    ledger.applied(14)
    assert str(ledger.bound(2500 * MS)) == "at most 500 ms and 0 entries behind"


def test_a_new_leader_bounds_nothing_before_it_has_committed_in_its_own_term() -> None:
    """Section 8: it does not know yet what its predecessors committed."""
    ledger = StalenessLedger("main")
    ledger.applied(50)
    ledger.told(40, 9000 * MS, settled=False)
    assert ledger.bound(9000 * MS) is None


def test_without_a_trusted_clock_no_bound_is_promised() -> None:
    ledger = StalenessLedger("main")
    ledger.told(0, 0, settled=True)
    with pytest.raises(StalenessNotPromised, match="our own clock is 2 s ahead") as refused:
        ledger.promise(5, None, "our own clock is 2 s ahead of the majority")
    assert refused.value.at_most_ms is None


def test_a_bound_that_cannot_be_kept_is_refused_with_the_one_that_can() -> None:
    ledger = StalenessLedger("main")
    ledger.told(0, 1000 * MS, settled=True)
    assert ledger.promise(2.0, 3000 * MS).at_most_ms == 2000
    with pytest.raises(StalenessNotPromised) as refused:
        ledger.promise(1.999, 3000 * MS)
    assert (refused.value.asked_ms, refused.value.at_most_ms) == (1999, 2000)


def test_a_member_that_was_told_nothing_promises_nothing() -> None:
    with pytest.raises(StalenessNotPromised, match="no leader has told"):
        StalenessLedger("main").promise(60, 0)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "5", True, None])
def test_an_age_that_is_none_is_refused(wrong) -> None:
    with pytest.raises(InvalidInput, match="max_age_s"):
        StalenessLedger("main").promise(wrong, 0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 50)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_everything_acknowledged_longer_ago_than_the_bound_is_in_the_state(gaps, rng) -> None:
    """A leader that commits, speaks with delays, and is deposed at some time without noticing."""
    ledger, now, applied = StalenessLedger("main"), 0, 0
    acknowledged: list[int] = []  # when index i+1 was
    words: list[tuple[int, int, int]] = []  # (arrives, commit, confirmed)
    deposed = rng.randrange(1, 40 * len(gaps))
    commit_of_old = 0
    for gap, delay in gaps:
        now += gap * MS
        acknowledged.append(now)
        if now < deposed * MS:
            commit_of_old = len(acknowledged)
        confirmed = min(now, deposed * MS)
        words.append((now + delay * MS, commit_of_old, confirmed))
        for word in [word for word in words if word[0] <= now]:
            words.remove(word)
            ledger.told(word[1], word[2], settled=True)
        applied = min(applied + rng.randrange(3), len(acknowledged))
        ledger.applied(applied)
        bound = ledger.bound(now)
        if bound is not None:
            due = [at for at in acknowledged if at < now - bound.at_most_ms * MS]
            assert len(due) <= applied
            assert bound.at_most_entries >= 0


def test_many_words_that_wait_are_thinned_and_not_forgotten() -> None:
    ledger = StalenessLedger("main")
    for index in range(1, 5000):
        ledger.told(index, index * MS, settled=True)
    ledger.applied(5000)
    assert ledger.bound(5000 * MS).at_most_ms <= 4


def test_a_state_that_was_replaced_by_an_older_one_inherits_no_promise() -> None:
    """A repaired member installs a snapshot and applies what follows in several goes."""
    ledger = StalenessLedger("main")
    ledger.applied(100)
    ledger.told(100, 5_000_000, settled=True)
    assert ledger.bound(6_000_000) is not None

    ledger.applied(40)
    assert ledger.bound(6_000_000) is None

    ledger.told(110, 7_000_000, settled=True)
    ledger.applied(100)
    assert ledger.bound(8_000_000) is None
    ledger.applied(110)
    assert ledger.bound(8_000_000).known_at_ns == 7_000_000
