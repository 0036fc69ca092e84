"""What leaves a log without having been committed is handed over with the write that drops it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.raft import recovery
from mcpcore.raft.custody import Custody, Dropped
from mcpcore.raft.log import RaftLog
from mcpcore.raft.types import Configuration, HardState, LogPosition
from tests.raft.member import Member, append, beat, entries

TRIO = Configuration.of("abc")


def dropped(member: Member) -> list[Dropped]:
    return [each for write in member.pending for each in write.dropped]


def test_what_a_new_leader_replaces_is_handed_over_with_the_write_that_replaces_it() -> None:
    member = Member(sync=False, term=1)
    member.hears("b", append(2, terms=[2, 2, 2]))
    member.writes_finish()

    member.hears("c", append(3, (2, 1), [3]))

    [write] = member.pending
    assert write.blocks
    assert [each.entry for each in write.dropped] == list(entries([2, 2], first=2))
    assert {(each.origin, each.replaced_by, each.covered) for each in write.dropped} == {
        ("b", "c", False)
    }


def test_an_old_leader_hands_over_what_it_accepted_itself() -> None:
    member = Member().leads()
    term = member.state.term
    proposed = member.proposes(b"pay 5", b"pay 6")
    member.sync = False

    member.hears("b", append(term + 1, (0, 0), [term + 1]))

    assert [each.entry for each in dropped(member)][1:] == proposed
    assert {each.origin for each in dropped(member)} == {"a"}


def test_an_append_that_conflicts_with_nothing_hands_over_nothing() -> None:
    member = Member(terms=[1, 1, 2], sync=False)
    member.hears("b", append(2, (1, 1), [1, 2, 2]))
    member.hears("b", append(2, (1, 1), [1]))
    assert dropped(member) == []


def test_what_is_handed_over_is_handed_over_once() -> None:
    member = Member(terms=[1, 1], sync=False)
    member.hears("b", append(2, (1, 1), [2]))
    member.hears("b", beat(2))
    member.hears("b", append(2, (2, 2), [2]))
    assert [each.entry.index for each in dropped(member)] == [2]


def install(member: Member, term: int, index: int) -> list[Dropped]:
    member.raft.snapshots.install(LogPosition(term, index), TRIO)
    member.drain()
    return dropped(member)


def test_a_snapshot_that_takes_the_logs_place_hands_over_what_it_may_not_contain() -> None:
    member = Member(terms=[1, 1, 2, 2], term=4, sync=False)
    found = install(member, 4, 3)
    assert [(each.entry.index, each.covered) for each in found] == [
        (1, True),
        (2, True),
        (3, True),
        (4, False),  # beyond the snapshot: nobody can have committed it there
    ]


def test_entries_of_a_later_term_than_the_snapshots_were_surely_not_committed() -> None:
    member = Member(terms=[1, 3], term=3, sync=False)
    assert [(each.entry.index, each.covered) for each in install(member, 2, 5)] == [
        (1, True),
        (2, False),
    ]


def test_what_the_snapshots_own_leader_made_is_in_the_snapshot() -> None:
    """The log matching property: same index and term, equal up to there (section 5.3)."""
    member = Member(terms=[1, 2, 2], term=2, sync=False)
    assert install(member, 2, 9) == [], "a follower that is merely behind gives up nothing"


def test_a_start_that_replaces_the_log_hands_over_what_it_held() -> None:
    start = recovery.begin(
        HardState(3, ""), TRIO, RaftLog(entries=entries([1, 3])), (LogPosition(2, 9), TRIO)
    )
    assert [(each.entry.index, each.covered) for each in start.dropped] == [(1, True), (2, False)]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 6), max_size=12).map(sorted),
    st.integers(1, 7),
    st.integers(1, 14),
    st.integers(0, 12),
)
def test_every_entry_is_contained_for_certain_or_handed_over(terms, term, index, commit) -> None:
    """A snapshot of any position: only what it surely contains goes without a trace."""
    log = RaftLog(entries=entries(terms))
    commit = min(commit, log.last_index, index - 1)
    custody = Custody()
    custody.replaced(log, LogPosition(term, index), commit, "b")
    handed = {each.entry.index: each.covered for each in custody.hand_over()}
    same_leader = [n for n, t in enumerate(terms, 1) if t == term and n <= index]
    for number, its_term in enumerate(terms, 1):
        if number <= max(commit, *same_leader, 0):
            assert number not in handed
        else:
            assert handed[number] == (number <= index and its_term < term)


def test_only_the_latest_leaders_are_remembered() -> None:
    custody = Custody()
    for term in range(1, 200):
        custody.led(term, f"node {term}")
    assert custody.leader_of(199) == "node 199"
    assert custody.leader_of(1) == ""
