"""Thesis section 6.4: reads that never return old news, by quorum or by lease."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import LeaseUnavailable, NotLeader, QueueFull, TransferUnderWay
from mcpcore.raft.messages import Append, Heartbeat, ReadIndex, ReadIndexReply, TimeoutNow, Vote
from mcpcore.raft.outcome import ReadAnswer, Role
from mcpcore.raft.windows import WindowSettings
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, answered, beat


def leader(voters: str = "abc", **how) -> Member:
    """A leader that has committed in its own term."""
    return Member(voters, **how).leads().all_accept()


def asks(member: Member) -> int:
    number = member.raft.read(member.now_ns)
    member.drain()
    return number


# --- read index ---------------------------------------------------------------------------------


def test_a_read_waits_until_a_quorum_confirms_the_leader_after_it_was_asked() -> None:
    """Thesis §6.4, step 3."""
    member = leader("abcde")
    read = asks(member)
    beats = {peer: member.heard(Heartbeat, peer)[0] for peer in "bcde"}

    member.hears("b", answered(beats["b"]))
    assert member.reads == []
    member.hears("c", answered(beats["c"]))
    assert member.reads == [ReadAnswer(read, 1)]


def test_a_read_is_not_confirmed_by_answers_to_heartbeats_older_than_it() -> None:
    """etcd #20418: an old round proves that we led then, not now."""
    member = leader()
    member.waits(200)
    old = {peer: member.heard(Heartbeat, peer)[0] for peer in "bc"}
    asks(member)

    for peer in "bc":
        member.hears(peer, answered(old[peer]))

    assert member.reads == []


def test_a_read_asked_while_a_round_is_out_waits_for_the_next_round() -> None:
    """etcd #20418, the reuse of a round that had left before the question came."""
    member = leader()
    first = asks(member)
    out = {peer: member.heard(Heartbeat, peer)[0] for peer in "bc"}
    second = asks(member)
    later = {peer: member.heard(Heartbeat, peer)[0] for peer in "bc"}

    member.hears("b", answered(out["b"]))
    assert [answer.read for answer in member.reads] == [first]
    member.hears("b", answered(later["b"]))
    assert [answer.read for answer in member.reads] == [first, second]


def test_reads_asked_together_share_one_round() -> None:
    member = leader()
    reads = [member.raft.read(member.now_ns) for _ in range(100)]
    member.drain()
    [ask] = member.heard(Heartbeat, "b")

    member.hears("b", answered(ask))

    assert [answer.read for answer in member.reads] == reads


def test_no_read_is_answered_before_the_leader_has_committed_in_its_own_term() -> None:
    """Thesis §6.4, step 1 (etcd #7331): before that its commit index may be old news."""
    member = Member(terms=[1, 1, 1]).leads()
    first_appends = {peer: member.heard(Append, peer)[0] for peer in "bc"}
    read = asks(member)
    member.hears("b", answered(member.heard(Heartbeat, "b")[0]))
    assert member.reads == []

    member.hears("b", accepted(first_appends["b"]))

    assert member.reads == [ReadAnswer(read, 4)], "the index of the first entry of its term"


def test_a_read_returns_the_commit_index_of_the_moment_it_was_asked() -> None:
    """Thesis §6.4, step 2."""
    member = leader()
    read = asks(member)
    ask = member.heard(Heartbeat, "b")[0]
    member.proposes(b"later")
    member.all_accept()

    member.hears("b", answered(ask))

    assert member.reads == [ReadAnswer(read, 1)]


def test_a_single_member_confirms_itself() -> None:
    member = leader("a")
    read = asks(member)
    assert member.reads == [ReadAnswer(read, 1)]


@pytest.mark.parametrize(
    "message", [beat(9), Vote(9, 9, 9, True)], ids=["another leads", "another is offered the lead"]
)
def test_reads_that_wait_are_given_up_when_leadership_is_lost(message) -> None:
    member = leader()
    read = asks(member)
    member.hears("b", message)
    assert member.reads == [ReadAnswer(read, 0)]


def test_reads_that_wait_are_given_up_when_no_quorum_answers() -> None:
    member = leader()
    read = asks(member)
    member.waits(TIMEOUT_MS)
    assert member.state.role is Role.FOLLOWER
    assert member.reads == [ReadAnswer(read, 0)]


