"""Section 7: a snapshot in the place of entries that are gone, at both ends."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import ProtocolViolation
from mcpcore.raft import quiescence, recovery
from mcpcore.raft.core import Raft
from mcpcore.raft.log import RaftLog
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    SnapshotAsk,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotReply,
    SnapshotStatus,
    TimeoutNow,
    VoteReply,
)
from mcpcore.raft.snapshot_events import (
    BaseChange,
    ChunkArrived,
    SnapshotAnswered,
    SnapshotOffered,
    SnapshotWanted,
)
from mcpcore.raft.types import Configuration, Entry, EntryKind, HardState, LogPosition
from tests.raft.member import (
    MS,
    SETTINGS,
    TIMEOUT_MS,
    Member,
    accepted,
    answered,
    append,
    beat,
    entries,
    refused,
)

TRIO = Configuration.of("abc")
FIVE = Configuration.of("abcde")
INSTALLED, WANTED, REFUSED = (
    SnapshotStatus.INSTALLED,
    SnapshotStatus.WANTED,
    SnapshotStatus.REFUSED,
)


def told(member: Member, kind):
    """What the driver heard of this kind since the last question."""
    found = [event for event in member.snapshots if isinstance(event, kind)]
    member.snapshots = []
    return found


def offer(
    term: int, last: tuple[int, int], *, session: int = 1, transfer: int = 1, head: bytes = b"h"
) -> SnapshotOffer:
    return SnapshotOffer(term, session, transfer, *last, head, 1, SETTINGS.election_timeout_ns)


def chunk(term: int, offset: int = 0, *, session: int = 1, transfer: int = 1) -> SnapshotChunk:
    return SnapshotChunk(
        term, session, transfer, offset, b"data", 7, 1, SETTINGS.election_timeout_ns
    )


# --- compaction ---------------------------------------------------------------------------------


def leading(commands: int = 9) -> Member:
    """A leader of three whose log, up to index ``commands`` + 1, everybody holds and applied."""
    member = Member(terms=[], term=0)
    member.leads().all_accept()
    member.proposes(*[b"%d" % n for n in range(commands)])
    member.all_accept()
    assert member.state.commit == commands + 1
    return member


def test_only_what_was_applied_may_be_compacted() -> None:
    """Section 7: a snapshot covers the log's committed prefix."""
    member = leading()
    member.proposes(b"not committed yet")
    with pytest.raises(AssertionError, match="only what was applied"):
        member.raft.snapshots.compact(11)
    assert member.raft.snapshots.compact(10) == 10
    assert member.state.log.base == (1, 10)
    assert len(member.state.log) == 1
    member.drain()


def test_compaction_is_written_after_the_entries_that_it_drops() -> None:
    member = Member("a", term=0, sync=False)
    member.times_out()
    member.writes_finish()
    member.writes_finish()
    assert member.state.commit == 1
    member.raft.propose(b"x", member.now_ns)
    member.drain()
    member.writes_finish()
    assert member.raft.snapshots.compact(2) == 2
    member.drain()
    assert member.pending[-1].base == BaseChange(LogPosition(1, 2), Configuration.of("a"), True)


def test_trailing_entries_spare_a_member_that_is_slightly_behind_the_snapshot() -> None:
    """Hunt: log purged to the tip while a follower is behind."""
    member = Member(terms=[], term=0)
    member.leads().all_accept()
    member.proposes(*[b"%d" % n for n in range(9)])
    member.all_accept("b")
    assert member.raft.snapshots.compact(10, trailing=4) == 6
    member.raft.peer_connected("c", member.now_ns)
    member.drain()
    member.hears("c", refused(member.heard(Append, "c")[0], (1, 7)))
    assert not told(member, SnapshotWanted)
    assert member.heard(Append, "c")[0].prev_index == 7


def test_a_leader_does_not_purge_what_a_live_member_is_about_to_get_within_a_bound() -> None:
    """Hunt: log purged to the tip while a follower is behind."""
    member = Member(terms=[], term=0)
    member.leads().all_accept()
    member.proposes(*[b"%d" % n for n in range(9)])
    member.all_accept("b")
    progress = member.state.progress["c"]
    member.hears("c", AppendReply(1, progress.session, True, 3, 0, 0, member.now_ns))
    assert member.raft.snapshots.compact(10, hold_bytes=10_000) == 3, "it is waited for"
    assert member.raft.snapshots.compact(10, hold_bytes=10) == 10, "but not at any price"


