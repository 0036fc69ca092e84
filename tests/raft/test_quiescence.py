"""Groups that sleep: when they may, what wakes them, and that no lease outlives its promise.

The nodes below the members are played by ``Sleepers``: they hear of each other over the same links
that lose the members' letters, and know nothing else. ``python -m tests.raft.test_quiescence SEED``
walks one seed again.
"""

from __future__ import annotations

import sys

import pytest

from mcpcore.errors import InvalidInput, LeaseUnavailable
from mcpcore.raft.messages import (
    Append,
    Awake,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    ReadIndex,
    Rest,
    Vote,
)
from mcpcore.raft.outcome import NEVER, Role
from mcpcore.raft.quorum import quorum_value
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import Block, Entry, EntryKind
from tests.raft.cluster import MS, SETTINGS, Cluster
from tests.raft.member import Member, answered
from tests.raft.test_seeded_schedules import Walk

TIMEOUT_MS = SETTINGS.election_timeout_ns // MS


class Sleepers(Cluster):
    """A cluster whose members' nodes hear of each other, so that the members may sleep."""

    def __init__(self, names: str, **options: object) -> None:
        self.heard: dict[tuple[str, str], int] = {}
        self.answered: dict[tuple[str, str], int] = {}
        self.doubted: dict[str, int] = {}
        self.rests = 0
        self.sleepy = True
        super().__init__(names, **options)  # type: ignore[arg-type]

    def tick(self) -> None:
        self._nodes_beat()
        for name, member in self.members.items():
            if self.running(name):
                self._look(name)
                if self.sleepy and member.raft.is_leader and self._hears_everybody(name):
                    before = member.raft.quiet
                    self.rests += member.raft.rest(self.clock_ns(name)) and not before
                self.drain(name)
        super().tick()

    def _nodes_beat(self) -> None:
        for a in self.members:
            for b in self.members:
                if self.running(a) and self.running(b) and (a, b) not in self.cut:
                    self.heard[b, a] = self.clock_ns(b)
                    if (b, a) not in self.cut:
                        self.answered[a, b] = self.clock_ns(a)

    def _hears_everybody(self, name: str) -> bool:
        return all(self.running(p) and self._age(self.answered, name, p) == 0 for p in self.members)

    def _age(self, since: dict[tuple[str, str], int], name: str, peer: str) -> int:
        return self.clock_ns(name) - since.get((name, peer), 0)

    def _look(self, name: str) -> None:
        raft, now_ns = self[name], self.clock_ns(name)
        if not raft.quiet:
            self.doubted.pop(name, None)
            return
        timeout = self.settings.election_timeout_ns
        if raft.is_leader:
            peers = [peer for peer in self.members if peer != name]
            if any(self._age(self.answered, name, peer) >= timeout for peer in peers):
                raft.wake(
                    now_ns,
                    quorum_value(
                        self.configuration,
                        lambda p: now_ns if p == name else self.answered.get((name, p), 0),
                    ),
                )
            return
        leader = raft.leader
        if self._age(self.heard, name, leader) >= timeout:
            raft.wake(now_ns, self.heard.get((name, leader), 0))
            return
        theirs = self[leader] if leader in self.members else None
        same = theirs and theirs.quiet and theirs.is_leader and theirs.state.term == raft.state.term
        if same or not self.running(leader):
            self.doubted.pop(name, None)
        elif now_ns - self.doubted.setdefault(name, now_ns) >= timeout:
            raft.wake(now_ns, now_ns)  # the beats' checksum disagrees

    def asleep(self) -> list[str]:
        return [name for name in self.members if self[name].quiet]


def sleeping(names: str = "abc", **options: object) -> Sleepers:
    """A group that ``a`` leads and that has fallen asleep."""
    cluster = Sleepers(names, **options)
    cluster.sleepy = False
    cluster.elect("a")
    cluster.propose("a", b"x")
    cluster.advance(400)
    cluster.sleepy = True
    cluster.advance(200)
    assert cluster.asleep() == list(names)
    return cluster


# --- falling asleep ------------------------------------------------------------------------------


def test_a_group_with_nothing_to_do_sleeps_at_one_term_and_index_and_says_nothing_more() -> None:
    cluster = sleeping()
    assert len({cluster[name].state.log.last for name in "abc"}) == 1
    story = len(cluster.story)
    for _ in range(60):
        cluster.advance(60_000, step_ms=500)
        assert not cluster.mail
    assert cluster.asleep() == ["a", "b", "c"]
    assert all(cluster[name].deadline_ns() == NEVER for name in "abc")
    assert len(cluster.story) == story, "nobody stood for election in an hour of idleness"


