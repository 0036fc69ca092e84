"""Reunion: replay, snapshot or a person; and a flow that does not flood the healed link."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.pacing import Pacer, PacingSettings
from mcpcore.raft.reunion import (
    Answer,
    Chunk,
    Gap,
    Intervene,
    ReunionKind,
    ReunionSettings,
    decide,
    newest_first,
)
from mcpcore.raft.settings import MILLISECOND, SECOND
from mcpcore.raft.split import SplitState
from mcpcore.raft.types import LogPosition

DEFAULTS = ReunionSettings(intervene=Intervene.AFTER_SPLIT)
NOTHING, REPLAY, SNAPSHOT, INTERVENTION = ReunionKind


def gap(missing: int, ours_beyond: int = 0, **more) -> Gap:
    return Gap(
        group="main",
        node="c",
        commit=1000,
        ours=LogPosition(3, 1000 + ours_beyond),
        theirs=LogPosition(4, 1000 + missing),
        their_first=1,
        ancestor=LogPosition(3, 1000),
        entry_bytes=100 * missing,
        **{"verdict": SplitState.SPLIT, **more},
    )


# --- the threshold ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "kind"), [(1, REPLAY), (199, REPLAY), (200, INTERVENTION), (9000, INTERVENTION)]
)
def test_from_twice_the_gap_on_an_operator_decides(missing: int, kind: ReunionKind) -> None:
    """Automatic reunion is refused when the difference reaches 2 x commit-index-gap."""
    assert decide(gap(missing), DEFAULTS).kind is kind


def test_entries_of_ours_count_as_much_as_those_we_miss() -> None:
    assert decide(gap(3, ours_beyond=200), DEFAULTS).kind is INTERVENTION


@pytest.mark.parametrize(
    ("intervene", "verdict", "ours_beyond", "asked"),
    [
        (Intervene.AFTER_SPLIT, SplitState.SPLIT, 0, True),
        (Intervene.AFTER_SPLIT, SplitState.INTERVENTION, 0, True),
        (Intervene.AFTER_SPLIT, SplitState.READ_ONLY, 0, False),
        (Intervene.AFTER_SPLIT, SplitState.HEALTHY, 0, False),
        (Intervene.WHEN_SPLIT_LOSES, SplitState.SPLIT, 0, False),
        (Intervene.WHEN_SPLIT_LOSES, SplitState.SPLIT, 199, False),
        (Intervene.WHEN_SPLIT_LOSES, SplitState.SPLIT, 200, True),
        (Intervene.WHEN_SPLIT_LOSES, SplitState.READ_ONLY, 200, False),
        (Intervene.WHEN_DIVERGED, SplitState.SPLIT, 0, False),
        (Intervene.WHEN_DIVERGED, SplitState.READ_ONLY, 1, True),
        (Intervene.ALWAYS, SplitState.HEALTHY, 0, True),
        (Intervene.NEVER, SplitState.SPLIT, 500, False),
    ],
)
def test_who_is_asked_is_a_setting(intervene, verdict, ours_beyond, asked) -> None:
    plan = decide(gap(900, ours_beyond, verdict=verdict), ReunionSettings(intervene=intervene))
    assert (plan.kind is INTERVENTION) == asked
    assert (plan.refused is not None) == asked


def test_an_answer_lets_this_reunion_go_ahead_and_no_other() -> None:
    wide = gap(5000)
    answer = Answer(wide.episode, "eva")
    plan = decide(wide, DEFAULTS, answer)
    assert plan.kind is REPLAY
    assert plan.reason.endswith("eva agreed")
    with pytest.raises(InvalidInput, match="the answer is for"):
        decide(gap(5000, ours_beyond=7), DEFAULTS, answer)


def test_an_answer_stays_good_while_the_leader_goes_on_writing() -> None:
    answer = Answer(gap(5000).episode, "eva")
    assert decide(gap(8000), DEFAULTS, answer).kind is REPLAY


def test_the_refusal_names_the_gap_and_the_limit() -> None:
    refused = decide(gap(5000), DEFAULTS).refused
    assert (refused.gap_entries, refused.limit_entries) == (5000, 200)
    assert "`mcpctl group reunite main` shows the plan" in str(refused)


# --- how ----------------------------------------------------------------------------------------


def test_equal_logs_need_nothing() -> None:
    same = LogPosition(3, 1000)
    assert decide(replace(gap(0), ours=same, theirs=same), DEFAULTS).kind is NOTHING


def test_a_log_that_was_purged_needs_the_snapshot() -> None:
    purged = gap(50, snapshot_index=1040, snapshot_bytes=1 << 20)
    plan = decide(replace(purged, their_first=1041), DEFAULTS)
    assert plan.kind is SNAPSHOT
    assert "from 1001 on are no longer in the leader's log" in plan.reason


@pytest.mark.parametrize(("snapshot_bytes", "kind"), [(4999, SNAPSHOT), (5000, REPLAY)])
def test_whatever_is_fewer_bytes_is_sent(snapshot_bytes: int, kind: ReunionKind) -> None:
    plan = decide(gap(50, snapshot_index=1050, snapshot_bytes=snapshot_bytes), DEFAULTS)
    assert plan.kind is kind


def test_an_operator_may_ask_for_the_snapshot() -> None:
    wide = gap(500, snapshot_index=1500, snapshot_bytes=1 << 30)
    assert decide(wide, DEFAULTS, Answer(wide.episode, "eva", snapshot=True)).kind is SNAPSHOT


def test_the_plan_is_shown_before_it_is_carried_out() -> None:
    text = decide(gap(5000, ours_beyond=40, bytes_per_s=250_000), DEFAULTS).text()
    assert (
        text
        == """\