def test_a_leader_does_not_wait_for_a_member_that_is_silent() -> None:
    member = leading()
    member.state.progress["c"].match = 3
    member.state.progress["c"].contact_ns = member.now_ns - 2 * TIMEOUT_MS * MS
    assert member.raft.snapshots.compact(10, hold_bytes=10_000) == 10


def test_compaction_waits_for_a_member_that_is_being_sent_a_snapshot() -> None:
    """NuRaft #121: a transfer that succeeds must not be followed by another one for ever."""
    member = leading()
    progress = member.state.progress["c"]
    progress.match = 0
    member.raft.snapshots.offer("c", progress.session, 1, LogPosition(1, 5), b"h")
    assert member.raft.snapshots.compact(10, hold_bytes=10_000) == 5


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_a_compacted_log_answers_like_the_whole_one_wherever_it_still_can(steps, data) -> None:
    terms, term = [], 0
    for step in steps:
        term += step // 3
        terms.append(max(1, term))
    whole, cut = RaftLog(entries=entries(terms)), RaftLog(entries=entries(terms))
    at = 0
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(at, len(terms)))
        cut.compact_to(at)
        cut.check()
    assert cut.last == whole.last
    for index in range(at, len(terms) + 1):
        assert cut.term_at(index) == whole.term_at(index)
        for highest in range(7):
            expected = whole.last_position_at_most(index, highest)
            if expected.index >= at:
                assert cut.last_position_at_most(index, highest) == expected
    assert cut.entries(at + 1, len(terms)) == whole.entries(at + 1, len(terms))
    cut.append(entries([term + 1], len(terms) + 1))
    cut.check()


# --- the leader ---------------------------------------------------------------------------------


def compacted_leader() -> Member:
    """It leads with a log that begins after 10; nothing is known yet of the others."""
    member = leading()
    member.raft.snapshots.compact(10)
    member.drain()
    for peer in "bc":
        member.state.progress[peer].match = 0
        member.raft.peer_connected(peer, member.now_ns)
    member.drain()
    return member


def test_a_member_is_asked_where_its_log_ends_before_it_gets_a_snapshot() -> None:
    """A new connection says nothing: the member may have all of it."""
    member = compacted_leader()
    probe = member.heard(Append, "b")[0]
    assert probe.prev_index == 10
    member.hears("b", accepted(probe))
    assert not told(member, SnapshotWanted)


def test_a_member_that_needs_entries_which_are_gone_gets_a_snapshot_and_nothing_else() -> None:
    """Section 7: "the leader must occasionally send snapshots to followers that lag behind"."""
    member = compacted_leader()
    member.hears("b", refused(member.heard(Append, "b")[0], (1, 4)))
    session = member.state.progress["b"].session
    assert told(member, SnapshotWanted) == [SnapshotWanted("b", session, 10)]
    member.proposes(b"more")
    assert not member.heard(Append, "b")
    beats = 0
    for _ in range(50):
        member.waits(TIMEOUT_MS / 10)
        assert not member.heard(Append, "b"), "no patience ends it: installing may take for ever"
        beats += len(member.heard(Heartbeat, "b"))
        for ask in member.heard(Heartbeat, "c"):
            member.hears("c", answered(ask))
    assert member.raft.is_leader
    assert beats, "but it hears that we lead"


def test_entries_go_on_after_the_snapshot_once_it_is_installed() -> None:
    member = compacted_leader()
    member.hears("b", refused(member.heard(Append, "b")[0], (0, 0)))
    member.proposes(b"more")
    session = member.state.progress["b"].session
    assert member.raft.snapshots.offer("b", session, 1, LogPosition(1, 10), b"head")
    member.drain()
    assert member.heard(SnapshotOffer, "b")[0].promise_ns == SETTINGS.election_timeout_ns
    done = SnapshotReply(1, session, 1, INSTALLED, 10, 0, b"", member.now_ns)
    member.hears("b", done)
    assert member.state.progress["b"].match == 10
    assert member.heard(Append, "b")[0].prev_index == 10
    assert told(member, SnapshotAnswered)[-1].reply == done


