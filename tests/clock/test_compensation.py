"""Which strategy does what, and why auto chooses as it does."""

import pytest

from mcpcore.clock import (
    Auto,
    CalibrationWindow,
    Interval,
    LinkEvidence,
    LiteralIncrement,
    OffsetEstimate,
    Uncompensated,
    Weight,
    WeightedIncrement,
    light_delay_ns,
    proved_delay_ns,
)
from mcpcore.errors import InvalidInput

MS = 1_000_000
S = 1_000_000_000


def link(samples=20):
    return OffsetEstimate("b", 0, Interval(0, 0), 0.0, -1.0, 1.0, 12 * MS, 0, samples, 0)


def evidence(**changes):
    facts = {
        "estimates": [link()],
        "majority": True,
        "radius_ns": 6 * MS,
        "jumped_ago_ns": None,
        "window_ns": 600 * S,
        "drift_max_ppm": 50.0,
    }
    return LinkEvidence(**(facts | changes))


def test_auto_calibrates_on_steady_links_and_says_how_well_they_are_known():
    plan = Auto().plan(evidence())

    assert plan.name == "auto: calibration window"
    assert plan.steer
    assert plan.merge_every_ns is None
    assert plan.why == "links are steady; following the majority, known within 6.000 ms"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"majority": False, "radius_ns": None}, "no majority of clocks agrees"),
        ({"jumped_ago_ns": 599 * S}, "a clock stepped 599.0 s ago, within the window"),
        ({"estimates": [link(), link(7)]}, "fewer than 8 exchanges with b"),
        ({"radius_ns": 61 * MS}, "links are too slow to measure by: known within 61.000 ms"),
    ],
)
def test_auto_lets_messages_carry_time_when_links_are_not_worth_a_fit(changes, why):
    plan = Auto().plan(evidence(**changes))

    assert plan.name == "auto: weighted increment"
    assert not plan.steer
    assert plan.merge_every_ns == 20 * MS
    assert plan.why.startswith(why)


def test_auto_returns_to_calibration_once_the_window_has_passed():
    assert Auto().plan(evidence(jumped_ago_ns=600 * S)).steer


def test_each_strategy_folds_messages_in_its_own_way():
    weighted = WeightedIncrement(floor_ns={"b": 3 * MS})

    assert Uncompensated().weight("b", 12 * MS) == Weight(0, 1)
    assert CalibrationWindow().weight("b", 12 * MS) == Weight(0, 1)
    assert weighted.weight("b", 12 * MS) == Weight(3 * MS, 1)
    assert weighted.weight("c", 12 * MS) == Weight(0, 1)
    assert LiteralIncrement().weight("b", 12 * MS + 1) == Weight(0, 14)
    assert LiteralIncrement().weight("b", None) == Weight(0, 1)
    assert Auto(weighted=weighted).weight("b", 12 * MS) == Weight(3 * MS, 1)


def test_only_calibration_steers():
    assert CalibrationWindow().plan(evidence()).steer
    assert not CalibrationWindow().plan(evidence(majority=False, radius_ns=None)).steer
    for strategy in (Uncompensated(), LiteralIncrement(), WeightedIncrement()):
        assert not strategy.plan(evidence()).steer


def test_light_is_the_only_delay_that_distance_proves():
    """Frankfurt to Virginia, 6 500 km: 21.7 ms one way at the very least."""
    assert light_delay_ns(6_500) == pytest.approx(21.68 * MS, rel=1e-3)
    assert light_delay_ns(0) == 0


def test_a_better_known_clock_proves_a_delay_and_its_own_link_never_does():
    # It left at 100 by the sender's clock, came at 150 by ours; the sender is 10 to 20 ahead.
    assert proved_delay_ns(100, 150, Interval(10, 20)) == 60
    # All that the message itself shows is that the sender is at most 50 behind.
    assert proved_delay_ns(100, 150, Interval(-50, 20)) == 0


def test_numbers_that_prove_nothing_are_refused():
    with pytest.raises(InvalidInput, match="floor_ns"):
        WeightedIncrement(floor_ns={"b": -1})
    with pytest.raises(InvalidInput):
        WeightedIncrement(merge_every_ns=0)
    for distance in (-1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput):
            light_delay_ns(distance)
