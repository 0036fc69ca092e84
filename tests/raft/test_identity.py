"""A voter that forgot is not the voter that promised: a name and the disk behind it."""

from __future__ import annotations

import pytest

from mcpcore.errors import ChangeRefused
from mcpcore.raft.membership import (
    AddVoter,
    Promote,
    Remove,
)
from mcpcore.raft.messages import (
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.types import Configuration
from mcpcore.raft.types import Member as About
from tests.raft.changing import (
    ADMITTED,
    commits,
    leader,
    sent_to,
    with_learner,
)
from tests.raft.cluster import Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted


def test_the_answers_of_a_disk_that_was_not_admitted_count_for_nothing() -> None:
    member = Member(configuration=ADMITTED, incarnation="a1").leads()
    member.meets("b", "b2")
    member.hears("b", accepted(sent_to(member, "b", 1)))
    assert member.state.commit == 0
    assert member.state.progress["b"].match == 0
    assert member.state.progress["b"].contact_ns == 0, "nor does its promise"
    member.hears("c", accepted(sent_to(member, "c", 1)))
    assert member.state.commit == 1


@pytest.mark.parametrize("configuration", [ADMITTED, Configuration.of("abc")])
def test_the_votes_of_a_disk_that_was_not_admitted_are_not_counted(configuration) -> None:
    """A wiped voter may have given the same vote before. Where no disk is recorded, the first one
    met is taken for the right one.
    """
    member = Member(configuration=configuration, incarnation="a1")
    member.meets("b", "b1")
    member.meets("b", "b2")
    member.times_out()
    member.hears("b", PreVoteReply(0, 1, True))
    assert member.state.role is Role.PRE_CANDIDATE
    member.hears("c", PreVoteReply(0, 1, True))
    assert member.state.role is Role.CANDIDATE
    member.hears("b", VoteReply(1, True))
    assert member.state.role is Role.CANDIDATE
    member.hears("c", VoteReply(1, True))
    assert member.raft.is_leader


def test_a_disk_that_was_not_admitted_gets_no_vote() -> None:
    """It counts its own, which it may have given to somebody else before."""
    member = Member(configuration=ADMITTED, incarnation="a1")
    member.meets("b", "b2")
    member.hears("b", PreVote(1, 0, 0))
    assert not member.heard(PreVoteReply)[0].granted
    member.hears("b", Vote(1, 0, 0, False))
    assert not member.heard(VoteReply)[0].granted


def test_a_member_whose_disk_is_not_the_admitted_one_neither_votes_nor_stands_and_says_why() -> (
    None
):
    member = Member(configuration=ADMITTED, incarnation="a2")
    assert member.state.disqualified == (
        "a was admitted with the disk a1 and came back with a2: what it voted and stored is "
        "forgotten"
    )
    member.hears("b", PreVote(1, 0, 0))
    assert not member.heard(PreVoteReply)[0].granted
    member.hears("b", Vote(1, 0, 0, False))
    assert not member.heard(VoteReply)[0].granted
    member.waits(10 * TIMEOUT_MS)
    assert member.state.role is Role.FOLLOWER


@pytest.mark.parametrize(("configuration", "own"), [(ADMITTED, "a1"), (ADMITTED, ""), (None, "a9")])
def test_the_admitted_disk_and_an_unknown_one_may_vote(configuration, own) -> None:
    assert Member(configuration=configuration, incarnation=own).state.disqualified == ""


def test_a_voter_that_comes_back_with_another_disk_becomes_a_learner() -> None:
    member = Member(configuration=ADMITTED, incarnation="a1").leads().all_accept()
    member.meets("b", "b2")
    assert member.configuration == "a, c + learners b"
    assert member.state.configuration.member("b").incarnation == "b2"
    assert member.notices == [
        "b: it came back with another disk (b2) and counts for nothing",
        "b: it is a learner now, with the disk b2",
    ]
    commits(member, "c")
    commits(member, "b")
    assert member.state.progress["b"].match == member.state.log.last_index


def test_a_voter_that_comes_back_wiped_before_a_change_may_begin_is_demoted_when_it_may() -> None:
    member = Member(configuration=ADMITTED, incarnation="a1").leads()
    member.meets("b", "b2")
    assert member.configuration == "a, b, c"
    member.hears("c", accepted(sent_to(member, "c", 1)))
    member.waits(200)
    assert member.configuration == "a, c + learners b"


def test_in_a_group_of_two_the_leader_goes_on_without_the_one_that_forgot() -> None:
    two = Configuration(frozenset("ab"), about={n: About(incarnation=f"{n}1") for n in "ab"})
    member = Member(configuration=two, incarnation="a1").leads().all_accept()
    member.meets("b", "b2")
    member.waits(TIMEOUT_MS)
    assert member.raft.is_leader
    assert member.configuration == "a + learners b"


def test_a_wiped_learner_goes_on_as_it_was_meant() -> None:
    member = with_learner()
    member.meets("d", "d1")
    member.meets("d", "d2")
    assert member.state.configuration.member("d") == About(incarnation="d2", promote=True)
    commits(member)
    member.waits(200)
    assert member.state.configuration.votes("d")


def test_a_wiped_voter_that_cannot_be_spared_stays_one_and_people_are_told_why() -> None:
    about = {n: About(zone=z, incarnation=f"{n}1") for n, z in zip("abc", "nns", strict=True)}
    zoned = Configuration(frozenset("abc"), about=about, zones_required=2)
    member = Member(configuration=zoned, incarnation="a1").leads().all_accept()
    member.meets("c", "c2")
    member.waits(200)
    member.waits(200)
    assert member.configuration == "a, b, c, held in 2 zones"
    assert [notice for notice in member.notices if "stays as it is" in notice] == [
        "c: it stays as it is: entries must be held in 2 zones, but the voters a, b stand in 1"
    ]


def test_the_disks_are_written_down_once_the_leader_has_met_every_voter() -> None:
    member = Member(incarnation="a1").leads().all_accept()
    member.meets("b", "b1")
    assert member.state.configuration.about == {}
    member.meets("c", "c1")
    assert member.state.configuration.about == {n: About(incarnation=f"{n}1") for n in "abc"}
    written = member.state.log.last_index
    commits(member)
    member.waits(200)
    assert member.state.log.last_index == written, "once"


def test_a_new_voter_is_admitted_with_the_disk_it_has_now() -> None:
    """It has promised nothing with the one before."""
    member = leader("a")
    member.meets("b", "b1")
    member.meets("b", "b2")
    member.changes(AddVoter("b"))
    assert member.state.configuration.member("b").incarnation == "b2"
    commits(member)
    assert member.state.progress["b"].match == member.state.log.last_index


def test_no_change_leaves_a_majority_to_disks_that_forgot() -> None:
    """Nobody could commit it, nor any change after it."""
    member = Member(configuration=ADMITTED, incarnation="a1").leads()
    member.meets("b", "b2")
    member.raft.step("c", accepted(sent_to(member, "c", 1)), member.now_ns)
    member.raft.ready()  # the leader's first entry is committed, its duties are not done yet
    member.state.chores = False
    with pytest.raises(ChangeRefused, match="without b, who came back with another disk"):
        member.raft.propose_change([Remove("c")], member.now_ns)


def test_a_promoted_learner_is_admitted_with_the_disk_that_caught_up() -> None:
    member = with_learner(About())
    member.meets("d", "d1")
    commits(member)
    member.changes(Promote("d"))
    assert member.state.configuration.member("d").incarnation == "d1"


def test_a_wiped_member_does_not_vote_twice_in_a_term() -> None:
    """The whole story: c votes for a, loses its disk, and b asks for c's vote in the same term."""
    group = Cluster("abc", identities=True)
    group.heal()
    group.partition("ac", "b")
    group.elect("a")  # by c
    group.wipe("c")
    group.crash("a")
    group.restart("c")
    group.heal()
    group.advance(20_000)
    assert group.leaders() == [], "b and the disk that forgot are no majority"
    group.restart("a")
    group.advance(10_000)
    assert group.leader() in "ab"
    assert "c" in group[group.leader()].state.configuration.learners
    group.change(group.leader(), Promote("c"))
    group.advance(1000)
    assert str(group["c"].state.configuration) == "a, b, c"
    assert group["c"].state.disqualified == ""