def test_an_answer_about_a_snapshot_of_an_earlier_session_never_counts() -> None:
    member = compacted_leader()
    member.hears("b", refused(member.heard(Append, "b")[0], (0, 0)))
    old = member.state.progress["b"].session
    member.raft.peer_connected("b", member.now_ns)
    member.hears("b", SnapshotReply(1, old, 1, INSTALLED, 10, 0, b"", member.now_ns))
    assert member.state.progress["b"].match == 0
    assert not member.raft.snapshots.offer("b", old, 1, LogPosition(1, 10), b"head")
    assert not member.raft.snapshots.send_chunk("b", old, 1, 0, b"x", 0)


def test_nobody_installs_more_than_the_leader_has() -> None:
    member = compacted_leader()
    session = member.state.progress["b"].session
    with pytest.raises(ProtocolViolation, match="beyond our last"):
        member.hears("b", SnapshotReply(1, session, 1, INSTALLED, 99, 0, b"", member.now_ns))


def test_a_reply_about_a_snapshot_in_a_higher_term_ends_the_leadership() -> None:
    member = compacted_leader()
    member.hears("b", SnapshotReply(9, 1, 1, REFUSED, 0, 0, b"", 0))
    assert not member.raft.is_leader
    assert member.state.term == 9


def test_a_late_acknowledgement_spares_a_member_the_snapshot_if_entries_suffice() -> None:
    member = leading()
    progress = member.state.progress["c"]
    progress.match, progress.next = 3, 4
    member.raft.snapshots.compact(8)
    member.drain()
    assert progress.awaits_snapshot
    member.hears("c", AppendReply(1, progress.session, True, 9, 0, 0, member.now_ns))
    assert not progress.awaits_snapshot
    assert progress.match == 9


def test_a_group_does_not_fall_asleep_while_a_snapshot_is_on_its_way() -> None:
    member = leading()
    assert quiescence.unrest(member.state) == ""
    session = member.state.progress["b"].session
    member.hears("b", SnapshotAsk(1, 4))
    member.raft.snapshots.offer("b", session, 1, LogPosition(1, 10), b"head")
    member.drain()
    assert "b is being sent a snapshot" in quiescence.unrest(member.state)


# --- the member that takes it in ----------------------------------------------------------------


def test_a_snapshot_message_keeps_the_election_timer_calm_however_long_it_takes() -> None:
    """NuRaft #121: an installation slower than any timeout disturbs nobody."""
    member = Member(terms=[1, 1], term=2)
    member.hears("b", offer(2, (2, 9)))
    for _ in range(30):
        member.waits(TIMEOUT_MS * 0.9)
        member.hears("b", chunk(2))
        assert member.state.role.value == "follower"
        assert member.state.leader == "b"
    assert len(told(member, ChunkArrived)) == 30


def test_a_follower_that_refuses_an_append_while_installing_still_trusts_the_leader() -> None:
    """redpanda #30815."""
    member = Member(terms=[1, 1], term=2)
    member.hears("b", offer(2, (2, 9)))
    for _ in range(5):
        member.waits(TIMEOUT_MS * 0.9)
        member.hears("b", append(2, prev=(2, 9)))
        assert not member.heard(AppendReply)[0].accepted
        assert member.state.leader == "b"


def test_a_leader_of_an_older_term_learns_that_its_time_is_over() -> None:
    member = Member(terms=[1], term=5)
    for message in (offer(4, (1, 9)), chunk(4)):
        member.hears("b", message)
        answer = member.heard(SnapshotReply)[0]
        assert (answer.term, answer.status) == (5, REFUSED)
    assert not member.snapshots


def test_two_leaders_of_one_term_are_a_violation_for_snapshots_too() -> None:
    member = Member(terms=[1], term=2)
    member.hears("b", beat(2))
    with pytest.raises(ProtocolViolation, match="claims to lead"):
        member.hears("c", offer(2, (2, 9)))


