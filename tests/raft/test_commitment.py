"""Sections 5.3 and 5.4: what is committed, the story of Figure 8 and the table of Figure 7."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.raft.messages import Append, Heartbeat, Message, Vote, VoteReply
from tests.raft.cluster import SETTINGS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, append, beat, entries


def test_an_entry_is_committed_once_a_majority_stores_it() -> None:
    """Raft §5.3."""
    member = Member("abcde").leads()
    asks = {peer: member.heard(Append, peer)[0] for peer in "bcde"}

    member.hears("b", accepted(asks["b"]))
    assert member.state.commit == 0
    member.hears("c", accepted(asks["c"]))
    assert member.state.commit == 1
    assert [entry.index for entry in member.applied] == [1]


def test_committing_an_entry_commits_all_before_it() -> None:
    """Raft §5.3: "including entries created by previous leaders"."""
    member = Member(terms=[1, 2, 2]).leads()

    member.all_accept()

    assert [(entry.term, entry.index) for entry in member.applied] == [
        (1, 1),
        (2, 2),
        (2, 3),
        (3, 4),
    ]


def test_a_leader_does_not_commit_entries_of_older_terms_by_counting() -> None:
    """Raft §5.4.2."""
    member = Member(terms=[1, 2]).leads()
    for peer in "bc":
        ask = member.heard(Append, peer) or [append(3, (2, 2))]
        reply = accepted(ask[0])._replace(
            at_index=2, session=member.state.progress[peer].session, sent_ns=member.now_ns
        )
        member.hears(peer, reply)

    assert member.state.progress["b"].match == member.state.progress["c"].match == 2
    assert member.state.commit == 0, "index 2 is on all disks, and may still be lost (Figure 8)"


def test_a_single_member_commits_by_itself() -> None:
    assert Member("a").leads().state.commit == 1


def test_two_members_commit_only_together() -> None:
    member = Member("ab").leads()
    assert member.state.commit == 0
    member.all_accept()
    assert member.state.commit == 1


def test_the_answer_of_somebody_who_does_not_vote_commits_nothing() -> None:
    member = Member().leads()
    ask = member.heard(Append, "b")[0]
    member.hears("z", accepted(ask))
    assert member.state.commit == 0


# --- how followers learn it -------------------------------------------------------------------


@pytest.mark.parametrize(("commit", "learned"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (99, 3)])
def test_a_follower_commits_up_to_the_leaders_commit_or_the_last_new_entry(commit, learned) -> None:
    """Raft Figure 2: min(leaderCommit, index of last new entry)."""
    member = Member(terms=[1, 1], term=2)

    member.hears("b", append(2, (1, 1), [1, 2], commit=commit))

    assert member.state.commit == learned


def test_a_follower_does_not_commit_entries_that_the_leader_has_not_confirmed() -> None:
    """Raft Figure 2: entries beyond the last new one may be of a deposed leader."""
    member = Member(terms=[1, 1, 1, 1], term=2)

    member.hears("b", append(2, (1, 1), [], commit=4))
    assert member.state.commit == 1
    member.hears("b", beat(2, commit=4))
    assert member.state.commit == 1, "a heartbeat knows nothing of our log"


def test_what_matched_one_leader_proves_nothing_about_the_next() -> None:
    member = Member()
    member.hears("b", append(1, (0, 0), [1, 1, 1]))
    member.hears("c", beat(2, commit=3))
    assert member.state.commit == 0


def test_what_was_truncated_matches_no_longer() -> None:
    member = Member()
    member.hears("b", append(1, (0, 0), [1, 1, 1]))
    member.hears("c", append(2, (1, 1), [2]))
    member.hears("c", beat(2, commit=9))
    assert member.state.commit == 2


def test_a_commit_index_never_goes_back() -> None:
    """Raft Figure 2: "increases monotonically"."""
    member = Member()
    member.hears("b", append(1, (0, 0), [1, 1], commit=2))
    member.hears("b", append(1, (0, 0), [1], commit=1))
    member.hears("b", beat(1, commit=0))
    assert member.state.commit == 2


def test_a_commit_is_announced_without_waiting_for_a_heartbeat() -> None:
    member = Member().leads()
    asks = {peer: member.heard(Append, peer)[0] for peer in "bc"}
    member.hears("c", accepted(asks["c"]))
    member.hears("b", accepted(asks["b"]))

    told = {m.commit for m in member.heard(Append, "b") + member.heard(Heartbeat, "b")}
    assert told == {1}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("bcde"), st.integers(1, 9)), max_size=30))
def test_acknowledgements_in_any_order_commit_what_a_majority_stores(answers) -> None:
    """openraft #1802, over a whole leader."""
    member = Member("abcde").leads().all_accept()
    member.proposes(*[b"x"] * 8)
    stored = dict.fromkeys("bcde", 1)
    for peer, index in answers:
        stored[peer] = max(stored[peer], index)
        progress = member.state.progress[peer]
        ask = append(1, (1, index), session=progress.session, sent_ns=member.now_ns)
        member.hears(peer, accepted(ask))
        assert member.state.commit == sorted([9, *stored.values()])[2]


# --- Figure 8 ---------------------------------------------------------------------------------


