"""Thesis section 3.10: handing leadership over."""

from __future__ import annotations

import pytest

from mcpcore.errors import NotLeader, TransferRefused, TransferUnderWay
from mcpcore.raft.messages import Append, Heartbeat, TimeoutNow, Vote, VoteReply
from mcpcore.raft.outcome import Role
from tests.raft.cluster import Cluster
from tests.raft.member import TIMEOUT_MS, Member, answered, append, beat


def test_leadership_goes_to_the_target_at_once() -> None:
    """Thesis §3.10: no election timeout passes."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.settle()

    cluster["a"].transfer_leadership("c", cluster.now_ns)
    cluster.drain("a")
    cluster.settle()

    assert cluster.leaders() == ["c"]


def test_a_target_that_lacks_entries_is_brought_up_to_date_first() -> None:
    """Thesis §3.10: it could not win before."""
    member = Member().leads().all_accept("c")
    member.proposes(b"x")
    member.raft.transfer_leadership("b", member.now_ns)
    member.drain()
    assert member.heard(TimeoutNow) == []

    member.raft.peer_connected("b", member.now_ns)
    member.drain()
    member.all_accept("b")

    assert member.state.transfer_sent


def test_no_proposal_is_accepted_while_a_transfer_is_under_way() -> None:
    """Thesis §3.10, step 1: "the prior leader stops accepting new client requests"."""
    member = Member().leads().all_accept()
    member.raft.transfer_leadership("b", member.now_ns)
    with pytest.raises(TransferUnderWay, match="handed to b"):
        member.proposes(b"x")


def test_a_transfer_that_takes_longer_than_an_election_timeout_is_given_up() -> None:
    """Thesis §3.10: the leader resumes."""
    member = Member().leads().all_accept()
    member.raft.transfer_leadership("b", member.now_ns)
    for _ in range(5):
        member.waits(200)
        for ask in member.heard(Heartbeat, "c"):
            member.hears("c", answered(ask))

    assert member.raft.is_leader
    assert member.proposes(b"x")


def test_a_transfer_is_due_even_between_heartbeats() -> None:
    member = Member().leads().all_accept()
    member.waits(150, tick=False)
    member.raft.transfer_leadership("b", member.now_ns)
    assert member.raft.deadline_ns() <= member.state.transfer_deadline_ns


@pytest.mark.parametrize(
    ("target", "reason"),
    [("a", "it leads already"), ("z", r"not a voter of this group \(a, b, c\)")],
)
def test_leadership_goes_only_to_another_voter(target: str, reason: str) -> None:
    member = Member().leads()
    with pytest.raises(TransferRefused, match=reason):
        member.raft.transfer_leadership(target, member.now_ns)


def test_only_one_transfer_is_under_way() -> None:
    member = Member().leads().all_accept()
    member.raft.transfer_leadership("b", member.now_ns)
    member.raft.transfer_leadership("b", member.now_ns)
    with pytest.raises(TransferRefused, match="to b is already under way"):
        member.raft.transfer_leadership("c", member.now_ns)


def test_only_a_leader_hands_over() -> None:
    with pytest.raises(NotLeader):
        Member().raft.transfer_leadership("b", 1)


def test_the_target_campaigns_without_asking_first_and_says_why() -> None:
    """Thesis §4.2.3: the flag lets followers break the promise to their leader."""
    member = Member(term=3)
    member.hears("b", append(3))

    member.hears("b", TimeoutNow(3))

    assert member.state.role is Role.CANDIDATE
    assert member.said == [(peer, Vote(4, 0, 0, True)) for peer in "bc"]


def test_followers_break_their_promise_only_for_an_election_the_leader_asked_for() -> None:
    """Thesis §4.2.3."""
    member = Member(term=3)
    member.hears("b", beat(3))
    assert member.hears("c", Vote(4, 0, 0, False)) == []
    assert member.hears("c", Vote(4, 0, 0, True)) == [("c", VoteReply(4, True))]


@pytest.mark.parametrize(
    ("sender", "term"), [("c", 3), ("b", 2), ("b", 4)], ids=["not the leader", "late", "early"]
)
def test_an_offer_counts_only_from_the_leader_of_this_term(sender: str, term: int) -> None:
    member = Member(term=3)
    member.hears("b", beat(3))
    assert member.hears(sender, TimeoutNow(term)) == []
    assert (member.state.role, member.state.term) == (Role.FOLLOWER, 3)


def test_a_member_outside_the_configuration_takes_no_offer() -> None:
    member = Member("bcd", term=3)
    member.hears("b", beat(3))
    assert member.hears("b", TimeoutNow(3)) == []


def test_a_failed_transfer_election_is_retried_the_calm_way() -> None:
    """The flag is spent: the next attempt asks by pre-vote and respects promises."""
    member = Member(term=3)
    member.hears("b", beat(3))
    member.hears("b", TimeoutNow(3))
    member.times_out()
    assert member.state.role is Role.PRE_CANDIDATE
    assert member.heard(Vote) == []


def test_a_leader_that_loses_office_forgets_the_transfer() -> None:
    member = Member().leads().all_accept()
    member.raft.transfer_leadership("b", member.now_ns)
    member.hears("c", beat(9))
    assert (member.state.transfer_target, member.state.transfer_sent) == ("", False)


def test_a_transfer_to_a_dead_member_costs_one_election_timeout_of_writes() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.crash("b")
    cluster["a"].transfer_leadership("b", cluster.now_ns)
    cluster.drain("a")
    cluster.advance(TIMEOUT_MS + 50)
    entry = cluster.propose("a", b"x")
    cluster.settle()
    assert cluster["a"].state.commit == entry.index


def test_a_late_offer_may_still_take_effect_and_harms_nobody() -> None:
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.settle()
    cluster["a"].transfer_leadership("b", cluster.now_ns)
    cluster.drain("a")
    [offer] = [letter for letter in cluster.mail if isinstance(letter.message, TimeoutNow)]
    cluster.mail.remove(offer)
    cluster.advance(TIMEOUT_MS + 200)
    entry = cluster.propose("a", b"x")
    cluster.settle()

    cluster.mail.append(offer)
    cluster.settle()

    assert cluster.leaders() == ["b"]
    assert cluster["b"].state.commit >= entry.index
    assert not [m for m in cluster.mail if isinstance(m.message, Append)]
