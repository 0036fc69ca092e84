"""Learners, new voters and zones: who counts, from when on, and for what (thesis §4.2.1)."""

from __future__ import annotations

import pytest

from mcpcore.errors import (
    LearnerBehind,
    LeaseUnavailable,
)
from mcpcore.raft.membership import (
    AddLearner,
    AddVoter,
    Promote,
    RequireZones,
)
from mcpcore.raft.messages import (
    Heartbeat,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.types import Configuration
from mcpcore.raft.types import Member as About
from tests.raft.changing import (
    commits,
    leader,
    sent_to,
    with_learner,
)
from tests.raft.cluster import MS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, answered

# --- learners -------------------------------------------------------------------------------------


def test_a_learner_receives_everything_and_counts_for_nothing() -> None:
    member = with_learner(About())
    entry = member.proposes(b"x")[0]
    commits(member, "d")
    assert member.state.progress["d"].match == entry.index
    assert member.state.commit < entry.index, "a and d are two of four, but one voter of three"
    commits(member, "b")
    assert member.state.commit == entry.index


def test_a_learner_never_stands_for_election() -> None:
    member = Member(configuration=Configuration.of("bc", learners="a"))
    member.waits(10 * TIMEOUT_MS)
    assert member.state.role is Role.FOLLOWER
    assert not member.said


@pytest.mark.parametrize("view", [Configuration.of("bcd", learners="a"), Configuration.of("")])
def test_a_learner_that_does_not_know_it_was_promoted_answers_votes(view) -> None:
    """The candidate's configuration decides who is asked; ours may be older. Without this answer
    a group whose other new voters are down could not elect anybody.
    """
    member = Member(configuration=view)
    member.hears("b", PreVote(1, 0, 0))
    assert member.heard(PreVoteReply)[0].granted
    member.hears("b", Vote(1, 0, 0, False))
    assert member.heard(VoteReply)[0].granted
    member.hears("c", Vote(1, 0, 0, False))
    assert not member.heard(VoteReply)[0].granted, "and remembers it"


def test_a_group_elects_with_a_promoted_learner_that_does_not_know_it_yet() -> None:
    group = Cluster("ab", joiners="d")
    group.elect("a")
    group.advance(300)
    group.change("a", AddLearner("d"))
    group.advance(300)
    group.cut |= {("a", "d"), ("d", "a")}
    group.change("a", Promote("d"))  # a and b hold it, and commit it
    group.settle()
    group.crash("a")
    assert "d" in group["d"].state.configuration.learners
    group.advance(10_000)
    assert group.leader() == "b"
    assert group["d"].state.configuration.votes("d")


def test_a_learner_is_not_promoted_before_it_has_caught_up() -> None:
    """Thesis §4.2.1: it would take part in no commit for as long as that takes."""
    member = with_learner(About())
    with pytest.raises(LearnerBehind, match="learner d lacks 2 entries after 0 rounds") as caught:
        member.changes(Promote("d"))
    assert (caught.value.learner, caught.value.behind, caught.value.rounds) == ("d", 2, 0)
    with pytest.raises(LearnerBehind):
        member.changes(AddVoter("d"))
    commits(member, "d")
    assert member.changes(Promote("d"))
    assert member.configuration == "a, b, c, d"


def test_a_promotion_can_be_forced() -> None:
    member = with_learner(About())
    member.changes(Promote("d"), force=True)
    assert member.state.configuration.votes("d")


def test_a_learner_meant_to_vote_is_promoted_by_the_leader_once_it_has_caught_up() -> None:
    group = Cluster("abc", joiners="d")
    group.elect("a")
    group.advance(300)
    for number in range(50):
        group.propose("a", b"%d" % number)
    group.change("a", AddLearner("d", About("d:1", promote=True)))
    group.advance(1500)
    assert str(group["a"].state.configuration) == "a, b, c, d"
    assert group["a"].state.configuration.member("d") == About("d:1")
    assert any("caught up" in getattr(event, "what", "") for _, event in group.story)


def rounds(member: Member, count: int, round_ms: float) -> None:
    """The learner d finishes rounds of this length while there is always more to send."""
    for _ in range(count):
        target = member.state.progress["d"].catch_up.target
        member.raft.propose(b"more", member.now_ns)
        member.drain()
        member.now_ns += int(round_ms * MS)
        for peer in "bc":
            member.hears(peer, accepted(sent_to(member, peer, member.state.log.last_index)))
        member.hears("d", accepted(sent_to(member, "d", target)))


def test_a_learner_whose_rounds_take_longer_than_an_election_timeout_stays_one() -> None:
    member = with_learner()
    rounds(member, 10, TIMEOUT_MS + 1)
    member.waits(1)
    assert "d" in member.state.configuration.learners
    notices = [notice for notice in member.notices if "has not caught up in" in notice]
    assert len(notices) == 1
    assert "10 rounds, the last of which took 1.0 s" in notices[0]
    rounds(member, 1, 10)
    member.waits(200)
    assert member.state.configuration.votes("d")


def test_a_learner_that_was_caught_up_and_fell_silent_is_not_promoted() -> None:
    member = with_learner(About())
    commits(member, "d")
    member.proposes(b"x")
    for _ in range(6):
        member.waits(200)
        for beat_ in member.heard(Heartbeat, "b"):
            member.hears("b", answered(beat_))
    with pytest.raises(LearnerBehind):
        member.changes(Promote("d"))


# --- new voters and what rests on their promises --------------------------------------------------


def test_a_new_voter_counts_for_no_lease_before_it_has_answered() -> None:
    """It has promised nothing yet."""
    member = leader("a")
    member.proposes(b"x")
    assert member.raft.lease_read(member.now_ns)
    member.changes(AddVoter("b"))
    with pytest.raises(LeaseUnavailable):
        member.raft.lease_read(member.now_ns)
    commits(member, "b")
    assert member.raft.lease_read(member.now_ns)


def test_a_leader_gives_new_voters_the_time_to_answer() -> None:
    member = leader("a")
    member.waits(10 * TIMEOUT_MS)
    member.changes(AddVoter("b"))
    member.waits(TIMEOUT_MS - 1)
    assert member.raft.is_leader
    member.waits(200)
    assert not member.raft.is_leader, "but not more of it than any quorum gets"


def test_an_old_configuration_on_the_disk_is_in_force_again_after_a_restart() -> None:
    group = Cluster("abc", joiners="d")
    group.elect("a")
    group.advance(300)
    group.change("a", AddVoter("d"))
    group.advance(500)
    for name in "abcd":
        group.crash(name)
    for name in "abcd":
        group.restart(name)
        assert str(group[name].state.configuration) == "a, b, c, d"


# --- zones ----------------------------------------------------------------------------------------

ZONED = Configuration(
    frozenset("abcde"),
    about={name: About(zone=zone) for name, zone in zip("abcde", "nnnss", strict=True)},
    zones_required=2,
)


def test_an_entry_is_not_committed_before_a_second_zone_holds_it() -> None:
    member = Member(configuration=ZONED).leads()
    for peer in "bc":
        member.hears(peer, accepted(sent_to(member, peer, 1)))
    assert member.state.commit == 0, "a majority, but all of it in zone n"
    member.hears("e", accepted(sent_to(member, "e", 1)))
    assert member.state.commit == 1


def test_a_group_that_lost_a_zone_elects_keeps_its_data_and_commits_once_zones_are_given_up() -> (
    None
):
    group = Cluster("abcde")
    group.configuration = ZONED
    for name in "abcde":
        group.members[name].raft = group._start(name, group.members[name].disk, ZONED, "")
    group.elect("a")
    group.advance(300)
    group.propose("a", b"kept")
    group.advance(300)
    for name in "de":
        group.crash(name)
    group.propose("a", b"waits")
    group.advance(3000)
    assert group["a"].is_leader
    assert group.commands("a") == [b"kept"]
    group.change("a", RequireZones(1))
    group.settle()
    assert group.commands("a") == [b"kept", b"waits"]