def test_reads_are_bounded() -> None:
    member = leader(settings=replace(SETTINGS, max_pending_reads=2))
    asks(member)
    asks(member)
    with pytest.raises(QueueFull, match="reads is full"):
        asks(member)
    assert member.hears("b", ReadIndex(1, 7)) == [("b", ReadIndexReply(1, 7, 0))]


# --- from a follower ------------------------------------------------------------------------------


def test_a_follower_asks_the_leader_at_which_index_it_may_read() -> None:
    """Thesis §6.4, "followers can help offload"."""
    member = Member(term=3)
    with pytest.raises(NotLeader):
        member.raft.read(member.now_ns)
    member.hears("b", beat(3))

    read = asks(member)
    assert member.said == [("b", ReadIndex(3, read))]
    member.hears("b", ReadIndexReply(3, read, 17))

    assert member.reads == [ReadAnswer(read, 17)]


def test_a_leader_answers_a_followers_read_once_it_is_confirmed() -> None:
    member = leader()
    member.hears("b", ReadIndex(1, 77))
    [ask] = member.heard(Heartbeat, "c")

    member.hears("c", answered(ask))

    assert member.heard(ReadIndexReply, "b") == [ReadIndexReply(1, 77, 1)]


@pytest.mark.parametrize("term", [0, 2])
def test_a_question_of_another_term_is_answered_with_no(term: int) -> None:
    member = leader()
    assert member.hears("b", ReadIndex(term, 7)) == [("b", ReadIndexReply(1, 7, 0))]


def test_an_answer_nobody_asked_for_is_dropped() -> None:
    """Duplicate or late read numbers (etcd #20418, raft #397)."""
    member = Member(term=3)
    member.hears("b", beat(3))
    read = asks(member)
    member.hears("b", ReadIndexReply(3, read + 1, 9))
    member.hears("b", ReadIndexReply(3, read, 9))
    member.hears("b", ReadIndexReply(3, read, 8))
    assert member.reads == [ReadAnswer(read, 9)]


def test_an_answer_from_anybody_but_the_leader_confirms_nothing() -> None:
    member = Member(term=3)
    member.hears("b", beat(3))
    read = asks(member)
    member.hears("c", ReadIndexReply(3, read, 9))
    assert member.reads == [ReadAnswer(read, 0)]


def test_the_numbers_of_reads_do_not_repeat_after_a_restart() -> None:
    """Duplicate read ids (etcd #20418): a late answer must not meet a new question."""
    numbers = set()
    for seed in range(50):
        member = Member(term=3, seed=seed)
        member.hears("b", beat(3))
        numbers |= {asks(member) for _ in range(10)}
    assert len(numbers) == 500


def test_a_forwarded_read_whose_answer_is_lost_is_given_up_although_heartbeats_go_on() -> None:
    member = Member(term=3)
    member.hears("b", beat(3))
    read = asks(member)
    for _ in range(5):
        assert member.reads == []
        member.waits(200)
        member.hears("b", beat(3))
    assert member.reads == [ReadAnswer(read, 0)]


def test_a_forwarded_read_is_given_up_when_the_leader_changes() -> None:
    member = Member(term=3)
    member.hears("b", beat(3))
    read = asks(member)
    member.hears("c", beat(4))
    assert member.reads == [ReadAnswer(read, 0)]


# --- lease ----------------------------------------------------------------------------------------


def test_a_lease_answers_at_once() -> None:
    """Thesis §6.4.1."""
    assert leader().raft.lease_read(TIMEOUT_MS * MS) == 1


def test_a_lease_counts_from_when_the_answered_message_was_sent_less_the_drift() -> None:
    """Thesis §6.4.1 (jraft #25, #34): never from when the answer came."""
    member = leader(settings=replace(SETTINGS, drift_ppm=50_000))  # 5 %: the lease is 900 ms
    member.waits(200)
    sent_ns = member.now_ns
    ask = member.heard(Heartbeat, "b")[0]
    member.waits(600, tick=False)
    member.hears("b", answered(ask))

    assert member.raft.lease_read(sent_ns + 900 * MS - 1) == 1
    with pytest.raises(LeaseUnavailable, match="ran out 0 ms ago"):
        member.raft.lease_read(sent_ns + 900 * MS)


