"""The log in memory: positions, slices, runs of equal terms (section 5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.raft.log import ENTRY_OVERHEAD_BYTES, START, RaftLog
from mcpcore.raft.types import Block, Entry, LogPosition
from tests.raft.member import entries

term_lists = st.lists(st.integers(1, 6), max_size=20).map(sorted)
bases = st.builds(LogPosition, st.just(1), st.integers(1, 50)) | st.just(LogPosition(0, 0))


def log_of(*terms: int, base: LogPosition = START) -> RaftLog:
    log = RaftLog(base, entries(terms, base.index + 1))
    log.check()
    return log


@settings(deadline=None)
@given(bases, term_lists)
def test_a_log_knows_the_term_of_what_it_holds_and_of_nothing_else(base, terms) -> None:
    log = log_of(*terms, base=base)

    assert log.term_at(base.index) == base.term
    for index, term in enumerate(terms, base.index + 1):
        assert log.term_at(index) == term == log.entry(index).term
    assert log.term_at(base.index - 1) is None
    assert log.term_at(log.last_index + 1) is None
    assert log.last == (terms[-1] if terms else base.term, base.index + len(terms))
    assert len(log) == len(terms)


@settings(deadline=None)
@given(bases, term_lists, st.data())
def test_appending_after_a_truncation_is_as_if_the_rest_had_never_been(base, terms, data) -> None:
    log = log_of(*terms, base=base)
    keep = data.draw(st.integers(0, len(terms)))
    if keep < len(terms):
        log.truncate_from(base.index + keep + 1)
    more = data.draw(st.lists(st.integers(6, 9), max_size=5).map(sorted))
    log.append(entries(more, base.index + keep + 1))
    log.check()

    fresh = log_of(*terms[:keep], *more, base=base)
    assert log.entries(base.index + 1, log.last_index) == fresh.entries(
        base.index + 1, fresh.last_index
    )
    assert repr(log) == repr(fresh)


@settings(deadline=None)
@given(bases, term_lists, st.integers(0, 80), st.integers(0, 8))
def test_the_last_position_at_most_is_the_one_a_search_finds(base, terms, index, term) -> None:
    """Raft §5.3: both sides of a conflict skip every term that cannot match."""
    log = log_of(*terms, base=base)
    candidates = [
        base,
        *(
            LogPosition(entry.term, entry.index)
            for entry in log.entries(base.index + 1, log.last_index)
        ),
    ]
    fitting = [at for at in candidates if at.index <= index and at.term <= term]

    assert log.last_position_at_most(index, term) == (fitting[-1] if fitting else (0, 0))


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 400), st.data())
def test_a_limit_is_the_longest_range_that_fits_and_one_entry_always_does(
    sizes, max_bytes, data
) -> None:
    log = RaftLog(entries=[Entry(1, i, 1, b"x" * size) for i, size in enumerate(sizes, 1)])
    first = data.draw(st.integers(1, len(sizes)))

    last = log.limit(first, len(sizes), max_bytes)

    assert first <= last <= len(sizes)
    assert last == first or log.size_bytes(first, last) <= max_bytes
    assert last == len(sizes) or log.size_bytes(first, last + 1) > max_bytes


def test_the_weight_of_entries_counts_what_the_wire_adds() -> None:
    log = log_of(1, 1)
    assert log.size_bytes(1, 2) == 2 * (3 + ENTRY_OVERHEAD_BYTES)
    assert log.size_bytes(3, 2) == 0


def test_the_same_range_is_encoded_once() -> None:
    """For every follower and for the leader's own disk."""
    log = log_of(1, 1, 2)
    assert log.block(1, 3) is log.block(1, 3)
    assert log.block(4, 3).entries == ()


def test_a_block_made_before_a_truncation_is_not_handed_out_after_it() -> None:
    log = log_of(1, 1)
    before = log.block(1, 2)
    log.truncate_from(2)
    log.append(entries([3], 2))

    assert log.block(1, 2) == Block(entries([1]) + entries([3], 2)) != before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (entries([3], 4), "a hole: 4 after 2"),
        (entries([3], 2), "a hole: 2 after 2"),
        (entries([1], 3), "terms never go back: 1 < 2"),
    ],
)
def test_a_log_refuses_what_would_break_its_promises(wrong, words) -> None:
    with pytest.raises(AssertionError, match=words):
        log_of(1, 2).append(wrong)


def test_what_a_snapshot_covers_cannot_be_truncated() -> None:
    with pytest.raises(AssertionError, match="part of the snapshot"):
        log_of(1, base=LogPosition(1, 5)).truncate_from(5)


def test_a_log_tells_its_terms_to_the_tired() -> None:
    assert repr(log_of(1, 1, 4)) == "RaftLog(base 0, last 3: term 1 from 1, term 4 from 3)"
    assert repr(log_of()) == "RaftLog(base 0, last 0: empty)"