def test_a_snapshot_that_our_log_agrees_with_is_not_needed_and_the_suffix_stays() -> None:
    """Section 7: "if existing log entry has same index and term as snapshot's last included entry,
    retain log entries following it and reply"."""
    member = Member(terms=[1, 1, 2, 2], term=2)
    member.hears("b", offer(2, (2, 3)))
    answer = member.heard(SnapshotReply)[0]
    assert (answer.status, answer.at_index) == (INSTALLED, 3)
    assert member.state.commit == 3
    assert member.last == (2, 4)
    assert [entry.index for entry in member.applied] == [1, 2, 3], "from its own entries"
    assert not told(member, SnapshotOffered)


def test_a_snapshot_older_than_what_is_committed_is_answered_and_changes_nothing() -> None:
    member = Member(terms=[1, 1], term=1)
    member.hears("b", append(1, prev=(1, 2), terms=[1, 1], commit=4))
    member.hears("b", offer(1, (1, 2)))
    assert member.heard(SnapshotReply)[0].status == INSTALLED
    assert member.state.commit == 4
    assert not member.raft.snapshots.install(LogPosition(1, 2), FIVE)
    assert member.state.configuration == TRIO


def installing(member: Member, last: tuple[int, int], configuration: Configuration = TRIO) -> bool:
    """What a driver does once the snapshot is durable."""
    offered = told(member, SnapshotOffered)[-1]
    changed = member.raft.snapshots.install(LogPosition(*last), configuration)
    member.raft.snapshots.answer(offered, INSTALLED)
    member.drain()
    return changed


def test_an_installed_snapshot_takes_the_place_of_the_whole_log() -> None:
    """Section 7: "the follower discards its entire log; it is all superseded by the snapshot"."""
    member = Member(terms=[1, 1, 1], term=3)
    member.hears("b", offer(3, (3, 9)))
    assert installing(member, (3, 9))
    assert member.state.log.base == (3, 9)
    assert len(member.state.log) == 0
    assert (member.state.commit, member.state.handed) == (9, 9)
    member.hears("b", append(3, prev=(3, 9), terms=[3], commit=10))
    assert [entry.index for entry in member.applied] == [10]


def test_entries_that_conflict_with_a_snapshot_go_with_all_that_follow_them() -> None:
    member = Member(terms=[1, 1, 2, 2, 2, 2], term=3)
    member.hears("b", offer(3, (3, 4)))
    assert installing(member, (3, 4))
    assert member.last == (3, 4)


def test_the_answer_leaves_only_once_the_log_is_durably_in_its_place() -> None:
    """Snapshot durable, then log replaced, then answered: in this order across any crash."""
    member = Member(terms=[1], term=3, sync=False)
    member.hears("b", offer(3, (3, 9)))
    member.writes_finish()
    assert installing(member, (3, 9))
    assert not member.heard(SnapshotReply)
    assert member.pending[-1].base == BaseChange(LogPosition(3, 9), TRIO, False)
    member.writes_finish()
    assert member.heard(SnapshotReply)[0].status == INSTALLED


def test_a_write_that_was_under_way_does_not_vouch_for_the_log_that_replaced_it() -> None:
    member = Member(terms=[1], term=3, sync=False)
    member.hears("b", append(3, prev=(1, 1), terms=[3, 3]))
    member.hears("b", offer(3, (3, 9)))
    assert installing(member, (3, 9))
    member.writes_finish(1)
    assert not member.heard(SnapshotReply), "that was the old log's write"
    assert not [m for m in member.heard(AppendReply) if m.at_index > 3]


def test_while_a_snapshot_arrives_the_member_still_answers_and_votes_as_ever() -> None:
    member = Member(terms=[1, 1], term=2)
    member.hears("b", offer(2, (2, 9)))
    assert member.state.log.last == (1, 2)
    assert member.state.handed == 0
    member.times_out()
    assert member.state.role.value == "pre-candidate"


def test_a_member_that_caught_up_by_entries_meanwhile_installs_nothing() -> None:
    member = Member(terms=[1], term=1)
    member.hears("b", offer(1, (1, 4)))
    offered = told(member, SnapshotOffered)[0]
    member.hears("b", append(1, prev=(1, 1), terms=[1, 1, 1, 1], commit=2))
    assert not member.raft.snapshots.install(LogPosition(1, 4), FIVE)
    assert member.state.commit == 4, "but it learned how much is committed"
    member.raft.snapshots.answer(offered, INSTALLED)
    member.drain()
    assert member.last == (1, 5)
    assert member.state.configuration == TRIO


