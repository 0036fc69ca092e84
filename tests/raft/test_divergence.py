"""The report after a long cut: where logs part, who was told what, and nobody presumed right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.divergence import (
    DivergenceReport,
    LogOutline,
    Run,
    Side,
    common_ancestor,
    unanswered_commands,
)
from mcpcore.raft.evidence import Evidence
from mcpcore.raft.sessions import register_session, session_command
from mcpcore.raft.settings import SECOND
from mcpcore.raft.split import SplitSettings, SplitState, Verdict
from mcpcore.raft.types import Entry, EntryKind, LogPosition

START = LogPosition(0, 0)


def log(terms: list[int], base: LogPosition = START) -> LogOutline:
    return LogOutline.of(
        base,
        [
            Entry(term, base.index + number, EntryKind.COMMAND, b"")
            for number, term in enumerate(terms, 1)
        ],
    )


def test_a_log_is_outlined_by_runs_of_one_term() -> None:
    outline = log([1, 1, 3, 3, 3, 7])
    assert outline.runs == (Run(1, 1, 2), Run(3, 3, 5), Run(7, 6, 6))
    assert outline.last == LogPosition(7, 6)
    assert outline.beyond(3) == (Run(3, 4, 5), Run(7, 6, 6))


@pytest.mark.parametrize(
    ("ours", "theirs", "ancestor"),
    [
        ([1, 1, 1], [1, 1, 1], LogPosition(1, 3)),
        ([1, 1, 1, 2, 2], [1, 1, 1, 3], LogPosition(1, 3)),
        ([1, 1], [1, 1, 2, 2], LogPosition(1, 2)),
        ([2, 2], [3], START),
        ([], [1], START),
        ([1, 4, 4, 5, 5, 6, 6], [1, 4, 4, 5, 5, 6, 6, 6], LogPosition(6, 7)),
        ([1, 4, 4, 4, 4], [1, 4, 4, 5, 5, 6], LogPosition(4, 3)),
    ],
)
def test_two_logs_part_after_the_last_index_with_equal_terms(ours, theirs, ancestor) -> None:
    """Log matching (section 5.3)."""
    assert common_ancestor(log(ours), log(theirs)) == ancestor


def test_a_snapshot_that_the_other_log_reaches_down_to_is_the_ancestor() -> None:
    compacted = log([4, 4], LogPosition(2, 5))
    assert common_ancestor(log([1, 2, 2, 2, 2, 3]), compacted) == LogPosition(2, 5)
    assert common_ancestor(compacted, log([1, 2, 2, 2, 2, 3])) == LogPosition(2, 5)


def test_an_ancestor_inside_a_snapshot_is_unknown() -> None:
    assert common_ancestor(log([1, 1]), log([4], LogPosition(2, 50))) is None


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 5), max_size=12),
    st.lists(st.integers(6, 9), max_size=8),
    st.lists(st.integers(10, 14), max_size=8),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_the_ancestor_is_the_end_of_what_is_common(common, ours, theirs, cut, other_cut) -> None:
    shared = sorted(common)

    def outline(terms: list[int], base: int) -> LogOutline:
        base = min(base, len(shared))
        at = LogPosition(shared[base - 1] if base else 0, base)
        return log(terms[base:], at)

    ours_log = outline(shared + sorted(ours), cut)
    theirs_log = outline(shared + sorted(theirs), other_cut)
    assert common_ancestor(ours_log, theirs_log) == LogPosition(
        shared[-1] if shared else 0, len(shared)
    )


@pytest.mark.parametrize(
    "runs", [(Run(1, 2, 3),), (Run(1, 1, 0),), (Run(2, 1, 3), Run(1, 4, 4)), (Run(1, 1, 1),) * 2]
)
def test_runs_that_are_no_log_are_refused(runs) -> None:
    with pytest.raises(InvalidInput, match="log outline"):
        LogOutline(START, runs)


def test_clients_without_an_answer_are_those_whose_commands_were_truncated() -> None:
    entries = [
        Entry(3, 9, EntryKind.SESSION, session_command(7, 4, 0, b"x")),
        Entry(3, 10, EntryKind.SESSION, register_session()),
        Entry(3, 11, EntryKind.COMMAND, b"y"),
    ]
    assert unanswered_commands(entries) == ((7, 4),)


def report(theirs_committed: int = 130, ours_committed: int = 100) -> DivergenceReport:
    ours, theirs = log([1] * 100 + [2] * 40), log([1] * 100 + [3] * 30)
    evidence = Evidence("c", "main", True, "c", 2, 16 * SECOND, 5 * SECOND, 100, 140, ())
    split = Verdict(SplitState.SPLIT, 26 * SECOND, 26 * SECOND, "no quorum", evidence, SPLITS)
    return DivergenceReport(
        "main",
        common_ancestor(ours, theirs),
        Side("c", ours.beyond(100), ours_committed, {"c": 140}, ((7, 4), (9, 1))),
        Side("a", theirs.beyond(100), theirs_committed, {"a": 130, "b": 130}),
        10 * SECOND,
        70 * SECOND,
        (split,),
    )


SPLITS = SplitSettings()


def test_the_report_tells_both_suffixes_who_acknowledged_them_and_for_how_long() -> None:
    assert (
        report().text()
        == """\
group main: cut for 60.0 s; the logs are equal up to index 100 (term 1)
  c has 40 entries beyond (101..140 of term 2), committed up to 100
    acknowledged by c up to 140
    2 commands without an answer (session/sequence): 7/4, 9/1
  a has 30 entries beyond (101..130 of term 3), committed up to 130
    acknowledged by a up to 130
    acknowledged by b up to 130
      +16.0 s  split: no quorum"""
    )


def test_the_report_is_json_as_well() -> None:
    told = json.loads(report().to_json())
    assert told["ancestor"] == [1, 100]
    assert told["duration_s"] == 60.0
    assert told["sides"][0]["unanswered"] == [[7, 4], [9, 1]]
    assert told["history"][0] == {"state": "split", "after_s": 16.0, "sentence": "no quorum"}
    assert told["conflict"] == ""


def test_two_committed_suffixes_are_a_conflict_and_nobody_is_presumed_right() -> None:
    """etcd #14849: the leader was believed because it led."""
    conflict = report(ours_committed=120).conflict
    assert conflict.startswith("both sides hold committed entries beyond index 100")
    assert "CONFLICT" in report(ours_committed=120).text()
    assert report().conflict == ""
