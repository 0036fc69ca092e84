"""What a silence means: phi by its definition, its pitfalls, and the judge that was asleep."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND
from mcpcore.raft.suspicion import (
    LocalHealth,
    PhiAccrual,
    Shape,
    SuspicionSettings,
    phi_exponential,
    phi_normal,
)

DEFAULTS = SuspicionSettings()


def regular(count: int, every_ns: int = SECOND, **changes) -> tuple[PhiAccrual, int]:
    """A peer that was heard ``count`` times, at even intervals."""
    peer = PhiAccrual(SuspicionSettings(**changes), 0)
    for beat in range(1, count + 1):
        peer.heard(beat * every_ns)
    peer.check()
    return peer, count * every_ns


# --- the definition -----------------------------------------------------------------------------


@pytest.mark.parametrize("z", [-3, -1, 0, 0.5, 1, 2, 3, 4, 5, 6])
def test_phi_is_minus_the_logarithm_of_the_chance_to_be_this_late(z: float) -> None:
    """Hayashibara et al. 2004, section 4.2, against the standard library's normal distribution."""
    late = NormalDist(1000, 100).cdf(1000 - 100 * z)  # the upper tail, without its cancellation
    assert phi_normal(1000 + 100 * z, 1000, 100) == pytest.approx(-math.log10(late))


@pytest.mark.parametrize(
    ("elapsed", "phi"), [(0, 0.0), (500, 0.0), (1000, 0.301), (1200, 1.643), (1400, 4.499)]
)
def test_phi_for_a_second_give_or_take_a_tenth(elapsed: float, phi: float) -> None:
    assert phi_normal(elapsed, 1000, 100) == pytest.approx(phi, abs=0.001)


def test_phi_joins_smoothly_where_the_series_takes_over() -> None:
    below, above = phi_normal(7.999999, 0, 1), phi_normal(8.000001, 0, 1)
    assert above - below == pytest.approx(8 * 2e-6 * math.log10(math.e), rel=0.5)


def test_one_in_ten_of_exponential_intervals_is_longer_than_phi_one() -> None:
    assert phi_exponential(1000 * math.log(10), 1000) == pytest.approx(1.0)


@settings(deadline=None)
@given(
    st.floats(0, 1e15),
    st.floats(0, 1e15),
    st.floats(1, 1e12),
    st.floats(1, 1e12),
)
def test_phi_never_falls_while_the_silence_lasts_and_is_always_a_number(a, b, mean, deviation):
    shorter, longer = sorted((a, b))
    first, second = phi_normal(shorter, mean, deviation), phi_normal(longer, mean, deviation)
    assert math.isfinite(second)
    assert first <= second + 1e-9
    assert 0 <= phi_exponential(shorter, mean) <= phi_exponential(longer, mean)


# --- pitfalls -----------------------------------------------------------------------------------


def test_a_peer_that_was_never_heard_is_suspected_in_the_end() -> None:
    peer = PhiAccrual(DEFAULTS, 0)
    assert not peer.suspects(SECOND)
    assert peer.suspects(10 * SECOND)


def test_a_perfectly_regular_past_does_not_make_a_little_delay_an_accusation() -> None:
    peer, now_ns = regular(400)
    assert not peer.suspects(now_ns + SECOND + 100 * MILLISECOND)
    assert peer.suspects(now_ns + 2 * SECOND)


def test_an_acceptable_pause_is_waited_for() -> None:
    peer, now_ns = regular(400, acceptable_pause_ns=3 * SECOND)
    assert not peer.suspects(now_ns + 4 * SECOND)
    assert peer.suspects(now_ns + 5 * SECOND)


def test_an_outage_does_not_make_the_next_one_invisible() -> None:
    peer, now_ns = regular(50)
    peer.heard(now_ns + 60 * SECOND)
    assert peer.suspects(now_ns + 63 * SECOND)


def test_a_peer_that_became_slower_for_good_is_not_suspected_for_ever() -> None:
    peer, now_ns = regular(200, 100 * MILLISECOND)
    assert peer.suspects(now_ns + SECOND)
    for beat in range(1, 100):
        peer.heard(now_ns + beat * SECOND)
    assert not peer.suspects(now_ns + 100 * SECOND)


