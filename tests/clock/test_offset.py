"""Offset bounds: they hold whatever the network does, and the best guess is a good one."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import Exchange, OffsetEstimator, SampleRefused, SampleTaken, WindowRestarted
from mcpcore.clock.lines import HULL_POINTS_MAX, FeasibleLines

law = settings(deadline=None, max_examples=200)

S = 1_000_000_000
MS = 1_000_000
ROUNDING_NS = 3  # readings are whole nanoseconds


@dataclass
class Drifting:
    """A clock that runs at a constant wrong rate."""

    ppm: float
    base_ns: int = 1_800_000_000 * S

    def at(self, true_ns):
        return self.base_ns + true_ns + round(true_ns * self.ppm) // 1_000_000


@dataclass
class Link:
    """Two clocks, and the messages between them; the truth is known to the test alone."""

    ours: Drifting
    theirs: Drifting
    true_ns: int = 0

    def exchange(self, there_ns, hold_ns, back_ns):
        t1 = self.ours.at(self.true_ns)
        t2 = self.theirs.at(self.true_ns + there_ns)
        t3 = self.theirs.at(self.true_ns + there_ns + hold_ns)
        self.true_ns += there_ns + hold_ns + back_ns
        return Exchange(t1, t2, t3, self.ours.at(self.true_ns))

    @property
    def truth_ns(self):
        return self.theirs.at(self.true_ns) - self.ours.at(self.true_ns)

    @property
    def now_ns(self):
        return self.ours.at(self.true_ns)


delays = st.integers(0, 20 * MS) | st.integers(0, 3 * S)
samples = st.lists(
    st.tuples(delays, st.integers(0, S), delays, st.integers(0, 200 * S)), min_size=1, max_size=30
)
rates = st.integers(-500, 500)
offsets = st.integers(-3600 * S, 3600 * S)


@law
@given(rates, rates, offsets, samples)
def test_the_true_offset_and_skew_lie_within_the_bounds_on_any_link(ours, theirs, offset, history):
    """Drift up to 500 ppm each, asymmetric and spiky delays, any gaps: 100 % of statements."""
    link = Link(Drifting(ours), Drifting(theirs, Drifting(0).base_ns + offset))
    estimator = OffsetEstimator("b", drift_max_ppm=500, wander_ppm=0, window_ns=300 * S)
    true_ppm = ((1 + theirs / 1e6) / (1 + ours / 1e6) - 1) * 1e6
    for there, hold, back, gap in history:
        event = estimator.add(link.exchange(there, hold, back))
        estimator.check()
        assert event == SampleTaken("b"), "constant rates never look like a step"
        for _ in range(2):  # at once, and in holdover after the gap
            estimate = estimator.estimate(link.now_ns)
            assert estimate.bounds.widened(ROUNDING_NS).contains(link.truth_ns)
            assert estimate.bounds.contains(estimate.offset_ns)
            assert estimate.skew_low_ppm - 1e-3 <= true_ppm <= estimate.skew_high_ppm + 1e-3
            link.true_ns += gap


@law
@given(rates, samples, st.lists(st.booleans(), min_size=30, max_size=30), st.randoms())
def test_lost_and_reordered_exchanges_cost_precision_but_never_truth(ppm, history, lost, dice):
    link = Link(Drifting(0), Drifting(ppm))
    estimator = OffsetEstimator("b", drift_max_ppm=500, wander_ppm=0, window_ns=300 * S)
    arrived = []
    for (there, hold, back, gap), gone in zip(history, lost, strict=False):
        exchange = link.exchange(there, hold, back)
        if not gone:
            arrived.append(exchange)
        link.true_ns += min(gap, S)
    dice.shuffle(arrived)
    for exchange in arrived:
        estimator.add(exchange)
        estimator.check()
    estimate = estimator.estimate(link.now_ns)
    assert estimator.steps == 0
    if arrived:
        assert estimate.bounds.widened(ROUNDING_NS).contains(link.truth_ns)
    else:
        assert estimate is None


@law
@given(st.lists(st.tuples(st.integers(0, MS), st.integers(-10, 10)), min_size=2, max_size=25))
def test_a_wandering_oscillator_within_its_allowance_neither_escapes_nor_looks_like_a_step(walk):
    """The peer's rate moves about within 10 ppm of a constant; readings every ten seconds."""
    link = Link(Drifting(0), Drifting(0))
    estimator = OffsetEstimator("b", drift_max_ppm=100, wander_ppm=20)
    for delay, ppm in walk:
        event = estimator.add(link.exchange(delay, 0, MS - delay))
        assert event == SampleTaken("b")
        assert estimator.estimate(link.now_ns).bounds.widened(ROUNDING_NS).contains(link.truth_ns)
        link.true_ns += 10 * S
        link.theirs.base_ns += 10_000 * ppm


