"""The core with windows that move: what it asks for, what it answers, and for how long it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpcore.errors import LeaseUnavailable
from mcpcore.raft.election import lease_until_ns, office_until_ns
from mcpcore.raft.links import Links
from mcpcore.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, Vote, VoteReply
from mcpcore.raft.outcome import Role
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import Member, accepted, answered, append, beat

MOVING = replace(
    SETTINGS,
    election_timeout_ns=5000 * MS,
    heartbeat_ns=1000 * MS,
    election_floor_ns=500 * MS,
    heartbeat_floor_ns=100 * MS,
)
FLOOR_MS, CEILING_MS = 500, 5000


def leader(voters: str = "abc") -> Member:
    return Member(voters, settings=MOVING).leads().all_accept()


def goes_on(member: Member, rounds: int, *, way_ms: float = 5, peers: str = "bc") -> Member:
    """Regular heartbeats, each answered by these peers after ``way_ms``."""
    for _ in range(rounds):
        member.times_out()
        asked = [(to, m) for to, m in member.said if isinstance(m, Heartbeat) and m.sent_ns]
        assert asked
        member.waits(way_ms, tick=False)
        for to, ask in asked:
            if to in peers:
                member.hears(to, answered(ask))
    return member


def promised_ms(member: Member, peer: str = "b") -> int:
    return member.state.progress[peer].promises.promise_ns // MS


# --- the leader -----------------------------------------------------------------------------------


def test_a_new_leader_asks_for_the_ceiling_until_it_knows_the_links() -> None:
    member = Member(settings=MOVING).leads()
    assert {m.promise_ns for m in member.heard(Append)} == {CEILING_MS * MS}


def test_a_leader_whose_node_knows_the_links_asks_for_what_they_need_at_once() -> None:
    links = Links()
    for number in range(20):
        for peer in "bc":
            links.of(peer).sent(number * 100 * MS)
            links.of(peer).answered(number * 100 * MS, number * 100 * MS + 4 * MS)
    member = Member(settings=MOVING)
    member.state.links = member.state.windows._links = links
    member.leads()
    assert {m.promise_ns for m in member.heard(Append)} == {FLOOR_MS * MS}


def test_a_leader_of_near_members_comes_down_to_the_floors() -> None:
    member = goes_on(leader(), 20)
    assert promised_ms(member, "b") == promised_ms(member, "c") == FLOOR_MS
    assert member.state.heartbeat_ns == 100 * MS


def test_a_leader_of_far_members_speaks_less_often_and_asks_for_more() -> None:
    member = goes_on(leader(), 20, way_ms=450)
    assert promised_ms(member) >= 3 * 450
    assert member.state.heartbeat_ns == 200 * MS


def test_whatever_leaves_asks_for_the_promise_that_the_ledger_knows() -> None:
    """Appends and rounds of reads between two heartbeats too: answers do not say what was asked."""
    member = goes_on(leader(), 20, way_ms=450)
    wanted_ns = member.state.progress["b"].promises.promise_ns
    assert wanted_ns not in (FLOOR_MS * MS, CEILING_MS * MS)
    member.proposes(b"x")
    assert {m.promise_ns for m in member.heard(Append)} == {wanted_ns}
    member.raft.read(member.now_ns)
    member.drain()
    assert {m.promise_ns for m in member.heard(Heartbeat)} == {wanted_ns}


def test_a_shorter_window_ends_the_lease_and_the_office_sooner() -> None:
    member = goes_on(leader(), 80)  # longer than the first promises, which still counted
    sent_ns = member.now_ns - 5 * MS
    assert office_until_ns(member.state) == sent_ns + 2 * FLOOR_MS * MS
    assert lease_until_ns(member.state) == sent_ns + FLOOR_MS * MS * 999 // 1000
    member.waits(FLOOR_MS - 6, tick=False)
    assert member.raft.lease_read(member.now_ns)
    member.waits(1, tick=False)
    with pytest.raises(LeaseUnavailable, match="ran out"):
        member.raft.lease_read(member.now_ns)
    member.waits(400)
    assert member.state.role is Role.LEADER, "a link that has just become slow"
    member.waits(100)
    assert member.state.role is Role.FOLLOWER


def test_what_was_promised_for_longer_still_counts_after_the_window_became_short() -> None:
    """The members keep the longer promise, so the leader may count on it."""
    member = Member(settings=MOVING).leads()
    first_ns = member.now_ns
    member.all_accept()
    goes_on(member, 20)
    assert promised_ms(member) == FLOOR_MS
    assert office_until_ns(member.state) == first_ns + CEILING_MS * MS


def test_a_leader_counts_on_a_quorum_and_on_nobody_who_has_not_answered() -> None:
    member = goes_on(leader("abcde"), 80, peers="bcde")
    before_ns = office_until_ns(member.state)
    goes_on(member, 3, peers="b")
    assert office_until_ns(member.state) == before_ns, "two of five is no quorum"
    goes_on(member, 1, peers="bc")
    assert office_until_ns(member.state) > before_ns


def test_a_link_that_loses_heartbeats_gets_a_longer_window() -> None:
    member = goes_on(leader(), 30)
    goes_on(member, 3, peers="b")
    goes_on(member, 5)
    assert promised_ms(member, "c") > FLOOR_MS


def test_heartbeats_that_died_with_their_connection_say_nothing_about_the_link() -> None:
    member = goes_on(leader(), 30)
    goes_on(member, 3, peers="b")
    member.meets("c")
    goes_on(member, 5)
    assert promised_ms(member, "c") == FLOOR_MS


def test_a_member_that_came_back_with_another_disk_has_promised_nothing() -> None:
    member = Member(settings=MOVING, incarnation="a1")
    for peer in "bc":
        member.meets(peer, f"{peer}1")
    goes_on(member.leads().all_accept(), 3)
    assert member.state.progress["b"].promises.counted_until_ns > member.now_ns
    member.meets("b", "b2")
    assert member.state.progress["b"].promises.counted_until_ns == 0


# --- the others ---------------------------------------------------------------------------------


def follower() -> Member:
    """Behind it lies the promise that every start behaves as if it had made."""
    return Member(settings=MOVING, terms=[1])


def asks(promise_ms: int, member: Member) -> Heartbeat:
    return beat(1)._replace(promise_ns=promise_ms * MS, sent_ns=member.now_ns)


def test_a_member_waits_as_long_as_its_leader_asked() -> None:
    member = follower()
    member.hears("b", asks(700, member))
    assert 700 * MS <= member.raft.deadline_ns() - member.now_ns < 1400 * MS


def test_a_member_waits_longer_while_its_own_node_is_slow_but_never_beyond_the_ceiling() -> None:
    member = follower()
    member.state.links.multiplier = 3.0
    member.hears("b", asks(700, member))
    assert member.raft.deadline_ns() - member.now_ns >= 2100 * MS
    member.state.links.multiplier = 100.0
    member.hears("b", asks(700, member))
    assert member.raft.deadline_ns() - member.now_ns < (CEILING_MS + 700) * MS


def test_a_member_answers_no_heartbeat_that_asks_for_more_than_it_could_keep_after_a_restart() -> (
    None
):
    member = follower()
    member.hears("b", asks(CEILING_MS + 1, member))
    assert not member.heard(HeartbeatReply)
    member.hears("b", asks(CEILING_MS, member))
    assert member.heard(HeartbeatReply)


def test_a_member_stores_what_a_leader_with_a_higher_ceiling_sends_but_vouches_for_no_promise() -> (
    None
):
    """Its log is as good as any, so the group goes on; but nobody may count on its promise."""
    member = follower()
    ask = append(1, (1, 1), [1], sent_ns=member.now_ns)
    member.hears("b", ask._replace(promise_ns=(CEILING_MS + 1) * MS))
    assert member.heard(AppendReply) == [accepted(ask)._replace(sent_ns=0)]
    member.hears("b", ask._replace(promise_ns=CEILING_MS * MS))
    assert member.heard(AppendReply) == [accepted(ask)]


def test_an_answer_without_a_time_moves_the_log_and_no_lease() -> None:
    member = leader()
    before_ns = lease_until_ns(member.state)
    member.waits(50, tick=False)
    member.proposes(b"x")
    for ask in member.heard(Append, "b"):
        member.hears("b", accepted(ask)._replace(sent_ns=0))
    assert member.state.commit == member.last.index
    assert lease_until_ns(member.state) == before_ns


def test_a_suspicion_that_was_refuted_makes_a_member_more_patient() -> None:
    member = follower()
    member.hears("b", asks(700, member))
    member.times_out()
    waited_ms = (member.now_ns - member.state.leader_heard_ns) // MS
    member.hears("b", asks(700, member))
    assert member.raft.deadline_ns() - member.now_ns >= 2 * waited_ms * MS


def test_a_member_that_fails_to_win_waits_longer_each_time_up_to_the_ceiling() -> None:
    member = follower()
    member.hears("b", asks(500, member))
    waits_ms = []
    for _ in range(7):
        member.times_out()
        waits_ms.append((member.raft.deadline_ns() - member.now_ns) // MS)
    assert waits_ms[0] < 1000
    assert min(waits_ms[-2:]) >= CEILING_MS


# --- the group ----------------------------------------------------------------------------------


def test_a_group_with_windows_that_move_replaces_a_dead_leader_sooner() -> None:
    took_ms = {}
    for name, settings in (("moving", MOVING), ("static", replace(MOVING, election_floor_ns=0))):
        cluster = Cluster("abc", settings=settings)
        cluster.elect("a")
        cluster.advance(12_000)
        cluster.crash("a")
        died_ns = cluster.now_ns
        while not set(cluster.leaders()) - {"a"}:
            cluster.advance(50)
        took_ms[name] = (cluster.now_ns - died_ns) / MS
    assert took_ms["moving"] < 1500
    assert took_ms["static"] >= CEILING_MS - 1000


@pytest.mark.parametrize("odd", ["static", "lower", "higher"])
def test_a_group_of_mixed_settings_elects_and_serves(odd: str) -> None:
    """A rolling upgrade or change of settings (etcd #8501): one member is configured otherwise."""
    other = {
        "static": replace(MOVING, election_floor_ns=0, heartbeat_floor_ns=0),
        "lower": replace(MOVING, election_timeout_ns=2000 * MS),
        "higher": replace(MOVING, election_timeout_ns=9000 * MS),
    }[odd]
    for lead in "abc":
        cluster = Cluster("abc", settings=MOVING, settings_of={"c": other})
        cluster.elect(lead)
        cluster.advance(40_000)
        leader_now = cluster.leader()
        cluster.propose(leader_now, b"x")
        cluster.advance(2_000)
        assert all(cluster.commands(name) == [b"x"] for name in "abc")
        cluster.crash(leader_now)
        cluster.advance(40_000)
        cluster.propose(cluster.leader(), b"y")
        cluster.advance(2_000)
        assert cluster.commands(cluster.leader()) == [b"x", b"y"]


def test_a_vote_is_not_given_while_a_shorter_promise_lasts() -> None:
    cluster = Cluster("abc", settings=MOVING)
    cluster.elect("a")
    cluster.advance(12_000)
    state = cluster["b"].state
    assert state.patience.window_ns == FLOOR_MS * MS
    until_ns = state.patience.promise_until_ns
    assert 0 < until_ns - cluster.now_ns <= FLOOR_MS * MS
    member_last = state.log.last
    for at_ns, granted in ((until_ns - 1, False), (until_ns, True)):
        state.outbox.clear()
        cluster["b"].step("c", Vote(state.term + 1, *member_last, False), at_ns)
        ready = cluster["b"].ready()
        if ready.write is not None:
            cluster["b"].written(ready.write.seq, at_ns)
            ready = cluster["b"].ready()
        assert any(isinstance(m, VoteReply) and m.granted for _, m in ready.messages) is granted
