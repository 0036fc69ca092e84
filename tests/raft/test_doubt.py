"""A member whose disk lost entries: what it may do, and when it is certain again.

Hunt: "rot means 'I no longer know', and the entries come back from peers" (Alagappan et al., FAST
2018). The arguments are numbered in ``mcpcore/raft/recall.py``.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import GroupInDoubt
from mcpcore.raft.doubt import FORGOTTEN, Doubt
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    PreVote,
    PreVoteReply,
    Recall,
    RecallReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from mcpcore.raft.types import EMPTY_BLOCK, Block
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import Member, append, beat, entries

LOG = entries([1, 1, 1, 2, 2, 2])
"""What member ``a`` held before the damage: indexes 1 to 6, of terms 1 and 2."""


def in_doubt(prefix: int, *runs: tuple[int, int], until: int = 6, term: int = 2, **rest) -> Member:
    """Member ``a`` holds LOG up to ``prefix`` and these runs of it; the rest is lost."""
    kept = tuple(LOG[first - 1 : last] for first, last in runs)
    is_open = not runs or runs[-1][1] < until
    return Member(
        terms=[entry.term for entry in LOG[:prefix]],
        term=term,
        doubt=Doubt(term, until, is_open, kept),
        **rest,
    )


def asks(member: Member) -> Recall:
    """The question that member ``a`` asks now."""
    member.waits(SETTINGS.heartbeat_ns // MS)
    asked = member.heard(Recall, "b")
    assert asked, "it asks once in a heartbeat interval"
    return asked[-1]


def holds(ask: Recall, first: int, last: int, **changes) -> RecallReply:
    """The answer of a member that holds all of LOG."""
    prev_term = LOG[ask.first - 2].term if ask.first > 1 else 0
    block = Block(LOG[first - 1 : last]) if first <= last else EMPTY_BLOCK
    return RecallReply(2, ask.number, True, prev_term, 0, False, block)._replace(**changes)


def has_not(ask: Recall, *, is_in_doubt: bool = False, last_index: int = 0) -> RecallReply:
    return RecallReply(2, ask.number, False, 0, last_index, is_in_doubt, EMPTY_BLOCK)


# --- what it may do -----------------------------------------------------------------------------


def test_a_member_in_doubt_gives_no_vote_not_even_to_the_longest_log() -> None:
    member = in_doubt(3)
    member.hears("b", PreVote(3, 9, 99))
    assert [reply.granted for reply in member.heard(PreVoteReply)] == [False]
    member.hears("b", Vote(3, 9, 99, False))
    assert [reply.granted for reply in member.heard(VoteReply)] == [False]
    assert member.state.voted_for == ""
    assert member.state.term == 3, "the term itself is no secret"


def test_a_member_in_doubt_never_stands_for_election() -> None:
    member = in_doubt(3)
    for _ in range(5):
        member.waits(3 * SETTINGS.election_timeout_ns // MS)
        assert not member.heard(PreVote)
    member.hears("b", beat(2))
    member.hears("b", TimeoutNow(2))
    assert not member.heard(Vote)


def test_what_it_stores_again_it_confirms_since_that_is_true_and_durable() -> None:
    member = in_doubt(3)
    member.hears("b", append(2, (1, 3), [2]))
    assert [(reply.accepted, reply.at_index) for reply in member.heard(AppendReply)] == [(True, 4)]
    assert member.state.doubt is not None


def test_who_has_forgotten_its_vote_says_nothing_to_anybody() -> None:
    """It may have voted for a candidate that is about to lead: even a heartbeat's answer lies."""
    member = Member(doubt=FORGOTTEN)
    for message in (append(7, (0, 0), [7]), beat(7), Vote(8, 9, 99, False), PreVote(8, 9, 99)):
        assert not member.hears("b", message)
    member.waits(SETTINGS.heartbeat_ns // MS)
    assert not member.said
    with pytest.raises(GroupInDoubt, match="forgotten its vote"):
        member.raft.propose(b"x", member.now_ns)


# --- filling a hole from any log that holds what follows it -------------------------------------


def test_a_hole_is_filled_from_any_member_that_holds_what_follows_it() -> None:
    member = in_doubt(2, (5, 6))
    ask = asks(member)
    assert (ask.first, ask.anchor_term, ask.anchor_index) == (3, 2, 5)
    member.hears("c", holds(ask, 3, 4))
    assert member.state.log.entries(1, 6) == list(LOG)
    assert member.state.doubt is None
    assert "came back from the others" in member.events[-1].reason


def test_the_hole_may_be_filled_piece_by_piece_and_hole_by_hole() -> None:
    member = in_doubt(1, (3, 3), (6, 6))
    member.hears("b", holds(asks(member), 2, 2))
    ask = member.heard(Recall, "b")[-1]
    assert (ask.first, ask.anchor_index) == (4, 6), "the next question leaves at once"
    member.hears("b", holds(ask, 4, 4))
    ask = member.heard(Recall, "b")[-1]
    assert ask.first == 5
    member.hears("c", holds(ask, 5, 5))
    assert member.state.doubt is None
    assert member.state.log.entries(1, 6) == list(LOG)


def test_entries_fit_only_if_both_ends_meet() -> None:
    """Log Matching vouches for what precedes the anchor; our prefix may be another story."""
    member = in_doubt(2, (5, 6))
    ask = asks(member)
    for wrong in (
        holds(ask, 3, 4, prev_term=2),
        holds(ask, 4, 4),
        holds(ask, 3, 5),
        holds(ask, 3, 2),
        holds(ask, 3, 4, number=ask.number + 1),
        holds(ask, 3, 4, block=Block(entries([3, 3], 3))),
    ):
        member.hears("b", wrong)
        assert member.last.index == 2, wrong
        assert member.state.doubt is not None


def test_two_ends_that_may_not_meet_are_joined_once_somebody_vouches_for_it() -> None:
    """A lost batch may have replaced entries, so runs that touch need not belong together."""
    member = in_doubt(3, (4, 6))
    member.hears("b", has_not(asks(member)))
    assert member.last.index == 3
    member.hears("b", holds(asks(member), 4, 3))
    assert member.state.doubt is None
    assert member.state.log.entries(1, 6) == list(LOG)


def test_it_is_in_doubt_until_what_came_back_is_on_its_own_disk() -> None:
    member = in_doubt(2, (5, 6), sync=False)
    member.hears("c", holds(asks(member), 3, 4))
    assert member.last.index == 6
    assert member.state.doubt is not None
    member.hears("b", PreVote(3, 9, 99))
    assert not member.heard(PreVoteReply)[0].granted
    member.writes_finish()
    assert member.state.doubt is None


def test_a_whole_log_is_not_believed_whole_while_its_end_is_unknown() -> None:
    member = in_doubt(2, (5, 5), until=6)
    member.hears("c", holds(asks(member), 3, 4))
    assert member.last.index == 5
    assert member.state.doubt is not None


# --- a leader settles it ------------------------------------------------------------------------


def test_a_leaders_log_up_to_all_it_may_have_held_ends_the_doubt() -> None:
    member = in_doubt(3)
    member.hears("b", append(2, (1, 3), [2, 2]))
    assert member.state.doubt is not None
    member.hears("b", append(2, (2, 5), [2]))
    assert member.state.doubt is None


def test_entries_that_no_leader_vouched_for_do_not_end_it() -> None:
    """The prefix alone may be long enough, and yet lack what replaced its end."""
    member = in_doubt(6, until=6)
    asks(member)
    assert member.state.doubt is not None
    member.hears("b", append(2, (2, 6), []))
    assert member.state.doubt is None


def test_an_entry_of_a_term_elected_without_us_ends_the_doubt() -> None:
    member = in_doubt(3, until=1_000)
    member.hears("b", append(3, (1, 3), [2]))
    assert member.state.doubt is not None, "that leader's older entries are not all of its log"
    member.hears("b", append(3, (2, 4), [3]))
    assert member.state.doubt is None


def test_the_present_leader_may_say_how_far_its_log_reached() -> None:
    member = in_doubt(3, until=1_000)
    member.hears("b", append(2, (1, 3), [2]))
    ask = asks(member)
    member.hears("c", has_not(ask, last_index=4))
    assert member.state.doubt is not None, "c does not lead"
    member.hears("b", has_not(ask, last_index=5))
    assert member.state.doubt is not None
    member.hears("b", append(2, (2, 4), [2]))
    assert member.state.doubt is None


def test_how_far_an_older_leaders_log_reached_proves_nothing() -> None:
    member = in_doubt(3, until=1_000)
    member.hears("b", append(2, (1, 3), [2]))
    member.hears("b", has_not(asks(member), last_index=4)._replace(term=1))
    assert member.state.doubt is not None


# --- the others ---------------------------------------------------------------------------------


def test_a_leader_forgets_what_a_member_lost_and_sends_it_again() -> None:
    """It confirmed index 7 once; its refusals would otherwise look like old ones, for ever."""
    leader = Member(terms=[1] * 6).leads().all_accept()
    assert leader.state.progress["b"].match == 7
    leader.hears("b", Recall(leader.state.term, 5, 3, 0, 0))
    assert leader.state.progress["b"].match == 2
    sent = leader.heard(Append, "b")[-1]
    assert (sent.prev_index, len(sent.block)) == (2, 5)
    assert leader.state.commit == 7, "what was committed stays so"
    answer = leader.heard(RecallReply, "b")[-1]
    assert (answer.last_index, answer.held) == (7, False)


def test_a_member_answers_only_for_a_log_that_holds_the_anchor() -> None:
    member = Member(terms=[1, 1, 1, 2, 2, 2])
    member.hears("b", Recall(2, 5, 3, 2, 5))
    answer = member.heard(RecallReply)[-1]
    assert (answer.held, answer.prev_term, answer.last_index) == (True, 1, 0)
    assert answer.block.entries == LOG[2:4]
    for anchor in ((1, 5), (2, 7), (0, 0)):
        member.hears("b", Recall(2, 5, 3, *anchor))
        answer = member.heard(RecallReply)[-1]
        assert (answer.held, answer.block.entries) == (False, ())


def test_a_member_in_doubt_helps_with_its_own_runs() -> None:
    member = in_doubt(1, (3, 6))
    member.hears("b", Recall(2, 5, 4, 2, 6))
    answer = member.heard(RecallReply)[-1]
    assert (answer.held, answer.in_doubt, answer.block.entries) == (True, True, LOG[3:5])
    member.hears("b", Recall(2, 5, 2, 1, 3))
    assert not member.heard(RecallReply)[-1].held, "its own hole is there"


# --- whole groups -------------------------------------------------------------------------------


def trio(commands: int = 10) -> Cluster:
    cluster = Cluster("abc")
    cluster.elect("a")
    for number in range(commands):
        cluster.propose("a", b"%d" % number)
    cluster.settle()
    cluster.advance(500)
    return cluster


def all_rot(cluster: Cluster, **holes: list[tuple[int, int]]) -> None:
    """Everybody crashes, these disks rot, everybody starts again."""
    for name in cluster.members:
        cluster.crash(name)
    for name, ranges in holes.items():
        cluster.members[name].disk.rot(ranges)
    for name in cluster.members:
        cluster.restart(name)


def serves(cluster: Cluster) -> bool:
    cluster.advance(20_000)
    if not cluster.leaders():
        return False
    entry = cluster.propose(cluster.leader(), b"still alive")
    cluster.settle()
    cluster.advance(500)
    return all(member.applied[-1] == entry for member in cluster.members.values())


def test_a_follower_whose_log_rotted_is_repaired_while_the_leader_goes_on() -> None:
    cluster = trio()
    cluster.crash("c")
    cluster.members["c"].disk.rot([(4, 6)])
    cluster.restart("c")
    cluster.advance(3_000)
    assert cluster["c"].state.doubt is None
    assert cluster.commands("c") == cluster.commands("a")
    assert len(cluster.figure_three.leaders) == 1, "nobody was disturbed"


def test_a_leader_whose_log_rotted_comes_back_as_a_follower_and_is_repaired() -> None:
    cluster = trio()
    cluster.crash("a")
    cluster.members["a"].disk.rot([(8, 99)])
    cluster.restart("a")
    assert serves(cluster)
    assert cluster["a"].state.doubt is None
    assert not cluster["a"].is_leader


def test_two_of_three_damaged_at_different_places_repair_each_other() -> None:
    """Neither may vote at first, so no leader can help them: only their logs can."""
    cluster = trio()
    all_rot(cluster, b=[(3, 4)], c=[(7, 8)])
    assert serves(cluster)
    assert len(cluster.figure_three.committed) > 11


def test_even_all_of_three_repair_each_other_while_each_entry_survives_somewhere() -> None:
    cluster = trio()
    all_rot(cluster, a=[(2, 3), (9, 9)], b=[(4, 5)], c=[(6, 8)])
    assert serves(cluster)


def test_a_quorum_damaged_at_the_same_place_is_refused_and_says_what_to_do() -> None:
    """The sound member may lack what the two others committed: nothing is invented."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.partition("ab", "c")
    for number in range(10):
        cluster.propose("a", b"%d" % number)
    cluster.settle()
    cluster.advance(500)
    cluster.heal()
    cluster.mail.clear()
    all_rot(cluster, a=[(5, 6)], b=[(6, 6)])
    assert not serves(cluster)
    with pytest.raises(GroupInDoubt, match="a, b of a, b, c lost part of their logs") as error:
        cluster["a"].propose(b"x", cluster.now_ns)
    assert "mcpctl recover" in str(error.value)
    with pytest.raises(GroupInDoubt):
        cluster["b"].read(cluster.now_ns)


def test_a_group_of_one_with_a_hole_in_its_log_is_refused() -> None:
    cluster = Cluster("a")
    cluster.elect("a")
    for number in range(5):
        cluster.propose("a", b"%d" % number)
    all_rot(cluster, a=[(3, 3)])
    assert not serves(cluster)
    with pytest.raises(GroupInDoubt, match="mcpctl recover"):
        cluster["a"].propose(b"x", cluster.now_ns)


def test_a_doubt_outlives_a_restart_in_the_middle_of_the_repair() -> None:
    cluster = trio()
    cluster.crash("c")
    cluster.members["c"].disk.rot([(4, 6)])
    cluster.partition("ab", "c")
    for _ in range(3):
        cluster.restart("c")
        cluster.advance(3_000)
        assert cluster["c"].state.doubt is not None
        cluster.crash("c")
    cluster.restart("c")
    cluster.heal()
    assert serves(cluster)
    assert cluster["c"].state.doubt is None


holes = st.lists(st.tuples(st.integers(1, 13), st.integers(0, 4)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1 << 20), st.dictionaries(st.sampled_from("abc"), holes, min_size=1))
def test_wherever_logs_rot_nothing_committed_is_contradicted_and_what_survives_comes_back(
    seed: int, damage: dict[str, list[tuple[int, int]]]
) -> None:
    """Figure 3 is judged all along; if each entry survives on a sound disk, so does the service."""
    cluster = Cluster("abc", seed=seed)
    cluster.elect("a")
    for number in range(10):
        cluster.propose("a", b"%d" % number)
    cluster.settle()
    cluster.advance(500)
    all_rot(cluster, **{name: [(at, at + more) for at, more in h] for name, h in damage.items()})
    works = serves(cluster)
    if len(damage) == 1:
        assert works
        assert all(member.raft.state.doubt is None for member in cluster.members.values())