@law
@given(samples, st.integers(1, 29), st.integers(-3600 * S, 3600 * S))
def test_a_step_is_noticed_or_costs_at_most_the_newest_round_trip(history, when, step_ns):
    """Bounds lie inside those of the newest exchange alone, and these are true after a step."""
    link = Link(Drifting(30), Drifting(-30))
    estimator = OffsetEstimator("b", drift_max_ppm=50, wander_ppm=0)
    for i, (there, hold, back, _) in enumerate(history):
        if i == when:
            link.theirs.base_ns += step_ns
        exchange = link.exchange(there, hold, back)
        event = estimator.add(exchange)
        estimator.check()
        assert estimator.steps <= (i >= when), "only a step empties the window, and only once"
        assert isinstance(event, WindowRestarted) or not estimator.steps or i > when
        unseen = i >= when and not estimator.steps
        slack = exchange.delay_ns if unseen else 0
        bounds = estimator.estimate(link.now_ns).bounds
        assert bounds.widened(slack + ROUNDING_NS).contains(link.truth_ns)


@pytest.mark.parametrize("step_ns", [3600 * S, -3600 * S, 30 * MS, -30 * MS])
def test_an_empty_set_of_lines_means_a_step_and_starts_a_new_window(step_ns):
    link = Link(Drifting(20), Drifting(-20))
    estimator = OffsetEstimator("b")
    for _ in range(20):
        estimator.add(link.exchange(6 * MS, MS, 6 * MS))
        link.true_ns += 10 * S

    link.theirs.base_ns += step_ns
    event = estimator.add(link.exchange(6 * MS, MS, 6 * MS))

    assert isinstance(event, WindowRestarted)
    assert event.peer == "b"
    assert event.moved_ns == pytest.approx(step_ns, abs=MS)
    estimate = estimator.estimate(link.now_ns)
    assert estimate.samples == 1
    assert estimate.steps == 1
    assert estimate.bounds.contains(link.truth_ns)


def test_a_frozen_peer_clock_looks_like_a_step_not_like_skew():
    link = Link(Drifting(0), Drifting(0))
    estimator = OffsetEstimator("b")
    estimator.add(link.exchange(6 * MS, 0, 6 * MS))
    frozen_at = link.theirs.at(link.true_ns)
    link.true_ns += 5 * S

    event = estimator.add(Exchange(link.now_ns, frozen_at, frozen_at, link.now_ns + 12 * MS))

    assert isinstance(event, WindowRestarted)
    assert event.moved_ns == pytest.approx(-5 * S, abs=20 * MS)


def test_on_a_jittery_but_symmetric_link_the_guess_is_far_better_than_the_bounds():
    """RTT 12 ms with a millisecond of exponential jitter each way, every 16 s, 20 and -30 ppm."""
    dice = Random(5)
    link = Link(Drifting(20), Drifting(-30))
    estimator = OffsetEstimator("b")
    for _ in range(60):
        there, back = (6 * MS + int(dice.expovariate(1 / MS)) for _ in range(2))
        estimator.add(link.exchange(there, 0, back))
        link.true_ns += 16 * S

    estimate = estimator.estimate(link.now_ns)

    assert abs(estimate.offset_ns - link.truth_ns) < 0.3 * MS
    assert abs(estimate.skew_ppm + 50) < 1
    assert 12 * MS <= estimate.delay_ns < 12.5 * MS
    assert estimate.bounds.radius_ns < 7.5 * MS


def test_a_few_very_slow_answers_do_not_move_the_guess():
    """The minimum-delay filter, in each direction on its own."""
    guesses = []
    for spikes in (False, True):
        link = Link(Drifting(0), Drifting(40))
        estimator = OffsetEstimator("b")
        for i in range(40):
            spike = 2 * S if spikes and i % 5 == 3 else 0
            link.true_ns = i * 16 * S
            estimator.add(link.exchange(6 * MS, 0, 6 * MS + spike))
        link.true_ns = 40 * 16 * S
        guesses.append(estimator.estimate(link.now_ns).offset_ns - link.truth_ns)

    assert abs(guesses[1] - guesses[0]) < 0.05 * MS


