"""When membership may change, and how a joint change goes (Raft §6, thesis chapter 4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpcore.errors import (
    ChangePending,
    ChangeRefused,
    InvalidInput,
    NotLeader,
    TransferUnderWay,
)
from mcpcore.raft.membership import (
    AddLearner,
    AddVoter,
    Demote,
    Promote,
    Remove,
    RequireZones,
)
from mcpcore.raft.messages import (
    Append,
    PreVoteReply,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.types import Configuration, EntryKind
from tests.raft.changing import (
    commits,
    config_append,
    leader,
    sent_to,
)
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, append

# --- when a change may begin ----------------------------------------------------------------------


def test_a_configuration_is_in_force_as_soon_as_it_is_in_the_log() -> None:
    """Raft §6: "a server always uses the latest configuration in its log"."""
    member = leader()
    member.changes(AddVoter("d"))
    assert member.configuration == "a, b, c, d"
    assert member.heard(Append, "d"), "the new member is spoken to at once"

    follower = Member()
    follower.hears("b", config_append(1, Configuration.of("abcde")))
    assert follower.configuration == "a, b, c, d, e"
    assert follower.state.commit == 0


def test_no_change_before_the_leader_has_committed_an_entry_of_its_own_term() -> None:
    """Ongaro 2015, braft #182: an older leader's change may be in force elsewhere."""
    member = Member().leads()
    with pytest.raises(ChangePending, match="not yet committed an entry of its own term"):
        member.changes(AddVoter("d"))
    member.all_accept()
    assert member.changes(AddVoter("d")).kind == EntryKind.CONFIG


def test_single_changes_of_two_leaders_never_make_disjoint_majorities() -> None:
    """The schedule of Ongaro's message to raft-dev, 2015-07-10, and braft #182, step by step."""
    group = Cluster("abcd", joiners="e")
    group.elect("a")
    group.advance(300)
    group.partition("ae", "bcd")
    group.change("a", AddVoter("e"))
    group.settle()  # a and e hold it: two of five
    for name in "acde":
        group[name].state.election_deadline_ns = group.now_ns + 10_000 * MS
    group.now_ns += 2500 * MS
    group.tick()
    while not group["b"].is_leader:
        group.deliver()
    group.cut |= {("b", "d"), ("d", "b")}  # d voted for b, and hears no more of it
    group.settle()
    with pytest.raises(ChangePending):
        group.change("b", Remove("a"))  # b and c, two of three, would have committed it
    group.crash("b")
    group.crash("c")
    group.cut.clear()
    group.advance(10_000)
    assert group.leader() == "a", "with d and e, three of five: nothing that was committed is lost"


def test_one_change_at_a_time() -> None:
    """Thesis §4.1: none before the last one is committed and applied."""
    member = leader()
    entry = member.changes(AddVoter("d"))
    with pytest.raises(ChangePending, match=f"index {entry.index} is not yet committed"):
        member.changes(AddVoter("e"))
    member.waits(10)
    member.said = member.hears("b", accepted(sent_to(member, "b", entry.index)))
    member.hears("c", accepted(sent_to(member, "c", entry.index)))
    assert member.state.commit == entry.index
    assert member.changes(AddVoter("e")).index == entry.index + 1


def test_no_change_inside_a_joint_change() -> None:
    member = leader()
    member.changes(AddVoter("d"), AddVoter("e"), auto_leave=False)
    commits(member)
    assert member.state.configuration.joint
    with pytest.raises(ChangePending, match="a joint change is under way"):
        member.changes(AddLearner("f"))
    member.raft.leave_joint(member.now_ns)
    assert member.configuration == "a, b, c, d, e"


def test_a_change_is_refused_by_whoever_does_not_lead_or_is_handing_over() -> None:
    with pytest.raises(NotLeader):
        Member().changes(AddVoter("d"))
    member = leader()
    member.raft.transfer_leadership("b", member.now_ns)
    with pytest.raises(TransferUnderWay):
        member.changes(AddVoter("d"))
    with pytest.raises(ChangeRefused, match="no joint change to leave"):
        leader().raft.leave_joint(0)


def test_a_refusal_names_the_group_the_reason_and_what_to_do_and_changes_nothing() -> None:
    member = leader()
    before = member.state.log.last_index
    with pytest.raises(ChangeRefused) as caught:
        member.changes(AddVoter("d"), AddVoter("e"), joint=False)
    assert str(caught.value) == (
        "group main: 2 voters would change at once (d, e). Make it a joint change"
    )
    assert member.state.log.last_index == before
    with pytest.raises(ChangeRefused, match="nobody would be left"):
        member.changes(Remove("a"), Remove("b"), Remove("c"))
    with pytest.raises(InvalidInput, match="propose_change"):
        member.raft.propose(b"", member.now_ns, EntryKind.CONFIG)


def test_a_change_is_never_refused_for_want_of_room() -> None:
    """The group may be waiting for this very change to make room."""
    tiny = replace(SETTINGS, max_proposal_bytes=10, max_uncommitted_bytes=30)
    member = leader(settings=tiny)
    member.proposes(b"1234567890")
    assert member.changes(Remove("c"))


