"""Sections 5.1, 5.2 and 5.4.1 of the paper: terms, elections, who may win."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    Vote,
    VoteReply,
)
from mcpcore.raft.outcome import Role
from mcpcore.raft.types import EntryKind, LogPosition
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, append, beat

# --- 5.1 Terms --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        AppendReply(9, 1, False, 0, 0, 0, 0),
        HeartbeatReply(9, 1, 0, 0),
        PreVoteReply(9, 3, False),
        VoteReply(9, False),
        ReadIndexReply(9, 1, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_leader_that_hears_a_higher_term_becomes_a_follower_in_it(message) -> None:
    """Raft §5.1."""
    member = Member().leads()

    member.hears("b", message)

    assert (member.state.role, member.state.term) == (Role.FOLLOWER, 9)
    assert (member.raft.leader, member.state.voted_for) == ("", "")


def test_a_candidate_that_hears_a_higher_term_becomes_a_follower_in_it() -> None:
    """Raft §5.1."""
    member = Member(term=4)
    member.campaigns()

    member.hears("b", VoteReply(9, False))

    assert (member.state.role, member.state.term) == (Role.FOLLOWER, 9)


@pytest.mark.parametrize(("ask", "answer"), [(append(3), AppendReply), (beat(3), HeartbeatReply)])
def test_a_request_of_an_older_term_is_refused_with_the_newer_term(ask, answer) -> None:
    """Raft §5.1: "if a server receives a request with a stale term number, it rejects it"."""
    member = Member(term=5)

    [(to, reply)] = member.hears("b", ask)

    assert to == "b"
    assert isinstance(reply, answer)
    assert reply.term == 5
    assert member.raft.leader == "", "an old leader is not followed"


def test_a_leader_of_a_higher_term_is_followed_at_once() -> None:
    """Raft §5.1 and §5.2."""
    member = Member(term=2).leads()

    member.hears("b", beat(8))

    assert (member.state.role, member.state.term, member.raft.leader) == (Role.FOLLOWER, 8, "b")


def test_a_vote_of_an_older_term_is_never_counted() -> None:
    """Raft §5.1: replies of an older term count for nothing."""
    member = Member(term=2)
    member.campaigns()
    old_term = member.state.term - 1

    member.hears("b", VoteReply(old_term, True))
    member.hears("c", VoteReply(old_term, True))

    assert member.state.role is Role.CANDIDATE


def test_a_member_whose_disk_holds_entries_of_a_later_term_than_its_own_refuses_to_start() -> None:
    """A disk that lost its term would let it vote twice (PySyncObj #84, #202)."""
    with pytest.raises(InvalidInput, match="stored term 7 lies behind the log"):
        Member(terms=[1, 9], term=7)


# --- 5.2 Leader election ----------------------------------------------------------------------


def test_members_start_as_followers() -> None:
    """Raft §5.2."""
    assert Member().state.role is Role.FOLLOWER


def test_a_leader_sends_heartbeats_to_all_members_when_they_are_due() -> None:
    """Raft §5.2."""
    member = Member("abcde").leads()

    member.waits(200)

    assert sorted(to for to, m in member.said if isinstance(m, Heartbeat)) == ["b", "c", "d", "e"]
    assert member.raft.deadline_ns() == member.now_ns + SETTINGS.heartbeat_ns


def test_a_follower_that_hears_nobody_stands_for_election_in_the_next_term() -> None:
    """Raft §5.2: it votes for itself and asks everybody else."""
    member = Member("abcde", term=6, terms=[1, 4])

    said = member.campaigns()

    assert (member.state.role, member.state.term) == (Role.CANDIDATE, 7)
    assert member.state.voted_for == "a"
    assert said == [(peer, Vote(7, 4, 2, False)) for peer in "bcde"]


@pytest.mark.parametrize(
    ("voters", "grants", "refusals", "role"),
    [
        ("a", "", "", Role.LEADER),
        ("ab", "", "", Role.CANDIDATE),
        ("ab", "b", "", Role.LEADER),
        ("abc", "b", "", Role.LEADER),
        ("abc", "", "b", Role.CANDIDATE),
        ("abc", "", "bc", Role.FOLLOWER),
        ("abcd", "b", "", Role.CANDIDATE),
        ("abcd", "b", "cd", Role.FOLLOWER),
        ("abcd", "bc", "", Role.LEADER),
        ("abcde", "b", "cd", Role.CANDIDATE),
        ("abcde", "bc", "de", Role.LEADER),
        ("abcde", "b", "cde", Role.FOLLOWER),
    ],
)
def test_a_candidate_wins_with_a_majority_and_gives_up_when_none_is_left(
    voters: str, grants: str, refusals: str, role: Role
) -> None:
    """Raft §5.2."""
    member = Member(voters)
    if voters == "a":
        member.times_out()
    else:
        member.campaigns()

    for peer in refusals:
        member.hears(peer, VoteReply(1, False))
    for peer in grants:
        member.hears(peer, VoteReply(1, True))

    assert member.state.role is role


def test_a_vote_repeated_counts_once() -> None:
    """Raft §5.2, over a network that duplicates."""
    member = Member("abcde")
    member.campaigns()

    for _ in range(5):
        member.hears("b", VoteReply(1, True))

    assert member.state.role is Role.CANDIDATE


def test_a_vote_of_somebody_outside_the_group_does_not_count() -> None:
    member = Member()
    member.campaigns()

    member.hears("z", VoteReply(1, True))

    assert member.state.role is Role.CANDIDATE


def test_a_new_leader_announces_itself_with_an_entry_of_its_own_term() -> None:
    """Raft §8: "each leader commits a blank no-op entry at the start of its term"."""
    member = Member(terms=[1, 1]).leads()

    noop = member.state.log.entry(3)

    assert (noop.term, noop.kind) == (2, EntryKind.NOOP)
    assert [(to, m.prev_index, len(m.block)) for to, m in member.said if isinstance(m, Append)] == [
        ("b", 2, 1),
        ("c", 2, 1),
    ]


@pytest.mark.parametrize("voted_for", ["", "b", "c"])
def test_a_voter_votes_for_one_candidate_per_term_first_come_first_served(voted_for: str) -> None:
    """Raft §5.2."""
    member = Member(term=3, voted_for=voted_for)

    member.hears("b", Vote(3, 0, 0, False))

    assert member.said == [("b", VoteReply(3, voted_for != "c"))]
    assert member.state.voted_for == (voted_for or "b")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("bcde"),
            st.integers(1, 4),
            st.booleans(),
            st.sampled_from([0, 600, 1500]),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_a_member_votes_for_at_most_one_candidate_per_term_across_restarts(history) -> None:
    """Raft §5.2, whatever order requests arrive in and however often it restarts."""
    member, winners = Member("abcde"), {}
    for sender, term, transfer, ms, restart in history:
        if restart:
            hard_state = member.state.durable_hard_state
            member = Member("abcde", term=hard_state.term, voted_for=hard_state.voted_for)
        member.waits(ms, tick=False)
        member.hears(sender, Vote(term, 0, 0, transfer))
        for reply in member.heard(VoteReply):
            if reply.granted:
                assert winners.setdefault(reply.term, sender) == sender


def test_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    """Raft §5.2: "the candidate recognizes the leader as legitimate"."""
    member = Member()
    member.campaigns()

    member.hears("c", append(1))

    assert (member.state.role, member.raft.leader) == (Role.FOLLOWER, "c")


def test_a_candidate_that_hears_a_leader_of_an_older_term_goes_on() -> None:
    """Raft §5.2."""
    member = Member(term=5)
    member.campaigns()

    member.hears("c", append(5))

    assert (member.state.role, member.state.term) == (Role.CANDIDATE, 6)


def test_a_split_vote_is_tried_again_in_a_later_term() -> None:
    """Raft §5.2."""
    member = Member()
    member.campaigns()
    assert member.state.term == 1

    member.campaigns()

    assert (member.state.role, member.state.term) == (Role.CANDIDATE, 2)


def test_election_windows_are_drawn_anew_from_one_to_two_timeouts() -> None:
    """Raft §5.2, "randomized election timeouts"."""
    member, draws = Member(term=1), set()
    for _ in range(200):
        member.hears("b", beat(1))
        wait_ns = member.raft.deadline_ns() - member.now_ns
        assert SETTINGS.election_timeout_ns <= wait_ns < 2 * SETTINGS.election_timeout_ns
        draws.add(wait_ns // (100 * MS))
    assert draws == set(range(10, 20)), "every tenth of the window is drawn"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_new_group_elects_a_leader_within_a_few_timeouts(size: int) -> None:
    """Raft §5.2, liveness."""
    for seed in range(10):
        cluster = Cluster("abcdefg"[:size], seed=seed)
        cluster.advance(4 * TIMEOUT_MS)
        assert len(cluster.leaders()) == 1


def test_two_members_cannot_lead_the_same_term() -> None:
    """Raft Figure 3, Election Safety: two candidates of one term, votes arriving both ways."""
    cluster = Cluster("abc")
    for name in "ab":
        state = cluster[name].state
        state.election_deadline_ns = cluster.now_ns
    cluster.tick()
    cluster.settle()
    assert len(cluster.leaders()) <= 1


# --- 5.4.1 Election restriction ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ([1], (1, 1), True),
        ([1], (1, 2), True),
        ([1, 1], (1, 1), False),
        ([1], (2, 1), True),
        ([1, 1, 1], (2, 1), True),
        ([2], (1, 50), False),
        ([1, 2], (2, 1), False),
        ([], (0, 0), True),
    ],
)
def test_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(mine, theirs, granted) -> None:
    """Raft §5.4.1: the later last term wins, then the longer log."""
    member = Member(terms=mine, term=4)
    assert (LogPosition(*theirs) >= member.last) is granted

    member.hears("b", PreVote(5, *theirs))
    assert member.said == [("b", PreVoteReply(4, 5, granted))]
    member.hears("b", Vote(5, *theirs, False))
    assert member.said == [("b", VoteReply(5, granted))]


def test_a_refused_candidate_still_raises_the_voters_term() -> None:
    """Raft §5.1 with §5.4.1: the term is adopted, the vote stays free for somebody better."""
    member = Member(terms=[3, 3], term=3)

    member.hears("b", Vote(5, 1, 9, False))
    assert member.said == [("b", VoteReply(5, False))]
    member.hears("c", Vote(5, 3, 2, False))
    assert member.said == [("c", VoteReply(5, True))]


def test_a_member_says_how_old_the_last_sign_of_a_working_group_is() -> None:
    """On a follower since the leader was heard, on a leader since what a quorum answered left."""
    follower = Member(terms=[1])
    follower.hears("b", beat(1))
    follower.waits(300, tick=False)
    assert follower.raft.contact_age_ns(follower.now_ns) == 300 * MS

    leader = Member().leads().all_accept()
    leader.waits(250, tick=False)
    assert leader.raft.contact_age_ns(leader.now_ns) == 250 * MS
