"""Physical time that is slewed and never stepped back, and the watch over the system clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import SteadyClock, SystemClockJumped, WallWatch
from mcpcore.errors import InvalidInput

law = settings(deadline=None)

MS = 1_000_000
S = 1_000_000_000


@law
@given(
    st.lists(
        st.tuples(
            st.integers(0, 100 * S),
            st.integers(-3600 * S, 3600 * S),
            st.floats(-1000, 1000),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_physical_time_never_goes_back_however_it_is_steered(history):
    clock = SteadyClock(1000 * S, 0)
    now = before = 0
    physical = clock.physical_ns(0)
    source = clock.source(lambda: now)
    for passed, offset, skew, steer in history:
        now += passed
        assert clock.physical_ns(now) >= physical
        assert source() == clock.physical_ns(now), "the fast path is the same function"
        if steer:
            reading = clock.physical_ns(now)
            clock.steer(now, offset, skew)
            put_forward = clock.physical_ns(now) - reading
            assert put_forward == 0 or put_forward > clock.step_over_ns
        physical = clock.physical_ns(now)
        assert source() == physical
        if passed:  # and its rate stays near one
            assert physical - before >= 0
        before = physical


@law
@given(st.integers(-400 * MS, 400 * MS), st.floats(-100, 100))
def test_a_slewed_clock_arrives_at_its_target_and_keeps_up_with_it(offset, skew):
    clock = SteadyClock(1000 * S, 0)
    clock.steer(0, offset, skew)
    arrival = max(clock.slew_over_ns, abs(offset) * 2000) + S

    for at in (arrival, arrival + 100 * S):
        target = offset + at * skew * 1e-6
        assert clock.correction_ns(at) == pytest.approx(target, abs=2_000)


def test_an_error_is_corrected_no_faster_than_the_slew_limit():
    clock = SteadyClock(0, 0, slew_max_ppm=500)
    clock.steer(0, -400 * MS, 0.0)

    assert clock.correction_ns(S) == -500_000
    assert clock.physical_ns(S) == S - 500_000


def test_a_clock_far_behind_is_put_forward_and_one_far_ahead_is_not_put_back():
    behind, ahead = SteadyClock(0, 0), SteadyClock(0, 0)
    behind.steer(S, 3600 * S, 0.0)
    ahead.steer(S, -3600 * S, 0.0)

    assert behind.physical_ns(S) == 3601 * S
    assert ahead.physical_ns(S) == S
    assert ahead.physical_ns(2 * S) > S


def test_steady_time_knows_nothing_of_steering():
    clock = SteadyClock(1000 * S, 7 * S)
    clock.steer(8 * S, 3600 * S, 50.0)

    assert clock.steady_ns(9 * S) == 1002 * S


@pytest.mark.parametrize("by_ns", [3600 * S, -3600 * S, 101 * MS, -101 * MS])
def test_a_jump_of_the_system_clock_is_seen_both_ways(by_ns):
    watch = WallWatch(1000 * S, 0)

    assert watch.look(1010 * S, 10 * S) is None
    assert watch.look(1010 * S + by_ns, 10 * S) == SystemClockJumped(by_ns, 10 * S)
    assert watch.look(1011 * S + by_ns, 11 * S) is None, "one jump is told once"
    assert watch.jumps == 1


def test_a_frozen_system_clock_is_a_jump_back_and_a_suspended_machine_a_jump_forward():
    watch = WallWatch(1000 * S, 0)

    frozen = watch.look(1000 * S, 5 * S)
    suspended = watch.look(1090 * S, 6 * S)

    assert frozen.by_ns == -5 * S
    assert suspended.by_ns == 89 * S


def test_a_strobing_system_clock_is_counted_jump_by_jump():
    watch = WallWatch(1000 * S, 0)
    for i in range(1, 11):
        watch.look(1000 * S + i * S + (i % 2) * 200 * S, i * S)

    assert watch.jumps == 10


def test_a_leap_second_is_a_jump_and_a_daemons_slew_is_not():
    watch = WallWatch(1000 * S, 0)
    for i in range(1, 100):  # 500 ppm for ten seconds each
        assert watch.look(1000 * S + i * 10 * S + i * 5 * MS, i * 10 * S) is None
    leap = watch.look(1000 * S + 990 * S + 495 * MS - S, 990 * S)

    assert leap.by_ns == -S


def test_settings_that_make_no_clock_are_refused():
    for bad in ({"slew_max_ppm": 0}, {"slew_max_ppm": 1e6}, {"slew_over_ns": 0}):
        with pytest.raises(InvalidInput):
            SteadyClock(0, 0, **bad)
    with pytest.raises(InvalidInput):
        SteadyClock(0, 0).steer(0, 0, float("nan"))
