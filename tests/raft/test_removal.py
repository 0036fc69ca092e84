"""Who is removed knows it, disturbs nobody and may come back (Raft §6, thesis §4.2)."""

from __future__ import annotations

from mcpcore.raft.membership import (
    AddVoter,
    Demote,
    Promote,
    Remove,
)
from mcpcore.raft.messages import (
    Heartbeat,
    PreVoteReply,
    TimeoutNow,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.types import Configuration
from tests.raft.changing import (
    commits,
    config_append,
    leader,
    sent_to,
)
from tests.raft.cluster import Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, answered


def test_a_leader_that_removes_itself_leads_until_the_change_is_committed() -> None:
    """Raft §6: "manages a cluster that does not include itself", and does not count itself."""
    member = leader()
    entry = member.changes(Remove("a"))
    commits(member, "b")
    assert member.state.commit < entry.index, "one of b and c is no majority of them"
    assert member.raft.is_leader
    commits(member, "c")
    assert member.state.commit == entry.index


def test_a_removed_leader_hands_over_gently_and_goes_in_any_case() -> None:
    member = leader()
    member.changes(Remove("a"))
    said = commits(member, "b", "c")
    assert member.raft.is_leader
    assert len([message for _, message in said if isinstance(message, TimeoutNow)]) == 1
    for _ in range(6):
        for peer, message in member.waits(200):
            if isinstance(message, Heartbeat):
                member.hears(peer, answered(message))
    assert member.state.role is Role.FOLLOWER
    assert "no voter any more" in member.events[-1].reason
    member.waits(10 * TIMEOUT_MS)
    assert member.state.role is Role.FOLLOWER, "and it never stands again"


def test_a_removed_leader_is_followed_by_another_without_waiting_for_silence() -> None:
    group = Cluster("abc")
    group.elect("a")
    group.advance(300)
    group.change("a", Remove("a"))
    group.settle()
    group.advance(300)
    assert group.leader() in "bc"
    assert not group["a"].is_leader


def test_a_demoted_leader_becomes_a_learner_of_the_next() -> None:
    group = Cluster("abc")
    group.elect("a")
    group.advance(300)
    group.change("a", Demote("a"))
    group.settle()
    group.advance(500)
    heir = group.leader()
    assert heir in "bc"
    entry = group.propose(heir, b"x")
    group.settle()
    group.advance(500)
    assert group.members["a"].applied[-1] == entry
    assert group["a"].state.role is Role.FOLLOWER


def test_a_leader_that_was_demoted_can_still_take_it_back() -> None:
    member = leader()
    entry = member.changes(Demote("a"))
    for peer in "bc":
        member.raft.step(peer, accepted(sent_to(member, peer, entry.index)), member.now_ns)
    assert entry in member.raft.ready().committed
    member.raft.propose_change([Promote("a")], member.now_ns)
    assert member.configuration == "a, b, c"


def test_in_a_group_of_two_the_removed_follower_learns_of_it() -> None:
    """etcd #10563: the remaining member went on alone, the removed one never knew."""
    group = Cluster("ab")
    group.elect("a")
    group.advance(300)
    entry = group.change("a", Remove("b"))
    group.settle()
    assert group["a"].state.commit == entry.index
    assert group["b"].state.commit == entry.index
    assert str(group["b"].state.configuration) == "a"
    assert group["a"].state.progress == {}, "and is spoken to no more"
    group.advance(20_000)
    assert group["b"].state.role is Role.FOLLOWER
    assert group["b"].state.term == group["a"].state.term


def test_in_a_group_of_two_the_leader_removes_itself_and_the_other_goes_on_alone() -> None:
    """etcd #10563: the follower held the change and did not know that it was committed."""
    group = Cluster("ab")
    group.elect("a")
    group.advance(300)
    group.change("a", Remove("a"))
    group.deliver()  # the change reaches b
    group.crash("a")
    group.mail.clear()
    group.advance(10_000)
    assert group.leader() == "b"
    group.propose("b", b"alone")
    assert group.commands("b") == [b"alone"]


def test_a_removed_member_stands_as_long_as_it_does_not_know_that_the_change_is_committed() -> None:
    """Thesis §4.2.2, Figure 4.6: b's log is the longest, so nobody else can win."""
    group = Cluster("ab")
    group.elect("a")
    group.advance(300)
    group.change("a", Demote("a"))  # in force at a alone
    group.mail.clear()
    group.crash("a")
    group.restart("a")
    group.advance(10_000)
    assert group.leader() == "b", "a led, committed the change with b, and handed over"
    assert str(group["b"].state.configuration) == "b + learners a"


def test_a_removed_member_that_stands_does_not_count_its_own_vote() -> None:
    member = Member()
    member.hears("b", config_append(1, Configuration.of("bcd")))
    member.waits(3 * TIMEOUT_MS)
    assert {to for to, _ in member.said} == set("bcd")
    member.hears("b", PreVoteReply(1, 2, True))
    assert member.state.role is Role.PRE_CANDIDATE, "a and b are two of three only if a counts"
    member.hears("c", PreVoteReply(1, 2, True))
    assert member.state.role is Role.CANDIDATE


def test_a_removed_member_that_does_not_answer_is_given_up_after_a_while() -> None:
    member = leader()
    member.changes(Remove("c"))
    commits(member, "b")
    assert "c" in member.state.progress
    for _ in range(60):
        member.waits(200)
        for beat_ in member.heard(Heartbeat, "b"):
            member.hears("b", answered(beat_))
    assert member.raft.is_leader
    assert "c" not in member.state.progress


def test_a_new_leader_tells_those_that_its_uncommitted_change_removes() -> None:
    group = Cluster("abcd")
    group.elect("a")
    group.advance(300)
    group.cut |= {("a", "d"), ("d", "a")}
    group.change("a", Remove("d"))
    for letter in [letter for letter in group.mail if letter.to in "bc"]:
        group.deliver(group.mail.index(letter))
    group.mail.clear()
    group.crash("a")
    group.advance(10_000)
    assert str(group["d"].state.configuration) == "a, b, c"


def test_whoever_was_removed_and_does_not_know_disturbs_nobody() -> None:
    """Thesis §4.2.3: it asks, and those who hear their leader do not answer with their votes."""
    group = Cluster("abcd")
    group.elect("a")
    group.advance(300)
    group.partition("d", "abc")
    group.change("a", Remove("d"))
    group.advance(30_000)
    group.cut.clear()
    term = group["a"].state.term
    group.advance(30_000)
    assert group.leaders() == ["a"]
    assert {group[name].state.term for name in "abc"} == {term}


def test_a_removed_member_may_come_back() -> None:
    group = Cluster("abc")
    group.elect("a")
    group.advance(300)
    group.change("a", Remove("c"))
    group.advance(1000)
    group.propose("a", b"meanwhile")
    group.change("a", AddVoter("c"))
    group.advance(1000)
    assert group.commands("c") == [b"meanwhile"]
    group.crash("a")
    group.advance(10_000)
    assert group.leader() in "bc"