def lead(cluster: Cluster, name: str, alive: str) -> None:
    """``name`` wins with exactly these members; what it says first is lost."""
    for other, member in cluster.members.items():
        if other not in alive and member.up:
            cluster.crash(other)
    for voter in alive:
        if not cluster.members[voter].up:
            cluster.restart(voter)
    raft = cluster[name]
    while not raft.is_leader:
        cluster.mail.clear()
        for voter in alive:
            cluster[voter].state.patience.promise_until_ns = 0
            cluster[voter].state.election_deadline_ns = cluster.now_ns + SETTINGS.heartbeat_ns
        raft.tick(raft.deadline_ns())
        cluster.now_ns = raft.state.now_ns
        cluster.drain(name)
        while cluster.mail and not raft.is_leader:
            cluster.deliver()
    cluster.mail.clear()


def figure_8_up_to_c() -> tuple[Cluster, int, int]:
    """(a) to (c): the group, the term that ``a`` leads at last, the index in question."""
    one_entry_each = replace(SETTINGS, max_append_bytes=1)
    cluster = Cluster("abcde", settings=one_entry_each)
    lead(cluster, "a", "abc")
    old = cluster.propose("a", b"of term 2")
    cluster.mail.clear()
    lead(cluster, "e", "cde")
    cluster.propose("e", b"of term 3")
    cluster.mail.clear()
    lead(cluster, "a", "abc")
    cluster["a"].peer_connected("b", cluster.now_ns)
    cluster["a"].peer_connected("c", cluster.now_ns)
    cluster.drain("a")
    return cluster, cluster["a"].state.term, old.index


def of_term(message: Message, term: int) -> bool:
    return isinstance(message, Append) and any(e.term == term for e in message.block.entries)


def test_figure_8_an_old_entry_on_a_majority_is_not_committed_and_may_be_overwritten() -> None:
    """Raft §5.4.2, (a) to (d)."""
    cluster, term, old = figure_8_up_to_c()
    while cluster.mail:
        if of_term(cluster.mail[0].message, term):
            del cluster.mail[0]
        else:
            cluster.deliver()
    for name in "abc":
        assert cluster.members[name].disk.entries[old - 1].data == b"of term 2"
    assert cluster["a"].state.commit < old, "three of five store it"

    lead(cluster, "e", "bcde")
    cluster["e"].tick(cluster.now_ns)
    cluster.drain("e")
    for peer in "bcd":
        cluster["e"].peer_connected(peer, cluster.now_ns)
    cluster.drain("e")
    cluster.settle()

    assert cluster.commands("b") == [b"of term 3"]


def test_figure_8_once_its_own_term_is_on_a_majority_nobody_wins_without_the_old_entry() -> None:
    """Raft §5.4.2, (e)."""
    cluster, _, old = figure_8_up_to_c()
    cluster.settle()
    assert cluster["a"].state.commit > old
    assert cluster.commands("b") == [b"of term 2"]

    last = cluster.members["e"].disk.entries[-1]
    for voter in "bc":
        cluster[voter].state.patience.promise_until_ns = 0
        cluster[voter].step("e", Vote(99, last.term, last.index, False), cluster.now_ns)
        cluster.drain(voter)
        assert cluster.mail[-1].message == VoteReply(99, False)


# --- Figure 7 ---------------------------------------------------------------------------------

LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FOLLOWERS = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize(
    ("name", "votes"),
    [("a", True), ("b", True), ("c", False), ("d", False), ("e", True), ("f", True)],
)
def test_figure_7_who_votes_for_the_leader(name: str, votes: bool) -> None:
    """Raft §5.3 with §5.4.1: (c) and (d) hold more, and refuse; the other four are enough."""
    member = Member(terms=FOLLOWERS[name], term=7)
    member.hears("b", Vote(8, 6, 10, False))
    assert member.said == [("b", VoteReply(8, votes))]


@pytest.mark.parametrize(
    ("name", "refusals", "met_at"),
    [("a", 1, 9), ("b", 1, 4), ("c", 0, 10), ("d", 0, 10), ("e", 1, 5), ("f", 1, 3)],
)
def test_figure_7_what_the_leader_does_with_each_follower(name, refusals, met_at) -> None:
    """Raft §5.3: extra entries go, missing ones come, with one refusal at most."""
    follower = Member(terms=FOLLOWERS[name], term=7)
    leader = Member(terms=LEADER, term=7).leads()
    ask = leader.heard(Append, "b")[0]
    seen = 0
    while True:
        follower.hears("c", ask)
        [reply] = [m for _, m in follower.said]
        if reply.accepted:
            break
        seen += 1
        leader.hears("b", reply)
        [ask] = leader.heard(Append, "b")

    assert (seen, ask.prev_index) == (refusals, met_at)
    assert follower.terms == [*LEADER, 8]


def test_the_five_of_figure_7_are_the_tests_own_words() -> None:
    """Entries equal in term and index are equal, or the figure would prove nothing."""
    assert entries([1, 4])[1].data == entries([4], 2)[0].data


def test_a_leader_cut_off_from_its_majority_must_not_commit() -> None:
    """Raft §5.3."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.partition("a", "bc")
    entry = cluster.propose("a", b"x")
    cluster.advance(3 * TIMEOUT_MS)
    assert cluster["a"].state.commit < entry.index
    assert cluster.leader() in ("b", "c")
