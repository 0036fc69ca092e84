"""The drift experiment: the article's figures derived, reproduced, and beaten."""

from random import Random

import pytest

from mcpcore.clock import (
    CalibrationWindow,
    DriftModel,
    LiteralIncrement,
    Uncompensated,
    WeightedIncrement,
    misorder_probability,
    pairwise_bound_ns,
    reference_bound_ns,
    run_drift_model,
)
from mcpcore.errors import InvalidInput

MS = 1_000_000
S = 1_000_000_000
HOUR_NS = 3600 * S


def test_180_186_and_366_ms_are_what_50_ppm_and_12_ms_make_in_an_hour():
    assert reference_bound_ns(50, HOUR_NS, 0) == 180 * MS
    assert reference_bound_ns(50, HOUR_NS, 12 * MS) == 186 * MS
    assert pairwise_bound_ns(50, HOUR_NS, 12 * MS) == 366 * MS


def test_37_percent_at_216_ms_takes_about_six_events_a_second():
    assert misorder_probability(6.24, 216 * MS) == pytest.approx(0.37, abs=0.001)
    assert misorder_probability(1, 216 * MS) == pytest.approx(0.10, abs=0.005)
    assert misorder_probability(20, 216 * MS) == pytest.approx(0.49, abs=0.005)
    assert misorder_probability(6, 0) == 0


def test_two_uncompensated_clocks_misorder_as_often_as_the_formula_says():
    """No messages, one pair: the simulation must agree with the algebra."""
    model = DriftModel(nodes=2, message_share=0, measured_ns=200 * S, poll_ns=600 * S, rate_per_s=6)

    row = run_drift_model(model, Uncompensated(), Random(1))

    # Over the last 200 s the two stand 340 to 360 ms apart.
    assert row.misordered_share == pytest.approx(misorder_probability(6, 350 * MS), abs=0.04)


def test_uncompensated_nodes_misorder_a_quarter_of_neighbours_and_calibrated_ones_almost_none():
    model = DriftModel(rate_per_s=6, measured_ns=300 * S)

    plain = run_drift_model(model, Uncompensated(), Random(7))
    calibrated = run_drift_model(model, CalibrationWindow(), Random(7))

    assert 0.20 < plain.misordered_share < 0.35
    assert plain.spread_ns == pytest.approx(360 * MS, abs=MS)
    assert calibrated.misordered_share <= 0.001
    assert calibrated.spread_ns < MS
    assert calibrated.pairs == plain.pairs > 1000


def test_every_stated_interval_contained_the_truth():
    model = DriftModel(elapsed_ns=1800 * S, measured_ns=S)

    row = run_drift_model(model, CalibrationWindow(), Random(3))

    assert row.intervals > 2000
    assert row.missed == 0


def test_raising_the_counter_changes_nothing_and_denser_merging_does():
    model = DriftModel(rate_per_s=20, elapsed_ns=1800 * S, measured_ns=20 * S)

    plain = run_drift_model(model, Uncompensated(), Random(7))
    literal = run_drift_model(model, LiteralIncrement(), Random(7))
    weighted = run_drift_model(model, WeightedIncrement(), Random(7))

    assert abs(literal.misordered - plain.misordered) <= 2
    assert literal.counter_max > 2 * plain.counter_max
    assert weighted.misordered_share < plain.misordered_share / 2


def test_the_same_dice_give_the_same_row():
    model = DriftModel(elapsed_ns=200 * S, measured_ns=50 * S)

    rows = [run_drift_model(model, CalibrationWindow(), Random(5)) for _ in range(2)]

    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "bad", [{"nodes": 1}, {"measured_ns": 0}, {"poll_ns": 0}, {"rate_per_s": 0}, {"jitter_ns": 0}]
)
def test_numbers_that_make_no_experiment_are_refused(bad):
    with pytest.raises(InvalidInput):
        DriftModel(**bad)