@pytest.mark.parametrize(
    ("wanted", "joint"),
    [
        ([AddVoter("d")], False),
        ([AddLearner("d"), AddLearner("e")], False),
        ([Remove("c"), AddLearner("d")], False),
        ([AddVoter("d"), AddVoter("e")], True),
        ([Remove("c"), AddVoter("d")], True),
        ([RequireZones(2)], False),
    ],
)
def test_a_joint_change_is_chosen_only_when_more_than_one_voter_changes(wanted, joint) -> None:
    member = leader()
    member.changes(*wanted)
    assert member.state.configuration.joint is joint


# --- joint changes --------------------------------------------------------------------------------


def test_a_joint_change_commits_with_both_majorities_and_then_leaves_by_itself() -> None:
    """Raft §6, Figure 11."""
    member = leader()
    entry = member.changes(Remove("b"), Remove("c"), AddVoter("d"), AddVoter("e"))
    commits(member, "d", "e")
    assert member.state.commit < entry.index, "the old majority has not agreed"
    commits(member, "b")
    assert member.state.commit == entry.index
    assert member.configuration == "a, d, e"
    assert member.state.log.last_index == entry.index + 1, "left by an entry of its own"


def test_a_joint_change_is_not_left_before_it_is_applied() -> None:
    member = leader()
    entry = member.changes(AddVoter("d"), AddVoter("e"))
    for peer in "bcde":
        member.raft.step(peer, accepted(sent_to(member, peer, entry.index)), member.now_ns)
    assert member.state.commit == entry.index
    member.raft.tick(member.now_ns)
    assert entry in member.raft.ready().committed
    assert member.state.configuration.joint, "the driver applies it only now"
    member.drain()
    assert not member.state.configuration.joint


def test_a_new_leader_finishes_the_joint_change_of_the_old_one() -> None:
    group = Cluster("abc", joiners="de")
    group.elect("a")
    group.advance(300)
    group.change("a", Remove("a"), AddVoter("d"), AddVoter("e"))
    for letter in [letter for letter in group.mail if letter.to != "a"]:
        group.deliver(group.mail.index(letter))
    group.crash("a")
    group.advance(10_000)
    assert group.leader() in "bcde"
    for name in "bcde":
        assert str(group[name].state.configuration) == "b, c, d, e"


def test_a_candidate_in_a_joint_configuration_needs_both_majorities() -> None:
    joint = Configuration(frozenset("ade"), frozenset("abc"))
    member = Member(configuration=joint)
    member.times_out()
    assert {to for to, _ in member.said} == set("bcde")
    for peer in "de":
        member.hears(peer, PreVoteReply(0, 1, True))
    assert member.state.role is Role.PRE_CANDIDATE
    member.hears("b", PreVoteReply(0, 1, True))
    assert member.state.role is Role.CANDIDATE
    for peer in "bc":
        member.hears(peer, VoteReply(1, True))
    assert member.state.role is Role.CANDIDATE
    member.hears("e", VoteReply(1, True))
    assert member.state.role is Role.LEADER


def test_the_member_with_the_longest_log_can_always_be_elected_in_a_joint_change() -> None:
    """etcd #12359: there the learner with the longest log does not know that it may stand, and
    refuses the one who does; a configuration in force once it is in the log has no such trap.
    """
    group = Cluster("abc", joiners="d")
    group.elect("a")
    group.advance(300)
    group.change("a", AddLearner("d"))
    group.advance(300)
    group.crash("b")
    group.change("a", Demote("c"), Promote("d"), auto_leave=False)
    group.settle()
    group.propose("a", b"beyond")
    for letter in list(group.mail):
        if letter.to == "d":  # d gets everything, but not the commit; c gets nothing more
            group.deliver(group.mail.index(letter))
    group.mail.clear()
    group.crash("a")
    group.restart("b")
    assert group["d"].state.log.last_index > group["c"].state.log.last_index
    group.advance(10_000)
    assert group.leader() == "d"


# --- unapplied configurations ---------------------------------------------------------------------


def test_a_candidate_counts_by_a_configuration_that_it_holds_and_has_not_applied() -> None:
    """etcd #7625, #12133: the candidate there counted by the configuration before."""
    member = Member(sync=False)
    member.hears("b", config_append(1, Configuration.of("abcde")))
    member.writes_finish()
    member.waits(3 * TIMEOUT_MS)
    assert {to for to, _ in member.said} == set("bcde")
    for peer in "bc":
        member.hears(peer, PreVoteReply(1, 2, True))
    member.writes_finish()
    assert member.state.role is Role.CANDIDATE
    member.hears("b", VoteReply(2, True))
    assert member.state.role is Role.CANDIDATE, "two of five; two of three would have won"
    member.hears("d", VoteReply(2, True))
    assert member.raft.is_leader


def test_nobody_campaigns_with_a_configuration_known_to_be_committed_and_not_yet_applied() -> None:
    member = Member()
    member.raft.step("b", config_append(1, Configuration.of("abcde"), commit=1), member.now_ns)
    assert member.state.commit == 1
    member.now_ns += 3 * TIMEOUT_MS * MS
    member.raft.tick(member.now_ns)
    assert member.state.role is Role.FOLLOWER
    member.drain()
    assert member.state.handed == 1
    member.times_out()
    assert member.state.role is Role.PRE_CANDIDATE


def test_a_change_that_a_new_leader_does_not_have_is_taken_back() -> None:
    member = Member()
    member.hears("b", config_append(1, Configuration.of("abcde")))
    member.hears("c", append(2, terms=[2]))
    assert member.configuration == "a, b, c"