def test_an_announced_interval_is_expected_at_once() -> None:
    peer, now_ns = regular(200, 100 * MILLISECOND)
    peer.expect(SECOND)
    assert not peer.suspects(now_ns + SECOND)


def test_a_jittery_peer_is_given_more_time_than_a_regular_one() -> None:
    calm, now_ns = regular(200)
    jittery = PhiAccrual(DEFAULTS, 0)
    for beat in range(1, 201):
        jittery.heard(beat * SECOND + (beat % 2) * 400 * MILLISECOND)
    late_ns = now_ns + 2 * SECOND
    assert calm.suspects(late_ns)
    assert not jittery.suspects(late_ns)


def test_the_exponential_shape_suspects_later() -> None:
    normal, now_ns = regular(200)
    exponential, _ = regular(200, shape=Shape.EXPONENTIAL)
    assert exponential.phi(now_ns + 3 * SECOND) < normal.phi(now_ns + 3 * SECOND)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1 << 50), max_size=80), st.integers(1, 20))
def test_the_window_forgets_and_its_sums_stay_exact(gaps, window) -> None:
    peer, now_ns = PhiAccrual(SuspicionSettings(window=window), 0), 0
    for gap in gaps:
        now_ns += gap
        peer.heard(now_ns)
        peer.check()
        assert peer.last_ns == now_ns


# --- the judge ----------------------------------------------------------------------------------


def test_a_slow_judge_doubts_itself_first() -> None:
    """Dadgar et al. 2018: the same silence, judged by a member whose own timers were late."""
    peer, now_ns = regular(100)
    health = LocalHealth(DEFAULTS)
    silent_ns = now_ns + 2 * SECOND
    assert peer.suspects(silent_ns, multiplier=health.multiplier)
    health.timer_ran(now_ns, now_ns + 500 * MILLISECOND)
    assert not peer.suspects(silent_ns, multiplier=health.multiplier)


def test_time_in_which_we_did_not_run_is_no_silence_of_others() -> None:
    peer, now_ns = regular(100)
    health = LocalHealth(DEFAULTS)
    woke_ns = now_ns + 30 * SECOND
    health.timer_ran(now_ns + SECOND, woke_ns)
    absent_ns = health.absent_ns(peer.last_ns, woke_ns)
    assert absent_ns == 29 * SECOND
    assert not peer.suspects(woke_ns, absent_ns=absent_ns)
    peer.heard(woke_ns, absent_ns=absent_ns)
    assert peer.mean_ns == pytest.approx(SECOND, rel=0.01), "our pause taught it nothing"


def test_a_score_is_bounded_and_good_behaviour_lowers_it() -> None:
    health = LocalHealth(DEFAULTS)
    for _ in range(50):
        health.slow()
    assert health.score == DEFAULTS.health_max
    for _ in range(DEFAULTS.health_max):
        health.timer_ran(0, 0)
    assert health.multiplier == 1.0


def test_a_second_late_weighs_more_than_a_tenth() -> None:
    little, much = LocalHealth(DEFAULTS), LocalHealth(DEFAULTS)
    little.timer_ran(0, 60 * MILLISECOND)
    much.timer_ran(0, 6 * SECOND)
    assert 0 < little.score < much.score


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=20),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_absence_is_never_more_than_the_time_itself(spans, since, length) -> None:
    health = LocalHealth(SuspicionSettings(late_ns=1))
    for due, late in sorted(spans):
        health.timer_ran(due, due + late)
    assert 0 <= health.absent_ns(since, since + length) <= length


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"window": 0}, "window"),
        ({"deviation_min_ns": 0}, "deviation_min_ns"),
        ({"acceptable_pause_ns": -1}, "acceptable_pause_ns"),
        ({"health_max": True}, "health_max"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(change, named) -> None:
    with pytest.raises(InvalidInput, match=named):
        SuspicionSettings(**change)


def test_after_an_absence_a_judge_listens_for_as_long_as_it_was_away() -> None:
    health = LocalHealth(SuspicionSettings())
    assert health.listens_ns(0) == 0
    health.timer_ran(1 * SECOND, 3 * SECOND)
    assert health.listens_ns(3 * SECOND) == 2 * SECOND
    assert health.listens_ns(4 * SECOND) == 1 * SECOND
    assert health.listens_ns(9 * SECOND) == 0