LEASE_NS = WindowSettings.of(SETTINGS).counted_ns(SETTINGS.election_timeout_ns)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("bcde"), st.integers(1, 400)), max_size=15))
def test_a_lease_never_outlives_the_promises_of_a_quorum(story) -> None:
    """Thesis §6.4.1: whoever answers, and in whatever order."""
    member = leader("abcde")
    sent_ns = dict.fromkeys("bcde", member.now_ns)
    for peer, ms in story:
        member.waits(ms)
        if not member.raft.is_leader:
            return
        for ask in member.heard(Heartbeat, peer):
            sent_ns[peer] = ask.sent_ns
            member.hears(peer, answered(ask))
        end_ns = sorted(sent_ns.values())[2] + LEASE_NS
        if member.now_ns < end_ns:
            assert member.raft.lease_read(member.now_ns) == 1
        else:
            with pytest.raises(LeaseUnavailable):
                member.raft.lease_read(member.now_ns)


def test_there_is_no_lease_before_the_leader_has_committed_in_its_own_term() -> None:
    member = Member(terms=[1]).leads()
    with pytest.raises(LeaseUnavailable, match="not yet committed in its own term"):
        member.raft.lease_read(member.now_ns)


def test_there_is_no_lease_during_a_transfer_and_none_after_it_in_this_term() -> None:
    """openraft #1747: the offer lets followers break their promise, and it may arrive late."""
    member = leader()
    member.proposes(b"b does not have this yet")
    member.raft.transfer_leadership("b", member.now_ns)
    with pytest.raises(LeaseUnavailable, match="being handed to b"):
        member.raft.lease_read(member.now_ns)
    member.drain()
    assert member.heard(TimeoutNow) == [], "not offered yet"

    member.raft.peer_connected("b", member.now_ns)
    member.drain()
    member.all_accept()
    for _ in range(5):
        member.waits(200)
        for peer in "bc":
            for ask in [m for to, m in member.said if to == peer and isinstance(m, Heartbeat)]:
                said = member.said
                member.hears(peer, answered(ask))
                member.said = said

    assert member.raft.is_leader
    assert member.state.transfer_target == ""
    with pytest.raises(LeaseUnavailable, match="was offered"):
        member.raft.lease_read(member.now_ns)


def test_leases_can_be_switched_off() -> None:
    member = leader(settings=replace(SETTINGS, lease_reads=False))
    with pytest.raises(LeaseUnavailable, match="switched off"):
        member.raft.lease_read(member.now_ns)


def test_a_follower_has_no_lease() -> None:
    member = Member(term=3)
    member.hears("b", beat(3))
    with pytest.raises(NotLeader, match="ask b"):
        member.raft.lease_read(member.now_ns)


def test_a_leader_that_slept_has_no_lease_when_it_wakes() -> None:
    """jraft #34: a pause is nothing but time that passed."""
    member = leader()
    with pytest.raises(LeaseUnavailable):
        member.raft.lease_read(member.now_ns + 10 * SETTINGS.election_timeout_ns)


def test_an_answer_of_an_older_connection_extends_no_lease() -> None:
    member = leader()
    member.waits(200)
    ask = member.heard(Heartbeat, "b")[0]
    member.raft.peer_connected("b", member.now_ns)
    contact_ns = member.state.progress["b"].contact_ns
    member.hears("b", answered(ask))
    assert member.state.progress["b"].contact_ns == contact_ns


def test_no_new_leader_commits_while_the_old_ones_lease_runs() -> None:
    """Thesis §6.4.1, a whole group: the old leader is cut off, and answers reads by its lease."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.advance(400)
    cluster.partition("a", "bc")
    served = 0
    for _ in range(60):
        cluster.advance(50)
        for name in cluster.leaders():
            if name != "a":
                cluster.propose(name, b"x")
                cluster.settle()
        if cluster["a"].is_leader:
            try:
                cluster.lease_read("a")  # judged against every commit so far
                served += 1
            except LeaseUnavailable:
                pass
    assert served > 5
    assert cluster.leader() != "a"


def test_reads_and_transfers_do_not_mix_up_refusals() -> None:
    member = leader()
    member.raft.transfer_leadership("b", member.now_ns)
    with pytest.raises(TransferUnderWay):
        member.proposes(b"x")
    asks(member)
