"""Figure 2, "persistent state": what leaves a member before what it promises is on the disk."""

from __future__ import annotations

import pytest

from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.types import HardState
from tests.raft.cluster import Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, append, beat, entries


def slow(**how) -> Member:
    """A member whose disk answers only when the test says so."""
    return Member(sync=False, **how)


def test_a_vote_leaves_only_once_it_is_on_the_disk() -> None:
    """Raft Figure 2: "updated on stable storage before responding to RPCs" (PySyncObj #84)."""
    member = slow(term=2)

    assert member.hears("b", Vote(3, 0, 0, False)) == []
    assert member.pending[0].hard_state == HardState(3, "b")

    assert member.writes_finish() == [("b", VoteReply(3, True))]


def test_a_vote_lost_in_a_crash_was_never_said() -> None:
    """Raft §5.2 with Figure 2: nobody counts a vote that the voter forgets."""
    cluster = Cluster("abc", sync=False)
    cluster["b"].step("a", Vote(1, 0, 0, False), cluster.now_ns)
    cluster.drain("b")
    cluster.crash("b", stored=0)
    cluster.restart("b")
    assert cluster["b"].state.voted_for == ""
    assert not [m for m in cluster.mail if isinstance(m.message, VoteReply)]


@pytest.mark.parametrize("message", [Vote(9, 9, 9, False), append(9), beat(9)])
def test_a_new_term_is_on_the_disk_before_anything_carries_it(message) -> None:
    """Raft Figure 2: a term that a crash takes back would be used twice."""
    member = slow(term=2)
    assert member.hears("b", message) == []
    assert member.pending[0].hard_state is not None
    assert len(member.writes_finish()) == 1


def test_a_candidate_asks_for_votes_only_once_its_own_is_on_the_disk() -> None:
    """Raft §5.2 with Figure 2."""
    member = slow(term=2)
    member.campaigns()
    assert member.heard(Vote) == []

    member.writes_finish()

    assert len(member.heard(Vote)) == 2


def test_a_candidate_does_not_count_its_own_vote_before_it_is_on_the_disk() -> None:
    member = slow(term=2)
    member.campaigns()
    member.hears("b", VoteReply(3, True))
    assert member.state.role is Role.CANDIDATE

    member.writes_finish()

    assert member.raft.is_leader


def test_a_pre_vote_waits_for_no_disk() -> None:
    """Thesis §9.6: it promises nothing."""
    member = slow(term=2)
    assert member.times_out() == [(peer, PreVote(3, 0, 0)) for peer in "bc"]
    assert slow(term=2).hears("b", PreVote(3, 0, 0)) == [("b", PreVoteReply(2, 3, True))]


def test_a_follower_acknowledges_entries_only_once_they_are_on_its_disk() -> None:
    """Raft Figure 2."""
    member = slow(term=1)
    assert member.hears("b", append(1, (0, 0), [1, 1])) == []
    [reply] = [m for _, m in member.writes_finish()]
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.at_index) == (True, 2)


def test_a_repeated_append_is_not_acknowledged_before_the_first_one_is_on_the_disk() -> None:
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1, 1]))
    assert member.hears("b", append(1, (0, 0), [1, 1])) == []
    assert len(member.writes_finish()) == 2


def test_what_promises_nothing_new_does_not_wait_behind_a_slow_disk() -> None:
    """A heartbeat's answer and a refusal vouch for the term alone."""
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1]))
    assert len(member.hears("b", beat(1))) == 1
    assert isinstance(member.said[0][1], HeartbeatReply)
    [(_, reply)] = member.hears("b", append(1, (1, 9)))
    assert isinstance(reply, AppendReply)
    assert not reply.accepted


def test_a_leader_sends_before_its_own_sync_but_does_not_count_itself() -> None:
    """Thesis §10.2.1: the disks of leader and followers work at the same time."""
    member = slow(term=2)
    member.campaigns()
    member.writes_finish()
    member.hears("b", VoteReply(3, True))
    asks = {peer: member.heard(Append, peer)[0] for peer in "bc"}
    assert len(asks["b"].block) == 1

    member.hears("b", accepted(asks["b"]))
    assert member.state.commit == 0, "one disk of three"
    member.writes_finish()
    assert member.state.commit == 1


def test_a_quorum_of_followers_commits_without_the_leaders_disk() -> None:
    """Thesis §10.2.1."""
    member = slow(term=2)
    member.campaigns()
    member.writes_finish()
    member.hears("b", VoteReply(3, True))
    asks = {peer: member.heard(Append, peer)[0] for peer in "bc"}
    for peer in "bc":
        member.hears(peer, accepted(asks[peer]))
    assert member.state.commit == 1
    assert member.state.durable_index == 0


def test_a_write_from_before_a_truncation_proves_nothing_about_the_new_log() -> None:
    """A late sync of dropped entries must not set free the answer for those that replaced them."""
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1, 1, 1]))
    member.hears("c", append(2, (1, 1), [2, 2]))

    member.writes_finish(1)
    assert member.state.durable_index == 1
    assert member.heard(AppendReply, "c") == []

    member.writes_finish()
    assert member.heard(AppendReply, "c")[0].at_index == 3
    assert member.state.durable_index == 3


def test_what_was_durable_before_a_truncation_is_so_no_longer() -> None:
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1, 1, 1]))
    member.writes_finish()
    member.hears("c", append(2, (1, 1), [2, 2, 2]))
    assert member.state.durable_index == 1
    assert member.hears("c", append(2, (2, 3), [])) == []