def test_an_asymmetric_link_widens_the_bounds_and_cannot_bias_them_silently():
    link = Link(Drifting(0), Drifting(0))
    estimator = OffsetEstimator("b")
    for _ in range(20):
        estimator.add(link.exchange(1 * MS, 0, 21 * MS))
        link.true_ns += S

    estimate = estimator.estimate(link.now_ns)

    assert estimate.offset_ns - link.truth_ns == pytest.approx(-10 * MS, abs=MS)
    assert abs(estimate.offset_ns - link.truth_ns) <= estimate.delay_ns // 2 + MS
    assert estimate.bounds.contains(link.truth_ns)
    assert estimate.bounds.radius_ns == pytest.approx(11 * MS, abs=MS)


def test_in_holdover_uncertainty_only_grows():
    link = Link(Drifting(0), Drifting(30))
    estimator = OffsetEstimator("b")
    for _ in range(40):
        estimator.add(link.exchange(6 * MS, 0, 6 * MS))
        link.true_ns += 16 * S
    at = link.now_ns

    radii = [estimator.estimate(at + s * S).bounds.radius_ns for s in range(0, 4000, 100)]

    assert radii == sorted(radii)
    assert radii[-1] > radii[0]
    assert estimator.estimate(at + 4000 * S).age_ns >= 4000 * S


def test_with_a_single_exchange_holdover_grows_by_the_worst_drift():
    """No fit yet: the rate is only known to twice the greatest drift, plus the wander."""
    estimator = OffsetEstimator("b", drift_max_ppm=50, wander_ppm=0)
    link = Link(Drifting(0), Drifting(0))
    estimator.add(link.exchange(6 * MS, 0, 6 * MS))

    now, later = (estimator.estimate(link.now_ns + s * S).bounds for s in (0, 3600))

    assert later.latest_ns - now.latest_ns == pytest.approx(360 * MS, rel=1e-3)


@pytest.mark.parametrize(
    ("exchange", "says"),
    [
        (Exchange(10, 20, 20, 9), "our own clock went back by 1 ns"),
        (Exchange(10, 20, 19, 30), "answered 1 ns before"),
        (Exchange(10, 20, 2_000, 30), "held the request for 1980 ns"),
        (Exchange(10, 20, 21, 10 + 601 * S), "longer than the window"),
        (Exchange(-1, 20, 20, 30), "t1 is -1"),
        (Exchange(10, 1 << 64, 1 << 64, 30), "t2 is"),
    ],
)
def test_an_exchange_that_cannot_have_happened_is_refused_and_changes_nothing(exchange, says):
    estimator = OffsetEstimator("b")

    event = estimator.add(exchange)

    assert isinstance(event, SampleRefused)
    assert says in event.reason
    assert estimator.refused == 1
    assert estimator.estimate(100) is None


def test_an_answer_from_before_the_window_is_refused():
    estimator = OffsetEstimator("b", window_ns=100 * S)
    estimator.add(Exchange(500 * S, 500 * S, 500 * S, 500 * S))

    event = estimator.add(Exchange(399 * S, 399 * S, 399 * S, 399 * S))

    assert isinstance(event, SampleRefused)
    assert "beyond the window" in event.reason


@law
@given(st.lists(st.tuples(*[st.integers(0, 1 << 62)] * 4), max_size=60))
def test_a_hostile_peer_gets_neither_memory_nor_a_crash(readings):
    estimator = OffsetEstimator("mallory")
    for four in readings:
        estimator.add(Exchange(*four))
        estimator.check()
        estimator.estimate(four[0])


def test_a_hull_made_on_purpose_stays_small_and_true():
    lines = FeasibleLines(window=10**9, slope_max=1.0, drift=0.0)
    for x in range(1, 400):  # a parabola: every point is on the hull
        assert lines.add((x, x * x + 1000), (x, -x * x - 1000))
    lines.check()
    assert lines.count == 399
    assert len(lines._blocks[-1].above.points) <= HULL_POINTS_MAX
    assert lines.fit.low_at(500) <= 0 <= lines.fit.high_at(500)


@pytest.mark.parametrize(
    "bad",
    [{"window_ns": 0}, {"drift_max_ppm": -1}, {"drift_max_ppm": float("nan")}, {"wander_ppm": -1}],
)
def test_settings_that_make_no_estimator_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        OffsetEstimator("b", **bad)
