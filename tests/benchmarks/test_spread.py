"""No figure without its spread, and ratios from within a round."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.harness.spread import GRID, Spread, ahead, middle_quantiles, quantiles, short

values = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=30)
laws = settings(deadline=None, max_examples=100)


@laws
@given(values)
def test_a_median_lies_between_the_least_and_the_greatest_round(rounds: list[float]) -> None:
    spread = Spread.of(rounds)
    assert spread.least <= spread.median <= spread.greatest
    assert spread.overlaps(spread)


@laws
@given(values)
def test_nobody_is_ahead_of_oneself(rounds: list[float]) -> None:
    assert ahead(rounds, rounds, "more") == ahead(rounds, rounds, "less") == Spread(1, 1, 1)


@laws
@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_twice_as_good_is_twice_ahead_whichever_way_is_better(ours: float, theirs: float) -> None:
    more, less = ahead([ours], [theirs], "more"), ahead([ours], [theirs], "less")
    assert more is not None
    assert less is not None
    assert abs(more.median * less.median - 1) < 1e-9
    assert (more.median > 1) == (ours > theirs) or ours == theirs


def test_a_ratio_pairs_each_round_with_its_neighbour_and_not_the_medians() -> None:
    """A machine that is half as fast in the second round does not make the ratio wider."""
    assert ahead([100, 50], [50, 25], "more") == Spread(2, 2, 2)


def test_there_is_no_ratio_of_what_is_neither_better_nor_worse_or_zero() -> None:
    assert ahead([1], [2], "") is None
    assert ahead([0], [2], "more") is None
    assert ahead([], [2], "more") is None


@laws
@given(values)
def test_quantiles_rise_from_the_least_to_the_greatest(latencies: list[float]) -> None:
    found = quantiles(latencies)
    assert [q for q, _ in found] == list(GRID)
    shown = [value for _, value in found]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (min(latencies), max(latencies))


def test_one_distribution_out_of_three_is_the_median_of_each_quantile() -> None:
    rounds = [[(0.5, 1.0), (1.0, 9.0)], [(0.5, 3.0), (1.0, 5.0)], [(0.5, 2.0), (1.0, 7.0)]]
    assert middle_quantiles(rounds) == [(0.5, 2.0), (1.0, 7.0)]


def test_figures_show_three_digits_that_matter() -> None:
    assert [short(x) for x in (12345.6, 123.4, 12.34, 1.234, 0.01234, 7.0)] == [
        "12,346", "123", "12.3", "1.23", "0.0123", "7",
    ]  # fmt: skip
    assert str(Spread(2.0, 1.5, 3.25)) == "2 (1.50–3.25)"
    assert str(Spread(2.0, 2.0, 2.0)) == "2"