def test_writes_are_in_order_and_replace_what_they_overlap() -> None:
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1, 1]))
    member.hears("c", append(2, (1, 1), [2]))
    [first, second] = member.pending
    assert first.seq < second.seq
    assert first.blocks[0].entries == entries([1, 1])
    assert second.blocks[0].entries == entries([2], 2)
    assert (first.hard_state, second.hard_state) == (None, HardState(2, ""))


def test_proposals_between_two_writes_make_one_block() -> None:
    member = slow(term=2)
    member.campaigns()
    member.writes_finish()
    member.hears("b", VoteReply(3, True))
    member.writes_finish()
    member.proposes(b"x", b"y", b"z")
    assert [len(write.blocks) for write in member.pending] == [1]
    assert len(member.pending[0].blocks[0]) == 3


def test_nothing_is_written_twice() -> None:
    member = slow(term=2)
    member.hears("b", append(2, (0, 0), [1]))
    member.hears("b", append(2, (0, 0), [1]))
    member.hears("b", beat(2))
    assert len(member.pending) == 1


# --- a disk that does not answer ----------------------------------------------------------------


def leader_with_a_slow_disk() -> Member:
    member = slow(term=2)
    member.campaigns()
    member.writes_finish()
    member.hears("b", VoteReply(3, True))
    asks = {peer: member.heard(Append, peer)[0] for peer in "bc"}
    member.writes_finish()
    for peer in "bc":
        member.hears(peer, accepted(asks[peer]))
    return member


def followed(member: Member, ms: int) -> None:
    """Time passes, and both followers answer every heartbeat."""
    for _ in range(ms // 200):
        member.waits(200)
        for peer, ask in [(to, m) for to, m in member.said if isinstance(m, Heartbeat)]:
            if member.raft.is_leader:
                reply = HeartbeatReply(ask.term, ask.session, ask.round, ask.sent_ns)
                member.hears(peer, reply)


def test_a_leader_whose_sync_never_returns_steps_down() -> None:
    """hashicorp #503, #612, #666: it must not keep a dead office alive by its heartbeats."""
    member = leader_with_a_slow_disk()
    member.proposes(b"x")

    followed(member, TIMEOUT_MS + 200)

    assert member.state.role is Role.FOLLOWER
    assert "the disk has not answered for 1.2 s" in member.events[-1].reason


def test_a_leader_that_is_asked_for_reads_without_end_still_notices_that_its_disk_is_gone() -> None:
    """Every round of reads sends heartbeats; they must not put off the look at our own office."""
    member = leader_with_a_slow_disk()
    member.proposes(b"x")

    for _ in range(TIMEOUT_MS // 50 + 10):
        member.waits(50)
        if not member.raft.is_leader:
            break
        member.raft.read(member.now_ns)
        member.drain()
        for peer, ask in [(to, m) for to, m in member.said if isinstance(m, Heartbeat)]:
            member.hears(peer, HeartbeatReply(ask.term, ask.session, ask.round, ask.sent_ns))

    assert member.state.role is Role.FOLLOWER
    assert "the disk has not answered" in member.events[-1].reason


def test_a_member_whose_disk_stalls_does_not_campaign() -> None:
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1]))
    member.times_out()
    member.times_out()
    assert member.state.role is Role.FOLLOWER
    assert member.said == []


def test_when_the_sync_returns_the_old_leader_acts_on_nothing_stale() -> None:
    """etcd #15247."""
    member = leader_with_a_slow_disk()
    member.proposes(b"x")
    followed(member, TIMEOUT_MS + 200)
    commit = member.state.commit

    said = member.writes_finish()

    assert said == []
    assert member.state.commit == commit
    assert member.state.progress == {}


def test_a_stalled_member_resumes_by_itself() -> None:
    """A follower whose disk answers again takes part as before."""
    member = slow(term=1)
    member.hears("b", append(1, (0, 0), [1]))
    member.times_out()
    member.writes_finish()
    assert member.times_out() == [(peer, PreVote(2, 1, 1)) for peer in "bc"]


# --- whole groups -------------------------------------------------------------------------------


def test_a_restart_of_the_whole_group_loses_nothing_that_was_committed() -> None:
    """PySyncObj #202: a full restart reset the term and overwrote committed data."""
    cluster = Cluster("abc", sync=False)
    for name in "abc":
        cluster.sync = True
        cluster.drain(name)
    cluster.elect("a")
    entry = cluster.propose("a", b"x")
    cluster.settle()
    term = cluster["a"].state.term
    assert cluster["a"].state.commit == entry.index

    for name in "abc":
        cluster.crash(name)
    cluster.mail.clear()
    for name in "abc":
        cluster.restart(name)
        assert cluster[name].state.term >= term
    cluster.advance(6 * TIMEOUT_MS)

    for name in "abc":
        assert cluster.commands(name) == [b"x"]


def test_an_answer_leaves_although_its_write_finished_before_the_member_took_a_turn() -> None:
    """A driver's turn may come after both: the answer must not wait for a write that is over."""
    cluster = Cluster("abc", sync=False)
    first = append(1, terms=[1])
    follower = cluster["b"]
    follower.step("a", first, cluster.now_ns)
    cluster.drain("b")
    follower.step("a", first, cluster.now_ns)  # a duplicate: its answer waits for the write
    cluster.complete("b", 9, drain=False)
    cluster.drain("b")

    answers = [letter.message for letter in cluster.mail if letter.sender == "b"]
    assert [type(answer) for answer in answers] == [AppendReply, AppendReply]
