"""Windows and bounds: what contradicts itself is refused with the field's name."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND, RaftSettings
from mcpcore.raft.windows import WindowSettings

FLOORS = ("election_floor_ns", "heartbeat_floor_ns")
MAY_BE_ZERO = ("drift_ppm", "lease_reads", "quiet_after_ns", *FLOORS)
BOUNDS = [name for name in RaftSettings.__slots__ if name not in MAY_BE_ZERO]


def test_the_windows_are_those_of_the_requirements() -> None:
    """Election timeout 5 s, heartbeat 1 s."""
    assert RaftSettings().election_timeout_ns == 5 * SECOND
    assert RaftSettings().heartbeat_ns == 1 * SECOND


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", [0, -1])
def test_a_bound_that_is_not_positive_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=f"{name}: must be positive, not {value}"):
        RaftSettings(**{name: value})


@pytest.mark.parametrize("name", RaftSettings.__slots__)
@pytest.mark.parametrize("value", ["5s", None, 1.5, [1], b"1"])
def test_a_setting_of_the_wrong_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"{name}: must be of type"):
        RaftSettings(**{name: value})


@pytest.mark.parametrize("drift_ppm", [-1, 500_000])
def test_a_drift_that_leaves_no_lease_is_refused(drift_ppm: int) -> None:
    with pytest.raises(InvalidInput, match="drift_ppm"):
        RaftSettings(drift_ppm=drift_ppm)


def test_a_heartbeat_must_leave_room_for_a_lost_one() -> None:
    with pytest.raises(InvalidInput, match=r"heartbeat_ns.*at least twice"):
        RaftSettings(election_timeout_ns=199, heartbeat_ns=100)
    assert RaftSettings(election_timeout_ns=200, heartbeat_ns=100)


@settings(deadline=None)
@given(st.integers(0, 499_999), st.integers(2, 1 << 40))
def test_a_lease_ends_before_the_promise_it_stands_on(drift_ppm: int, timeout_ns: int) -> None:
    """Thesis §6.4.1: the leader's clock at its slowest, the follower's at its fastest."""
    group = RaftSettings(election_timeout_ns=timeout_ns, heartbeat_ns=1, drift_ppm=drift_ppm)
    lease_ns = WindowSettings.of(group).counted_ns(timeout_ns)
    slow = 1 - Fraction(drift_ppm, 1_000_000)
    fast = 1 + Fraction(drift_ppm, 1_000_000)

    assert lease_ns / slow <= timeout_ns / fast


def test_windows_stand_still_unless_a_floor_is_given() -> None:
    assert not WindowSettings.of(RaftSettings()).moving
    moving = RaftSettings(election_floor_ns=500 * MILLISECOND, heartbeat_floor_ns=100 * MILLISECOND)
    assert WindowSettings.of(moving) == WindowSettings()


@pytest.mark.parametrize(
    ("floors", "named"),
    [
        ({"election_floor_ns": 6 * SECOND}, "election_floor_ns"),
        ({"heartbeat_floor_ns": 2 * SECOND}, "heartbeat_floor_ns"),
        ({"election_floor_ns": 500 * MILLISECOND}, "election_floor_ns"),
        ({"election_floor_ns": -1}, "election_floor_ns"),
    ],
)
def test_floors_that_make_no_sense_are_refused_by_name(floors, named) -> None:
    with pytest.raises(InvalidInput, match=named):
        RaftSettings(**floors)