reunion main/c/1000.3.1040: intervention
  why        5000 entries lie between the two sides; from 200 on (2 x 100) an operator decides
  ours       ends at index 1040 (term 3), committed up to 1000
  leader's   ends at index 6000 (term 4), kept from index 1
  in common  up to index 1000 (term 3)
  to fetch   5000 entries by log replay, 500000 bytes, about 2.0 s
  to lose    40 entries of ours, kept in quarantine"""
    )


def test_a_committed_entry_that_the_leader_lacks_is_never_reunited_over() -> None:
    with pytest.raises(InvalidInput, match="do not reunite"):
        decide(replace(gap(5), ancestor=LogPosition(2, 900)), DEFAULTS)


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.sampled_from(Intervene),
    st.sampled_from(SplitState),
)
def test_below_the_limit_nobody_is_ever_asked(missing, ours_beyond, intervene, verdict) -> None:
    told = gap(missing, ours_beyond, verdict=verdict)
    plan = decide(told, ReunionSettings(intervene=intervene))
    if told.entries < 200:
        assert plan.kind is not INTERVENTION
    assert decide(told, DEFAULTS, Answer(told.episode, "eva")).kind is not INTERVENTION


def test_the_newest_parts_of_a_snapshot_go_first() -> None:
    parts = [Chunk(b"a", 5, 1), Chunk(b"c", 90, 1), Chunk(b"b", 90, 1), Chunk(b"d", 7, 1)]
    assert [chunk.key for chunk in newest_first(parts)] == [b"b", b"c", b"d", b"a"]


@pytest.mark.parametrize("change", [{"commit_index_gap": -1}, {"intervention_factor": 0}])
def test_limits_that_make_no_sense_are_refused(change) -> None:
    with pytest.raises(InvalidInput, match=next(iter(change))):
        ReunionSettings(**change)


# --- the flow -----------------------------------------------------------------------------------


class Link:
    """A queue that empties at a rate, beside other traffic, and a delay."""

    def __init__(self, bytes_per_s: int, delay_ms: int, other_bytes_per_s: int = 0) -> None:
        self.free_per_s = bytes_per_s - other_bytes_per_s
        self.delay_ns = delay_ms * MILLISECOND
        self.busy_until_ns = 0

    def send(self, size: int, now_ns: int) -> tuple[int, int]:
        """When it arrives and is answered, and how long it waited."""
        start_ns = max(now_ns, self.busy_until_ns)
        self.busy_until_ns = start_ns + size * SECOND // self.free_per_s
        return self.busy_until_ns + 2 * self.delay_ns, start_ns - now_ns


def flow(link: Link, seconds: int, chunk: int = 16 << 10) -> tuple[float, float, Pacer]:
    """Bytes a second, and the longest wait in ms after the first 3 s."""
    pacer, now_ns, sent, worst_ns = Pacer(PacingSettings(), 0), 0, 0, 0
    answers: list[tuple[int, int]] = []
    while now_ns < seconds * SECOND:
        wait_ns = pacer.wait_ns(chunk, now_ns)
        if wait_ns == 0:
            done_ns, queued_ns = link.send(chunk, now_ns)
            answers.append((done_ns, now_ns))
            sent += chunk
            if now_ns > 3 * SECOND:
                worst_ns = max(worst_ns, queued_ns)
            continue
        now_ns += min(wait_ns, MILLISECOND)
        while answers and answers[0][0] <= now_ns:
            done_ns, sent_ns = answers.pop(0)
            pacer.answered(chunk, sent_ns, now_ns)
    return sent / seconds, worst_ns / MILLISECOND, pacer


@pytest.mark.parametrize(
    ("bytes_per_s", "delay_ms", "other"),
    [(1 << 20, 110, 0), (8 << 20, 20, 0), (8 << 20, 20, 6 << 20), (256 << 10, 35, 0)],
)
def test_a_reunion_uses_the_link_and_does_not_flood_it(bytes_per_s, delay_ms, other) -> None:
    rate, worst_ms, _ = flow(Link(bytes_per_s, delay_ms, other), 20)
    assert rate > 0.6 * (bytes_per_s - other)
    assert worst_ms < 100, "far below a heartbeat interval"


def test_a_loss_halves_the_flow_and_never_stops_it() -> None:
    pacer = Pacer(PacingSettings(), 0)
    for beat in range(1, 7):
        at_ns = beat * 100 * MILLISECOND
        pacer.answered(100 << 10, at_ns - 10 * MILLISECOND, at_ns)
    before = pacer.bytes_per_s
    assert before > PacingSettings().floor_bytes_per_s * 4
    pacer.lost(100 << 10, SECOND)
    assert pacer.bytes_per_s == before // 2
    for _ in range(100):
        pacer.lost(1, SECOND)
    assert pacer.bytes_per_s == PacingSettings().floor_bytes_per_s


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(0, SECOND)), max_size=80))
def test_no_more_leaves_than_the_rate_allows(sends) -> None:
    pacer, now_ns, sent, largest = Pacer(PacingSettings(), 0), 0, 0, 0
    for size, pause_ns in sends:
        now_ns += pause_ns
        if pacer.wait_ns(size, now_ns) == 0:
            sent += size
            largest = max(largest, size)
    allowed = pacer.bytes_per_s * now_ns // SECOND
    assert sent <= allowed + largest + pacer._burst()


@settings(deadline=None)
@given(st.integers(1, 1 << 24), st.integers(0, SECOND))
def test_after_the_wait_the_bytes_may_leave(size, now_ns) -> None:
    pacer = Pacer(PacingSettings(), 0)
    wait_ns = pacer.wait_ns(size, now_ns)
    if wait_ns:
        assert pacer.wait_ns(size, now_ns + wait_ns) == 0


@pytest.mark.parametrize(
    "change", [{"burst_ns": 0}, {"floor_bytes_per_s": 2 << 30}, {"target_delay_ns": "25ms"}]
)
def test_bounds_of_the_flow_that_make_no_sense_are_refused(change) -> None:
    with pytest.raises(InvalidInput, match=next(iter(change))):
        PacingSettings(**change)
