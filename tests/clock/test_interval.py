"""What uncertain readings may say about order, and how long a commit waits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import (
    Interval,
    Order,
    Reading,
    Timestamp,
    compare_with_uncertainty,
    wait_until_past_ns,
)
from mcpcore.errors import InvalidInput

law = settings(deadline=None)
readings = st.builds(
    lambda at, counter, radius: Reading(Timestamp.of(at, counter), radius),
    st.integers(0, 1000),
    st.integers(0, 3),
    st.integers(0, 100),
)


def reading(at_ns, radius_ns):
    return Reading(Timestamp.of(at_ns), radius_ns)


@pytest.mark.parametrize(
    ("a", "b", "then"),
    [
        (reading(100, 5), reading(111, 5), Order.BEFORE),
        (reading(100, 5), reading(110, 5), Order.UNCERTAIN),  # they touch
        (reading(100, 5), reading(100, 0), Order.UNCERTAIN),
        (reading(111, 5), reading(100, 5), Order.AFTER),
        (reading(100, 0), reading(101, 0), Order.BEFORE),
    ],
)
def test_only_disjoint_intervals_decide(a, b, then):
    assert compare_with_uncertainty(a, b) is then


@law
@given(readings, readings, st.data())
def test_a_verdict_is_right_for_every_moment_that_was_possible(a, b, data):
    verdict = compare_with_uncertainty(a, b)
    true_a = data.draw(st.integers(a.interval.earliest_ns, a.interval.latest_ns))
    true_b = data.draw(st.integers(b.interval.earliest_ns, b.interval.latest_ns))

    if verdict is Order.BEFORE:
        assert true_a < true_b
    if verdict is Order.AFTER:
        assert true_a > true_b


@law
@given(readings, readings)
def test_the_verdict_does_not_depend_on_who_is_asked_first(a, b):
    mirror = {Order.BEFORE: Order.AFTER, Order.AFTER: Order.BEFORE}
    verdict = compare_with_uncertainty(a, b)

    assert compare_with_uncertainty(b, a) is mirror.get(verdict, verdict)


@law
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 100))
def test_after_the_commit_wait_the_timestamp_is_past_for_certain_and_not_a_moment_later(
    stamp_ns, now_ns, radius
):
    now = Interval.around(now_ns, radius)
    wait = wait_until_past_ns(Timestamp.of(stamp_ns, 9), now)

    assert now.earliest_ns + wait > stamp_ns
    assert wait == 0 or now.earliest_ns + wait == stamp_ns + 1


@law
@given(st.integers(-100, 100), st.integers(0, 100))
def test_the_middle_and_the_radius_cover_the_interval(low, width):
    interval = Interval(low, low + width)

    assert interval.middle_ns - interval.radius_ns <= interval.earliest_ns
    assert interval.middle_ns + interval.radius_ns >= interval.latest_ns


def test_an_interval_that_ends_before_it_begins_is_refused():
    with pytest.raises(InvalidInput, match="lies after"):
        Interval(2, 1)
