"""Clocks go wrong as asked, and in no other way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.sim.clock import BOOT_NS, HostClock

S = 1_000_000_000
times = st.integers(0, 10**15)
ppms = st.floats(-5_000, 5_000)


@given(st.lists(st.tuples(times, ppms), max_size=8), st.lists(times, min_size=2))
def test_the_monotonic_clock_never_goes_back_whatever_happens_to_the_wall_clock(
    changes: list[tuple[int, float]], readings: list[int]
) -> None:
    clock = HostClock(0)
    shown: list[int] = []
    events = sorted(
        [*((at, ppm) for at, ppm in changes), *((at, None) for at in readings)], key=_at
    )
    for at_ns, ppm in events:
        if ppm is None:
            shown.append(clock.monotonic_ns(at_ns))
        else:
            clock.drift(at_ns, ppm)
            clock.step(at_ns, int(-ppm * S))
            clock.slew(at_ns, ppm / 2)
    assert shown == sorted(shown)
    assert shown[0] >= BOOT_NS


def _at(event: tuple[int, float | None]) -> tuple[int, bool]:
    return event[0], event[1] is None


@given(times, ppms, times)
def test_a_deadline_is_the_first_moment_at_which_the_clock_shows_it(
    begun: int, ppm: float, ahead: int
) -> None:
    clock = HostClock(0)
    clock.drift(begun, ppm)
    deadline = clock.monotonic_ns(begun) + ahead
    at = clock.true_ns_at(deadline)
    assert clock.monotonic_ns(at) >= deadline
    assert at <= begun or clock.monotonic_ns(at - 1) < deadline


def test_a_clock_keeps_what_it_gained_while_it_ran_too_fast() -> None:
    clock = HostClock(0, drift_ppm=1_000)
    clock.drift(10 * S, 0)
    assert clock.monotonic_ns(20 * S) == BOOT_NS + 20 * S + 10_000_000
    assert clock.offset_ns(20 * S) == 10_000_000


def test_fifty_ppm_over_an_hour_is_180_milliseconds() -> None:
    clock = HostClock(0, drift_ppm=50)
    assert clock.offset_ns(3_600 * S) == 180_000_000


def test_a_step_moves_the_wall_clock_alone() -> None:
    clock = HostClock(1_000 * S)
    before = clock.monotonic_ns(5 * S)
    clock.step(5 * S, -3 * S)
    assert clock.wall_ns(5 * S) == 1_002 * S
    assert clock.monotonic_ns(5 * S) == before
    assert clock.offset_ns(9 * S) == -3 * S


def test_a_slew_steers_the_wall_clock_alone_and_keeps_what_it_gained() -> None:
    clock = HostClock(0)
    clock.slew(0, 500)
    clock.slew(10 * S, 0)
    assert clock.offset_ns(10 * S) == clock.offset_ns(20 * S) == 5_000_000
    assert clock.monotonic_ns(20 * S) == BOOT_NS + 20 * S


def test_a_frozen_clock_thaws_at_the_right_time() -> None:
    clock = HostClock(0)
    clock.freeze(5 * S)
    assert clock.wall_ns(9 * S) == 5 * S
    assert clock.monotonic_ns(9 * S) == BOOT_NS + 9 * S
    clock.thaw()
    assert clock.wall_ns(9 * S) == 9 * S


def test_a_strobe_jumps_to_and_fro_and_leaves_nothing_behind() -> None:
    clock = HostClock(0)
    clock.strobe(0, swing_ns=100 * S, period_ns=S)
    assert [clock.offset_ns(at * S + 1) // S for at in range(4)] == [100, 0, 100, 0]
    clock.end_strobe()
    assert clock.offset_ns(10 * S) == 0


@pytest.mark.parametrize("ppm", [-1e6, -2e6])
def test_a_clock_cannot_be_made_to_run_backwards(ppm: float) -> None:
    with pytest.raises(InvalidInput, match="stop the clock"):
        HostClock(0, drift_ppm=ppm)
    clock = HostClock(0)
    with pytest.raises(InvalidInput):
        clock.slew(0, ppm)
    with pytest.raises(InvalidInput):
        clock.strobe(0, swing_ns=1, period_ns=0)
