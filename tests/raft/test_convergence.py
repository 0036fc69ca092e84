"""The convergence bound: every term has its effect, and real cores keep to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.convergence import (
    Backlog,
    ConvergenceConfig,
    Link,
    convergence_bound,
    election_rounds,
    rivals_to_split,
)
from tests.raft.timed_cluster import MS, SECOND, Model, scenario

DEFAULTS = ConvergenceConfig()
LINK = Link(110 * MS, 1 << 20)
BACKLOG = Backlog(6000, 6_000_000)


def test_the_goals_come_one_after_the_other() -> None:
    bound = convergence_bound(DEFAULTS, [LINK], BACKLOG)
    assert bound.leader_ns < bound.replicas_ns < bound.healthy_ns
    assert bound.leader_ns < bound.client_ns


def test_the_slowest_link_counts() -> None:
    slow = Link(400 * MS, 1 << 16)
    assert convergence_bound(DEFAULTS, [LINK, slow], BACKLOG) == convergence_bound(
        DEFAULTS, [slow], BACKLOG
    )


def test_every_term_is_named_and_explained() -> None:
    text = str(convergence_bound(DEFAULTS, [LINK], BACKLOG))
    for name in ("dead connection", "handshakes", "timers", "votes", "meet", "stream", "calm"):
        assert f" {name}: " in text


def test_a_snapshot_is_sent_instead_of_the_log() -> None:
    by_log = convergence_bound(DEFAULTS, [LINK], BACKLOG)
    by_snapshot = convergence_bound(DEFAULTS, [LINK], BACKLOG._replace(snapshot_bytes=1 << 20))
    assert by_log.replicas_ns - by_snapshot.replicas_ns == pytest.approx(
        (6_000_000 - (1 << 20)) * 1e9 / (1 << 20), rel=0.001
    )


@settings(deadline=None)
@given(
    st.sampled_from([field for field in ConvergenceConfig.__slots__ if field.endswith("_ns")]),
    st.integers(1, 100 * SECOND),
)
def test_whatever_gets_slower_makes_no_bound_shorter(name: str, more_ns: int) -> None:
    slower = replace(DEFAULTS, **{name: getattr(DEFAULTS, name) + more_ns})
    before = convergence_bound(DEFAULTS, [LINK], BACKLOG)
    after = convergence_bound(slower, [LINK], BACKLOG)
    goals = ("leader_ns", "replicas_ns", "healthy_ns", "client_ns")
    if name != "election_timeout_ns":  # a longer window splits fewer votes
        assert all(getattr(after, goal) >= getattr(before, goal) for goal in goals)
    assert after != before


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**9), st.integers(0, 50), st.integers(0, SECOND))
def test_more_to_catch_up_takes_longer(entries, size, terms, delay_ns) -> None:
    less = convergence_bound(DEFAULTS, [Link(delay_ns, 1 << 20)], Backlog(entries, size, terms))
    more = convergence_bound(
        DEFAULTS,
        [Link(delay_ns + 1, 1 << 20)],
        Backlog(entries + 1, size + (1 << 20), terms + 1),
    )
    assert more.replicas_ns > less.replicas_ns
    assert more.healthy_ns > less.healthy_ns


def test_elections_that_hardly_ever_split_need_few_rounds() -> None:
    assert election_rounds(replace(DEFAULTS, voters=1), SECOND) == 1
    near = election_rounds(DEFAULTS, 10 * MS)
    far = election_rounds(DEFAULTS, 1000 * MS)
    assert near < far
    assert election_rounds(replace(DEFAULTS, doubt=1e-3), 1000 * MS) < far


@pytest.mark.parametrize(
    ("voters", "up", "rivals"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 2), (3, 2, 1), (4, 4, 1), (5, 5, 2), (5, 4, 1), (7, 7, 2)],
)
def test_with_one_rival_the_odd_vote_decides(voters, up, rivals) -> None:
    assert rivals_to_split(voters, up) == rivals


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 4), st.randoms(use_true_random=False))
def test_fewer_rivals_than_it_takes_never_split_a_vote(voters, down, rng) -> None:
    up = voters - down
    if 2 * up <= voters:
        return
    for candidates in range(1, rivals_to_split(voters, up) + 1):
        votes = [1] * candidates
        for _ in range(up - candidates):
            votes[rng.randrange(candidates)] += 1
        assert max(votes) > voters // 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"voters_down": 2}, "voters_down"),
        ({"doubt": 0.0}, "doubt"),
        ({"voters": 0}, "voters"),
        ({"sync_ns": -1}, "sync_ns"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(change, named) -> None:
    with pytest.raises(InvalidInput, match=named):
        ConvergenceConfig(**change)


def test_a_link_that_carries_nothing_is_refused() -> None:
    for links in ([], [Link(0, 0)], [Link(-1, 1)]):
        with pytest.raises(InvalidInput, match="links"):
            convergence_bound(DEFAULTS, links, BACKLOG)
    with pytest.raises(InvalidInput, match="backlog"):
        convergence_bound(DEFAULTS, [LINK], Backlog(-1, 0))


# --- real cores ---------------------------------------------------------------------------------


def ratios(seed: int, model: Model) -> tuple[float, float]:
    """Measured by bound: until a leader, until all replicas are equal."""
    cluster, backlog = scenario(seed, model)
    bound = convergence_bound(model.config(len(cluster.names)), [model.link()], backlog)
    healed_ns = cluster.now_ns
    cluster.heal()
    assert cluster.run_until(
        healed_ns + bound.leader_ns, lambda: not cluster.cut and cluster.settled_leader()
    ), f"seed {seed}: no leader within {bound.leader_ns / 1e9:.1f} s"
    led_ns = cluster.now_ns - healed_ns
    assert cluster.run_until(healed_ns + bound.replicas_ns, cluster.all_equal), (
        f"seed {seed}: replicas differ after {bound.replicas_ns / 1e9:.1f} s"
    )
    equal_ns = cluster.now_ns - healed_ns
    return led_ns / bound.leader_ns, equal_ns / bound.replicas_ns


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 30), st.sampled_from([20, 110, 300]), st.sampled_from([1, 20]))
def test_real_cores_converge_within_the_bound(seed, one_way_ms, sync_ms) -> None:
    model = Model(one_way_ns=one_way_ms * MS, sync_ns=sync_ms * MS)
    led, equal = ratios(seed, model)
    target(led, label="leader: measured by bound")
    target(equal, label="replicas: measured by bound")
    assert max(led, equal) <= 1


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_seeds_of_real_cores_converge_within_the_bound() -> None:
    for seed in range(1000):
        assert max(ratios(seed, Model())) <= 1
