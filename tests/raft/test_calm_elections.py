"""What the thesis adds to keep elections calm: pre-vote, stickiness, check-quorum."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.raft.messages import (
    AppendReply,
    Heartbeat,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.settings import RaftSettings
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, answered, append, beat

# --- Thesis 9.6: pre-vote ---------------------------------------------------------------------


def test_a_pre_vote_changes_nothing_at_either_side() -> None:
    """Thesis §9.6: neither the term nor the vote moves until a quorum would vote."""
    member = Member(term=4)
    member.times_out()
    assert member.said == [(peer, PreVote(5, 0, 0)) for peer in "bc"]
    assert (member.state.role, member.state.term) == (Role.PRE_CANDIDATE, 4)

    voter = Member(term=4, voted_for="c")
    voter.hears("b", PreVote(9, 0, 0))
    assert voter.said == [("b", PreVoteReply(4, 9, True))]
    assert (voter.state.term, voter.state.voted_for) == (4, "c")
    assert voter.pending == []


def test_a_cut_off_member_does_not_raise_its_term_however_long_it_waits() -> None:
    """Thesis §9.6: it comes back without disturbing the leader."""
    cluster = Cluster("abc")
    cluster.elect("a")
    term = cluster["a"].state.term
    cluster.partition("c", "ab")
    cluster.advance(30 * TIMEOUT_MS)
    assert cluster["c"].state.term == term

    cluster.heal()
    cluster.advance(3 * TIMEOUT_MS)

    assert cluster.leader() == "a"
    assert cluster["a"].state.term == term


def test_a_pre_candidate_refused_by_a_quorum_returns_to_waiting() -> None:
    """Thesis §9.6."""
    member = Member(term=4)
    member.times_out()

    member.hears("b", PreVoteReply(4, 5, False))
    member.hears("c", PreVoteReply(4, 5, False))

    assert (member.state.role, member.state.term) == (Role.FOLLOWER, 4)


def test_an_answer_to_an_older_pre_vote_is_not_counted() -> None:
    """Thesis §9.6: the answer names the term that was asked about."""
    member = Member("abcde", term=4)
    member.times_out()

    for peer in "bcde":
        member.hears(peer, PreVoteReply(4, 4, True))

    assert member.state.role is Role.PRE_CANDIDATE


def test_a_pre_vote_granted_by_a_member_of_an_older_term_counts() -> None:
    """Thesis §9.6: a pre-vote raises no term, so a voter that lags behind stays behind."""
    member, voter = Member(term=7), Member(term=2)
    member.times_out()
    voter.hears("b", member.heard(PreVote, "b")[0])

    member.hears("b", voter.heard(PreVoteReply)[0])

    assert member.state.role is Role.CANDIDATE


def test_two_pre_candidates_that_remember_a_dead_leader_elect() -> None:
    """etcd #8334, #10355: both ask at the same moment, and neither holds on to the dead one."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("a")
    for name in "bc":
        assert cluster[name].leader == "a"
        state = cluster[name].state
        state.election_deadline_ns = state.patience.promise_until_ns

    cluster.advance(4 * TIMEOUT_MS)

    assert cluster.leader() in ("b", "c")


def test_a_member_with_a_lower_term_and_a_longer_log_does_not_block_elections() -> None:
    """etcd #8243: a refused pre-vote teaches it the newer term, and then it can win."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.partition("a", "b", "c")
    cluster.propose("a", b"only a has this")
    for name in "bc":
        state = cluster[name].state
        state.term = 5
        cluster.drain(name)
    cluster.crash("c")
    cluster.advance(2 * TIMEOUT_MS)  # a steps down
    cluster.heal()

    cluster.advance(8 * TIMEOUT_MS)

    assert cluster.leader() == "a"
    assert cluster["a"].state.term > 5


def test_a_member_that_would_refuse_everybody_still_answers_a_pre_vote_with_its_term() -> None:
    """etcd #8243, the half of the refusal that heals."""
    member = Member(terms=[5], term=7)

    member.hears("b", PreVote(4, 3, 99))

    assert member.said == [("b", PreVoteReply(7, 4, False))]


def test_members_with_different_windows_still_elect() -> None:
    """etcd #8501, a rolling upgrade: two members are half as patient again as the third."""
    cluster = Cluster("abc")
    for name in "bc":
        cluster[name].state.settings = RaftSettings(
            election_timeout_ns=1500 * MS, heartbeat_ns=300 * MS
        )
    cluster.advance(6000)
    for _ in range(4):
        dead = cluster.leader()
        cluster.crash(dead)
        cluster.advance(8000)
        assert cluster.leader() != dead
        cluster.restart(dead)
        cluster.advance(500)


# --- Thesis 4.2.3: stickiness -----------------------------------------------------------------


@pytest.mark.parametrize("heard", [beat(3), append(3)], ids=["heartbeat", "append"])
def test_a_follower_of_a_live_leader_ignores_candidates(heard) -> None:
    """Thesis §4.2.3: neither the vote nor the term, until an election timeout has passed."""
    member = Member(term=3)
    member.hears("b", heard)

    member.waits(TIMEOUT_MS - 1, tick=False)
    assert member.hears("c", Vote(9, 9, 9, False)) == []
    assert member.state.term == 3
    assert member.hears("c", PreVote(9, 9, 9)) == [("c", PreVoteReply(3, 9, False))]

    member.waits(1, tick=False)
    assert member.hears("c", PreVote(9, 9, 9)) == [("c", PreVoteReply(3, 9, True))]
    assert member.hears("c", Vote(9, 9, 9, False)) == [("c", VoteReply(9, True))]