def settled() -> Member:
    """A leader to whom everybody has confirmed everything."""
    leader = Member().leads().all_accept()
    for peer in leader.peers:
        for ask in leader.heard(Heartbeat, peer):
            leader.hears(peer, answered(ask))
    leader.waits(200)
    return leader


def test_a_leader_whose_members_hold_everything_may_rest() -> None:
    leader = settled()
    assert leader.raft.rest(leader.now_ns)
    last = leader.last.index
    assert leader.drain() == [("b", Rest(1, 1, last)), ("c", Rest(1, 2, last))]


@pytest.mark.parametrize(
    "restless",
    [
        lambda m: m.proposes(b"x"),
        lambda m: m.raft.read(m.now_ns),
        lambda m: m.raft.transfer_leadership("b", m.now_ns),
        lambda m: m.raft.peer_connected("b", m.now_ns),
        lambda m: [m.raft.peer_connected("b", m.now_ns, incarnation=disk * 16) for disk in "12"],
        lambda m: m.raft.disk(m.now_ns, stalled=True, full=False),
        lambda m: m.raft.disk(m.now_ns, stalled=False, full=True),
    ],
    ids=["proposal", "read", "transfer", "reconnected", "wiped", "stalled", "full"],
)
def test_a_leader_with_anything_pending_does_not_rest(restless) -> None:
    leader = settled()
    restless(leader)
    assert not leader.raft.rest(leader.now_ns)
    assert not leader.raft.quiet


def test_a_leader_whose_disk_is_not_done_does_not_rest() -> None:
    leader = settled()
    leader.sync = False
    leader.proposes(b"x")
    leader.all_accept()
    assert leader.state.commit == leader.last.index, "the others are a quorum"
    assert not leader.raft.rest(leader.now_ns)


def test_a_leader_whose_member_lags_does_not_rest() -> None:
    leader = settled()
    leader.proposes(b"x")
    leader.all_accept("b")
    leader.waits(200)
    assert not leader.raft.rest(leader.now_ns)


def test_only_a_leader_puts_a_group_to_sleep() -> None:
    follower = Member(terms=[1])
    assert not follower.raft.rest(follower.now_ns)


def follower(*, sync: bool = True, commit: int = 1) -> Member:
    """A follower of ``b`` in term 1 that holds one entry."""
    member = Member(sync=sync)
    member.hears("b", Append(1, 7, 0, 0, _block(), commit, 5, SETTINGS.election_timeout_ns))
    return member


def _block() -> Block:
    return Block((Entry(1, 1, EntryKind.COMMAND, b"x"),))


def test_a_follower_that_agrees_sleeps_and_waits_for_nothing() -> None:
    member = follower()
    assert member.hears("b", Rest(1, 7, 1)) == []
    assert member.raft.quiet
    assert member.raft.deadline_ns() == NEVER


@pytest.mark.parametrize("lacking", [{"commit": 0}, {"sync": False}], ids=["commit", "disk"])
def test_a_follower_that_is_not_done_wakes_the_leader_instead(lacking) -> None:
    member = follower(**lacking)
    said = member.hears("b", Rest(1, 7, 1)) + member.writes_finish()
    assert ("b", Awake(1)) in said
    assert not member.raft.quiet


def test_a_follower_with_a_longer_log_does_not_sleep() -> None:
    member = follower()
    assert member.hears("b", Rest(1, 7, 0)) == [("b", Awake(1))]
    assert not member.raft.quiet


def test_a_leader_of_an_older_term_that_rests_is_woken_by_a_newer_term() -> None:
    """Otherwise it would sleep on for ever, believing in its office."""
    member = Member(terms=[1], term=3)
    assert member.hears("b", Rest(1, 7, 1)) == [("b", Awake(3))]
    leader = settled()
    assert leader.raft.rest(leader.now_ns)
    leader.hears("b", Awake(3))
    assert leader.state.role is Role.FOLLOWER
    assert leader.state.term == 3
    assert not leader.raft.quiet


# --- waking --------------------------------------------------------------------------------------


