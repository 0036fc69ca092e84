"""The arithmetic of snapshots: bandwidth, windows, marks of a common past, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.snapshots.marks import STEP, DigestMarks
from mcpcore.node.snapshots.pacing import (
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    SECOND_NS,
    WINDOW_BYTES_MAX,
    WINDOW_BYTES_MIN,
    TokenBucket,
    Window,
)
from mcpcore.node.snapshots.settings import SnapshotSettings

# --- bandwidth ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 2 * SECOND_NS)), max_size=60),
    st.integers(1_000, 10_000_000),
)
def test_whatever_is_asked_no_more_than_rate_and_burst_leaves_in_any_time(asked, rate) -> None:
    bucket, now_ns = TokenBucket(rate, burst_bytes=100_000), 10 * SECOND_NS
    left: list[tuple[int, int]] = []
    for size, later_ns in asked:
        now_ns += later_ns
        left.append((now_ns + bucket.reserve(size, now_ns), size))
    for first in range(len(left)):
        for last in range(first, len(left)):
            total = sum(size for _, size in left[first : last + 1])
            during_ns = left[last][0] - left[first][0]
            allowed = 100_000 + left[first][1] + rate * during_ns / SECOND_NS
            assert total <= allowed + len(left), "the bandwidth is kept"
    assert [when for when, _ in left] == sorted(when for when, _ in left), "first come, first sent"


def test_without_a_limit_nothing_waits() -> None:
    assert TokenBucket(0).reserve(1 << 40, 0) == 0


# --- windows --------------------------------------------------------------------------------------


def over_a_link(bytes_per_s: int, rtt_ns: int, target_ns: int, seconds: float) -> tuple[int, float]:
    """Send through one queue for a while: bytes delivered, longest wait of the last half in s."""
    window = Window(target_ns)
    now_ns, free_ns, sent, acked, worst_ns = 0, 0, 0, 0, 0
    acks: list[tuple[int, int]] = []
    end_ns = int(seconds * SECOND_NS)
    while now_ns < end_ns:
        while sent - acked < window.bytes:
            size = window.piece_bytes
            sent += size
            if now_ns > end_ns // 2:
                worst_ns = max(worst_ns, free_ns - now_ns)
            free_ns = max(free_ns, now_ns) + size * SECOND_NS // bytes_per_s
            acks.append((free_ns + rtt_ns, sent))
            window.sent(sent, size, now_ns)
        now_ns, acked = acks.pop(0)
        window.acked(acked, now_ns)
    return acked, worst_ns / SECOND_NS


@pytest.mark.parametrize("rate", [20_000, 100_000, 1_000_000, 50_000_000])
@pytest.mark.parametrize("rtt_ms", [0.1, 20, 150])
def test_a_window_uses_the_link_and_a_heartbeat_does_not_wait_long(
    rate: int, rtt_ms: float
) -> None:
    """Heartbeats travel behind chunks: what is queued must drain within a heartbeat or so."""
    heartbeat_s = 1.0
    acked, worst_s = over_a_link(rate, int(rtt_ms * 1e6), int(heartbeat_s / 2 * SECOND_NS), 60)
    assert acked > 0.5 * rate * 60 or acked > 0.5 * WINDOW_BYTES_MAX / (rtt_ms / 1e3) * 60
    assert worst_s < 2 * heartbeat_s


@settings(deadline=None)
@given(st.lists(st.integers(0, 5 * SECOND_NS), max_size=200))
def test_a_window_stays_within_its_bounds_whatever_the_answers_take(delays) -> None:
    window, now_ns, end = Window(SECOND_NS // 2), 0, 0
    for delay_ns in delays:
        end += window.piece_bytes
        window.sent(end, window.piece_bytes, now_ns)
        now_ns += delay_ns
        window.acked(end, now_ns)
        assert WINDOW_BYTES_MIN <= window.bytes <= WINDOW_BYTES_MAX
        assert PIECE_BYTES_MIN <= window.piece_bytes <= PIECE_BYTES_MAX
        assert window.piece_bytes <= window.bytes


# --- marks ----------------------------------------------------------------------------------------


def history(until: int, *, flaw: int = 0) -> DigestMarks:
    marks = DigestMarks(0)
    while marks.next_mark <= until:
        index = marks.next_mark
        marks.note(index, b"%d%s" % (index, b"!" if flaw and index >= flaw else b""))
    return marks


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400 * STEP), st.integers(0, 400 * STEP))
def test_a_member_that_was_away_finds_a_common_mark_or_has_been_away_for_ever(ours, theirs) -> None:
    behind, ahead = sorted((ours, theirs))
    told = history(behind).tell(behind, b"now")
    common = history(ahead).common(told)
    if behind >= 512 * STEP or (behind >= STEP and ahead - behind < 16 * STEP):
        assert common == behind
    assert common in (0, behind)


@settings(deadline=None, max_examples=60)
@given(st.integers(STEP, 300 * STEP), st.integers(STEP, 300 * STEP))
def test_a_past_that_differs_at_any_common_mark_is_not_ours(until, flaw) -> None:
    told = history(until, flaw=flaw).tell(until, b"now")
    ours = history(until)
    differs = [index for index in range(STEP, until + 1, STEP) if index >= flaw]
    if differs:
        assert ours.common(told) == 0
    else:
        assert ours.common(told) == until


def test_marks_are_few_however_long_the_history() -> None:
    marks = history(4000 * STEP)
    assert len(marks.tell(0, b"")) < 3000
    marks.forget()
    assert marks.common(history(10 * STEP).tell(10 * STEP, b"x")) == 0


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_nonsense_is_no_past(told: bytes) -> None:
    try:
        assert history(5 * STEP).common(told) in (0, 5 * STEP)
    except InvalidInput:
        return


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"every_entries": 0},
        {"every_bytes": -1},
        {"trailing_entries": -1},
        {"hold_bytes": 1.5},
        {"chunk_bytes": 1 << 21},
        {"incremental": 1},
        {"bytes_per_s": "fast"},
    ],
)
def test_a_bound_that_makes_no_sense_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        SnapshotSettings(**wrong)  # type: ignore[arg-type]
