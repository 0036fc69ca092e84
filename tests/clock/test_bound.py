"""The upper bound on disk: when a store is due, and what a restart may assume."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import HybridClock, Timestamp, UpperBound, decode_bound, encode_bound
from mcpcore.clock.timestamp import TIMESTAMP_MAX
from mcpcore.errors import ClockBoundMissing, InvalidInput


def test_a_store_is_due_only_when_half_of_the_reach_is_used():
    policy = UpperBound(ahead_ns=1_000)
    first = policy.due(Timestamp(0), Timestamp(0), wall_ns=10_000)

    assert first is not None
    assert first.physical_ns == 11_000
    assert policy.due(Timestamp.of(10_400), first, wall_ns=10_499) is None
    assert policy.due(Timestamp.of(10_400), first, wall_ns=10_500) > first
    assert policy.due(Timestamp.of(10_500), first, wall_ns=0) > first


def test_a_bound_never_goes_back_when_the_wall_clock_does():
    policy = UpperBound(ahead_ns=1_000)

    assert policy.due(Timestamp(0), Timestamp.of(9_000), wall_ns=5) is None


def test_a_restart_within_the_same_millisecond_issues_nothing_twice():
    policy = UpperBound(ahead_ns=1_000_000_000)
    wall_ns = 5_000_000_000
    stored = policy.due(Timestamp(0), Timestamp(0), wall_ns)
    before = HybridClock(lambda: wall_ns, ceiling=stored).now()

    recovery = policy.recover(stored, wall_ns=wall_ns)
    after = HybridClock(lambda: wall_ns, floor=recovery.floor).now()

    assert after > before
    assert recovery.wait_ns == stored.physical_ns + 1 - wall_ns


def test_once_the_wait_is_over_the_clock_follows_physical_time_again():
    recovery = UpperBound().recover(Timestamp.of(100), wall_ns=40)

    assert recovery.wait_ns == 61
    assert HybridClock(lambda: 40 + 61, floor=recovery.floor).now() == Timestamp.of(101)
    assert UpperBound().recover(Timestamp.of(100), wall_ns=500).wait_ns == 0


def test_a_restore_without_the_bound_is_refused_unless_the_node_is_fresh():
    with pytest.raises(ClockBoundMissing, match="Restore the bound"):
        UpperBound().recover(None, wall_ns=10)

    assert UpperBound().recover(None, wall_ns=10, fresh=True).floor == Timestamp(0)


@settings(deadline=None)
@given(st.integers(0, TIMESTAMP_MAX), st.integers(0, 19), st.integers(1, 255))
def test_a_stored_record_reads_back_and_any_rotten_byte_is_noticed(number, where, flip):
    record = encode_bound(Timestamp(number))
    rotten = bytearray(record)
    rotten[where] ^= flip

    assert decode_bound(record) == Timestamp(number)
    with pytest.raises(InvalidInput, match="Treat the bound as missing"):
        decode_bound(bytes(rotten))


@pytest.mark.parametrize("length", range(20))
def test_a_torn_record_is_missing_not_zero(length):
    with pytest.raises(InvalidInput, match="Treat the bound as missing"):
        decode_bound(encode_bound(Timestamp.of(5))[:length])


def test_a_reach_of_nothing_is_refused():
    with pytest.raises(InvalidInput):
        UpperBound(ahead_ns=0)