# --- membership (openraft #1808) ------------------------------------------------------------------


def config_entry(term: int, index: int, configuration: Configuration) -> Entry:
    return Entry(term, index, EntryKind.CONFIG, configuration.encode())


def test_a_snapshot_with_an_older_membership_never_replaces_a_newer_one_in_force() -> None:
    """The log agrees with the snapshot, and its suffix holds a newer configuration."""
    member = Member(terms=[1, 1], term=1)
    change = append(1, prev=(1, 2))._replace(block=_block(config_entry(1, 3, FIVE)))
    member.hears("b", change)
    assert member.state.configuration == FIVE
    member.hears("b", offer(1, (1, 2)))
    assert not member.raft.snapshots.install(LogPosition(1, 2), TRIO)
    assert member.state.configuration == FIVE


def test_a_snapshot_with_a_newer_membership_puts_it_in_force() -> None:
    member = Member(terms=[1, 1], term=2)
    member.hears("b", offer(2, (2, 9)))
    assert installing(member, (2, 9), FIVE)
    assert member.state.configuration == FIVE
    assert member.state.configurations == [(9, FIVE)]


def test_a_configuration_of_entries_that_a_snapshot_replaced_is_forgotten_with_them() -> None:
    """It was never committed: the snapshot's position holds another entry."""
    member = Member(terms=[1], term=1)
    member.hears("b", append(1, prev=(1, 1))._replace(block=_block(config_entry(1, 2, FIVE))))
    member.hears("b", offer(2, (2, 2)))
    assert installing(member, (2, 2), TRIO)
    assert member.state.configuration == TRIO


def test_compaction_keeps_the_configuration_that_is_in_force_where_the_log_begins() -> None:
    member = Member(terms=[1], term=1)
    member.hears("b", append(1, prev=(1, 1))._replace(block=_block(config_entry(1, 2, FIVE))))
    member.hears("b", append(1, prev=(1, 2), terms=[1, 1], commit=4))
    assert member.raft.snapshots.compact(3) == 3
    assert member.state.configurations == [(2, FIVE)]
    assert member.raft.snapshots.configuration_at(3) == FIVE
    member.drain()
    assert member.state.configuration == FIVE


def test_a_membership_that_is_newer_than_where_the_log_begins_is_not_taken_for_an_older_one() -> (
    None
):
    member = Member(terms=[1, 1], term=1, sync=False)
    change = append(1, prev=(1, 2), commit=3)
    member.hears("b", change._replace(block=_block(config_entry(1, 3, FIVE))))
    member.raft.snapshots.compact(2)
    member.drain()
    moved = [write.base for write in member.pending if write.base is not None]
    assert moved == [BaseChange(LogPosition(1, 2), TRIO, True)]
    assert member.state.configuration == FIVE


def _block(*made: Entry):
    from mcpcore.raft.types import Block

    return Block(made)


# --- a member whose state is lost ---------------------------------------------------------------


def lost(term: int = 2) -> Member:
    return Member(terms=[1, 2], term=term, base=(1, 2), stateless=True)


def test_a_member_without_a_state_stores_and_votes_but_applies_nothing_and_asks() -> None:
    member = lost()
    member.hears("b", append(2, prev=(2, 4), terms=[2], commit=5))
    assert member.heard(AppendReply)[0].accepted
    assert member.heard(SnapshotAsk) == [SnapshotAsk(2, 2)]
    assert member.applied == []
    member.hears("b", beat(2))
    assert not member.heard(SnapshotAsk), "once in a while is enough"
    member.waits(TIMEOUT_MS * 0.6)
    member.hears("b", beat(2))
    member.waits(TIMEOUT_MS * 0.6)
    member.hears("b", beat(2))
    assert member.heard(SnapshotAsk)