def test_a_leader_with_a_quorum_ignores_candidates() -> None:
    """Thesis §4.2.3, at the leader itself."""
    member = Member().leads().all_accept()
    term = member.state.term

    assert member.hears("c", Vote(9, 9, 9, False)) == []
    assert member.hears("c", PreVote(9, 9, 9)) == [("c", PreVoteReply(term, 9, False))]
    assert member.raft.is_leader


def test_a_promise_holds_although_a_higher_term_was_learned_meanwhile() -> None:
    """Thesis §6.4.1: the leader's lease stands on this promise, whatever term a late answer brings.

    The vote asked for has the very term that the answer brought, so it is not a higher one.
    """
    member = Member(term=3)
    member.hears("b", beat(3))
    member.hears("c", PreVoteReply(4, 4, False))
    assert (member.state.term, member.raft.leader) == (4, "")

    member.hears("c", Vote(4, 9, 9, False))
    assert member.said == [("c", VoteReply(4, False))]

    member.waits(TIMEOUT_MS, tick=False)
    member.hears("c", Vote(4, 9, 9, False))
    assert member.said == [("c", VoteReply(4, True))]


def test_a_restarted_member_behaves_as_if_it_had_just_promised() -> None:
    """Thesis §6.4.1: a promise is not on the disk, so every start makes one."""
    member = Member(term=3, fresh=True)

    assert member.hears("c", Vote(4, 9, 9, False)) == []
    assert member.hears("c", PreVote(4, 9, 9)) == [("c", PreVoteReply(3, 4, False))]
    assert member.raft.deadline_ns() >= member.now_ns + SETTINGS.election_timeout_ns


def test_a_newborn_member_has_promised_nothing_and_need_not_wait() -> None:
    member = Member(fresh=True)

    assert member.raft.deadline_ns() < member.now_ns + SETTINGS.election_timeout_ns
    assert member.hears("c", Vote(1, 0, 0, False)) == [("c", VoteReply(1, True))]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["beat", "late answer", "vote"]), min_size=1, max_size=8))
def test_nobody_stands_for_election_while_it_owes_a_promise(story: list[str]) -> None:
    """Thesis §4.2.3, whatever else is heard in between and whoever has the longer patience."""
    member = Member(term=3)
    for number, happening in enumerate(story):
        if happening == "beat":
            leader_patience_ns = 5 * SETTINGS.election_timeout_ns
            term = member.state.term
            if member.raft.leader in ("", "b"):
                member.hears("b", Heartbeat(term, 1, 0, 0, 1, leader_patience_ns))
        elif happening == "late answer":
            member.hears("c", PreVoteReply(member.state.term + 1, number, False))
        else:
            member.hears("c", Vote(member.state.term, 9, 9, True))
        assert member.raft.deadline_ns() >= member.state.patience.promise_until_ns


def test_a_follower_that_refuses_an_append_still_trusts_the_leader() -> None:
    """redpanda #30815: a recovering follower must not campaign against who is recovering it."""
    member = Member(term=3)
    member.waits(500, tick=False)

    member.hears("b", append(3, prev=(3, 40)))

    assert member.heard(AppendReply)[0].accepted is False
    assert member.raft.deadline_ns() >= member.now_ns + SETTINGS.election_timeout_ns


# --- Thesis 6.2: check-quorum -----------------------------------------------------------------


def test_a_leader_that_no_quorum_answers_steps_down_within_an_election_timeout() -> None:
    """Thesis §6.2."""
    member = Member("abcde").leads()
    for _ in range(4):
        member.waits(200)
        member.hears("b", answered(member.heard(Heartbeat, "b")[0]))  # one of four is no quorum
    assert member.raft.is_leader

    member.waits(200)

    assert member.state.role is Role.FOLLOWER
    assert "no quorum has answered for 1.0 s" in member.events[-1].reason


def test_a_leader_that_is_asked_for_reads_without_end_still_notices_that_nobody_answers() -> None:
    """Thesis §6.2, under load: rounds of reads must not put off the look at our own office."""
    member = Member("abcde").leads()
    for _ in range(40):
        member.waits(50)
        if member.raft.is_leader:
            member.raft.read(member.now_ns)
            member.drain()

    assert member.state.role is Role.FOLLOWER


def test_a_leader_that_a_quorum_answers_stays() -> None:
    """Thesis §6.2."""
    member = Member("abcde").leads()
    for _ in range(20):
        member.waits(200)
        for peer in "bc":
            member.hears(peer, answered(member_beat(member, peer)))
    assert member.raft.is_leader


def member_beat(member: Member, peer: str) -> Heartbeat:
    """The latest heartbeat to ``peer``, as it was due at this moment."""
    state = member.state
    progress = state.progress[peer]
    return Heartbeat(state.term, progress.session, 0, 0, member.now_ns, 0)


def test_contact_counts_from_when_the_answered_message_was_sent() -> None:
    """A late answer proves only that somebody followed us when the question left or later."""
    member = Member().leads().all_accept()
    member.waits(200)
    old = {peer: member.heard(Heartbeat, peer)[0] for peer in "bc"}
    member.waits(750)
    for peer in "bc":
        member.hears(peer, answered(old[peer]))

    member.waits(250)

    assert member.state.role is Role.FOLLOWER, "the questions left 1.0 s ago"


def test_a_single_member_never_doubts_itself() -> None:
    member = Member("a").leads()
    for _ in range(50):
        member.waits(200)
    assert member.raft.is_leader


def test_a_member_that_does_not_vote_never_campaigns() -> None:
    """Thesis §4.2.1: a member outside the configuration only listens."""
    member = Member("bcd")

    member.times_out()

    assert member.said == []
    assert member.state.role is Role.FOLLOWER