def test_late_answers_do_not_wake_a_leader() -> None:
    leader = settled()
    sent = leader.waits(200)
    assert leader.raft.rest(leader.now_ns)
    for to, message in sent:
        if isinstance(message, Heartbeat):
            leader.hears(to, answered(message))
    leader.hears("b", HeartbeatReply(1, 1, 0, leader.now_ns))
    assert leader.raft.quiet


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat(1, 7, 1, 0, 9, 10),
        PreVote(2, 1, 1),
        Vote(2, 1, 1, False),
        ReadIndex(1, 5),
        Awake(1),
        PreVoteReply(2, 2, False),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_that_concerns_the_group_wakes_it(message) -> None:
    member = follower()
    member.hears("b", Rest(1, 7, 1))
    assert member.raft.quiet
    member.hears("b" if isinstance(message, Heartbeat) else "c", message)
    assert not member.raft.quiet
    assert member.raft.deadline_ns() != NEVER


def test_a_proposal_to_the_leader_wakes_everybody_and_is_committed() -> None:
    cluster = sleeping()
    entry = cluster.propose("a", b"good morning")
    cluster.settle()
    cluster.advance(50)
    assert all(cluster.members[name].applied[-1] == entry for name in "abc")


@pytest.mark.parametrize("name", ["a", "b"], ids=["leader", "follower"])
def test_a_read_anywhere_wakes_the_group_and_is_answered(name: str) -> None:
    cluster = sleeping()
    number = cluster.read(name)
    cluster.settle()
    cluster.advance(300)
    assert any(a.read == number and a.read_index for a in cluster.members[name].answers)
    cluster.advance(1_000)
    assert cluster.asleep() == ["a", "b", "c"], "and sleeps again"


def test_a_follower_woken_by_a_stranger_refuses_it_and_wakes_its_leader() -> None:
    """A member that comes back from a cut must not depose a leader that sleeps."""
    cluster = sleeping()
    cluster.partition("ab", "c")
    cluster.sleepy = False
    cluster["c"].wake(cluster.now_ns, cluster.now_ns)
    cluster.drain("c")
    cluster.advance(4 * TIMEOUT_MS)
    term = cluster["a"].state.term
    assert cluster["c"].state.role is Role.PRE_CANDIDATE
    cluster.sleepy = True
    cluster.advance(300)
    cluster.heal()
    cluster.settle()
    cluster.advance(3_000)
    assert cluster.leader() == "a"
    assert cluster["a"].state.term == term


def test_a_follower_keeps_its_promise_from_when_its_node_last_heard_the_leaders_node() -> None:
    member = follower()
    member.hears("b", Rest(1, 7, 1))
    member.now_ns += 500 * SETTINGS.election_timeout_ns
    heard_ns = member.now_ns - 400 * MS
    member.raft.wake(member.now_ns, heard_ns)
    member.drain()
    assert member.state.patience.promise_until_ns == heard_ns + SETTINGS.election_timeout_ns
    refused = member.hears("c", PreVote(2, 9, 9))
    assert ("c", PreVoteReply(1, 2, False)) in refused
    member.waits(600, tick=False)
    assert member.hears("c", PreVote(2, 9, 9)) == [("c", PreVoteReply(1, 2, True))]


def test_waking_never_cuts_a_promise_short() -> None:
    member = follower()
    member.hears("b", Heartbeat(1, 7, 1, 0, 9, 5000 * MS))
    promised = member.state.patience.promise_until_ns
    member.hears("b", Rest(1, 7, 1))
    member.raft.wake(member.now_ns, member.now_ns - SETTINGS.election_timeout_ns)
    assert member.state.patience.promise_until_ns == promised
    assert member.state.election_deadline_ns >= promised


def test_a_thousand_groups_that_wake_do_not_stand_up_at_once() -> None:
    deadlines = []
    for seed in range(1000):
        member = Member(seed=seed)
        member.hears("b", Append(1, 7, 0, 0, _block(), 1, 5, SETTINGS.election_timeout_ns))
        member.hears("b", Rest(1, 7, 1))
        member.now_ns += 100 * SETTINGS.election_timeout_ns
        member.raft.wake(member.now_ns, member.now_ns - SETTINGS.election_timeout_ns)
        deadlines.append((member.raft.deadline_ns() - member.now_ns) / SETTINGS.election_timeout_ns)
    assert min(deadlines) >= 0
    assert max(deadlines) < 1, "a leader that fell silent was silent long enough already"
    tenths = [sum(tenth <= 10 * d < tenth + 1 for d in deadlines) for tenth in range(10)]
    assert min(tenths) > 50, tenths