def test_a_leader_sends_a_snapshot_beside_the_entries_to_whoever_lost_its_state() -> None:
    member = leading()
    session = member.state.progress["b"].session
    member.hears("b", SnapshotAsk(1, 4))
    assert told(member, SnapshotWanted) == [SnapshotWanted("b", session, 4)]
    member.proposes(b"goes on")
    assert member.heard(Append, "b")


def test_a_member_without_a_state_takes_a_snapshot_within_its_log_and_keeps_the_suffix() -> None:
    member = lost()
    member.hears("b", append(2, prev=(2, 4), terms=[2], commit=5))
    member.hears("b", offer(2, (1, 3)))
    assert installing(member, (1, 3))
    assert member.state.log.base == (1, 3)
    assert [entry.index for entry in member.applied] == [4, 5]
    assert not member.state.stateless


def test_a_leader_without_a_state_hands_over_at_once() -> None:
    """Its log may be the longest, so it must be able to lead; but it can answer nothing."""
    member = lost()
    member.leads()
    member.all_accept()
    member.waits(SETTINGS.heartbeat_ns / MS)
    assert member.state.transfer_target in ("b", "c")
    assert any(isinstance(m, TimeoutNow) for _, m in member.said)
    assert member.applied == []


def test_a_leader_that_loses_its_state_steps_down() -> None:
    member = leading()
    member.raft.snapshots.lose_state()
    assert not member.raft.is_leader
    assert member.state.handed == member.state.log.base.index
    member.drain()
    member.hears("b", VoteReply(1, True))


# --- the start (every mixture that a crash can leave) -------------------------------------------


@pytest.mark.parametrize(
    ("base", "terms", "snapshot", "expected"),
    [
        # base, terms after it, snapshot -> (base, last, applied, stateless, replace)
        ((0, 0), [], None, ((0, 0), (0, 0), 0, False, False)),
        ((0, 0), [1, 1], None, ((0, 0), (1, 2), 0, False, False)),
        ((1, 2), [1, 2], None, ((1, 2), (2, 4), 2, True, False)),
        ((1, 2), [1, 2], (1, 1), ((1, 2), (2, 4), 2, True, False)),
        ((1, 2), [1, 2], (1, 2), ((1, 2), (2, 4), 2, False, False)),
        ((1, 2), [1, 2], (1, 3), ((1, 2), (2, 4), 3, False, False)),
        ((1, 2), [1, 2], (2, 4), ((1, 2), (2, 4), 4, False, False)),
        ((1, 2), [1, 2], (2, 3), ((2, 3), (2, 3), 3, False, True)),
        ((1, 2), [1, 2], (2, 9), ((2, 9), (2, 9), 9, False, True)),
        ((0, 0), [], (3, 9), ((3, 9), (3, 9), 9, False, True)),
    ],
)
def test_every_mixture_of_log_and_snapshot_has_one_beginning(
    base, terms, snapshot, expected
) -> None:
    log = RaftLog(LogPosition(*base), entries(terms, base[1] + 1))
    found = None if snapshot is None else (LogPosition(*snapshot), FIVE)
    start = recovery.begin(HardState(2, "b"), TRIO, log, found)
    assert (start.log.base, start.log.last, start.applied, start.stateless, start.replace) == (
        expected
    )
    assert start.configuration == (FIVE if start.replace else TRIO)
    assert start.hard_state.term >= start.log.last.term, "a vote is never behind its log"
    if start.hard_state.term == 2:
        assert start.hard_state.voted_for == "b", "and never forgotten"


def test_a_member_begins_to_apply_after_its_snapshot() -> None:
    log = RaftLog(LogPosition(1, 2), entries([1, 1, 1], 3))
    raft = Raft(
        "a",
        SETTINGS,
        random.Random(0),
        configuration=Configuration.of("a"),
        hard_state=HardState(1, "a"),
        log=log,
        applied=4,
    )
    assert raft.state.commit == 4
    raft.tick(raft.deadline_ns())
    ready = raft.ready()
    assert ready.write is not None
    raft.written(ready.write.seq, raft.state.now_ns)
    ready = raft.ready()
    assert ready.write is not None
    raft.written(ready.write.seq, raft.state.now_ns)
    assert [entry.index for entry in raft.ready().committed] == [5, 6]