@pytest.mark.parametrize("fault", ["crash", "cut", "pause"])
def test_a_leader_that_ends_while_its_group_sleeps_is_replaced(fault: str) -> None:
    cluster = sleeping()
    if fault == "crash":
        cluster.crash("a")
    elif fault == "pause":
        cluster.pause("a")
    else:
        cluster.partition("a", "bc")
    cluster.advance(4 * TIMEOUT_MS)
    assert cluster.leader() in "bc"


def test_a_sleeping_leader_that_is_cut_off_steps_down_as_fast_as_one_that_is_awake() -> None:
    """Nothing hides a split from whoever watches roles (thesis section 6.2)."""

    def down_after_ms(asleep: bool) -> int:
        cluster = sleeping()
        cluster.sleepy = asleep
        if not asleep:
            cluster["a"].wake(cluster.now_ns, cluster.now_ns)
            cluster.drain("a")
            cluster.advance(400)
        assert cluster["a"].quiet is asleep
        cluster.partition("a", "bc")
        waited = 0
        while cluster["a"].is_leader:
            cluster.advance(50)
            waited += 50
            assert waited < 10 * TIMEOUT_MS
        return waited

    assert down_after_ms(True) <= down_after_ms(False) + 200


def test_a_leader_that_lost_its_office_unheard_does_not_leave_its_followers_asleep() -> None:
    cluster = sleeping()
    leader = cluster["a"].state
    cluster.cut |= {("a", "b"), ("a", "c")}  # its last words are lost...
    cluster["a"].disk(cluster.now_ns, stalled=True, full=False)
    cluster["a"].wake(cluster.now_ns, cluster.now_ns)
    cluster.advance(100)
    assert leader.role is Role.FOLLOWER
    cluster.cut.clear()  # ...but its node lives
    cluster.advance(5 * TIMEOUT_MS)
    assert cluster.leader() in "bc"


# --- leases --------------------------------------------------------------------------------------


def test_a_sleeping_leader_has_no_lease_until_a_quorum_has_answered_after_waking() -> None:
    cluster = sleeping()
    cluster.advance(2 * TIMEOUT_MS)
    with pytest.raises(LeaseUnavailable):
        cluster.lease_read("a")
    cluster["a"].wake(cluster.now_ns, cluster.now_ns)
    with pytest.raises(LeaseUnavailable):
        cluster.lease_read("a")
    cluster.sleepy = False
    cluster.advance(50)
    assert cluster.lease_read("a")


class SleepyWalk(Walk):
    """A seeded walk in which groups sleep whenever they can."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        plain = self.cluster
        self.cluster = Sleepers(
            "".join(plain.members), seed=seed, sync=False, settings=plain.settings
        )
        self.cluster.rates_ppm = plain.rates_ppm
        self.busy = True

    def step(self) -> None:
        if self.rng.random() < 0.05:
            self.busy = not self.busy
        super().step()

    def use(self, leader: str) -> None:
        if self.busy:
            super().use(leader)


def walk(seed: int, steps: int = 400) -> SleepyWalk:
    run = SleepyWalk(seed)
    try:
        for _ in range(steps):
            run.step()
        run.end()
    except BaseException as error:
        error.add_note(f"again: python -m tests.raft.test_quiescence {seed}")
        raise
    return run


@pytest.mark.parametrize("first", range(0, 8, 4))
def test_figure_3_liveness_and_leases_hold_on_walks_of_groups_that_sleep(first: int) -> None:
    rests = leases = commits = 0
    for seed in range(first, first + 4):
        run = walk(seed)
        rests += run.cluster.rests
        leases += run.leases
        commits += len(run.cluster.figure_three.committed)
    assert rests > 10, "groups that never sleep prove nothing"
    assert leases > 30
    assert commits > 60


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_figure_3_and_leases_hold_on_two_thousand_more_sleepy_walks(first: int) -> None:
    for seed in range(first, first + 100):
        walk(seed)


def test_settings_refuse_a_negative_time_before_sleep() -> None:
    with pytest.raises(InvalidInput, match="quiet_after_ns"):
        RaftSettings(quiet_after_ns=-1)


if __name__ == "__main__":
    walk(int(sys.argv[1]))
