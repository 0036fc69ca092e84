"""A reunion that an operator must agree to waits, and the group does not."""

from __future__ import annotations

import sys

import pytest

from mcpcore.errors import InvalidInput, ProtocolViolation
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    HeartbeatReply,
    ReunionHeld,
    ReunionNeeded,
    SnapshotOffer,
    SnapshotReply,
    SnapshotStatus,
    Vote,
    VoteReply,
)
from mcpcore.raft.replication import HELD_UP_TIMEOUTS
from mcpcore.raft.reunion import Answer, Intervene, ReunionSettings
from mcpcore.raft.reunion_guard import ReunionAgreed, ReunionDone, ReunionHeldUp
from mcpcore.raft.snapshot_events import SnapshotOffered
from mcpcore.raft.split import SplitState
from mcpcore.raft.types import Entry
from tests.raft.cluster import Cluster
from tests.raft.member import SETTINGS, TIMEOUT_MS, Member, append, beat
from tests.raft.test_seeded_schedules import DRIFTING, Walk, walk

TEN = ReunionSettings(commit_index_gap=5)
"""From a gap of ten entries on an operator decides."""


def split_member(suffix: int = 12, settings: ReunionSettings = TEN) -> Member:
    """Committed up to 3, and a suffix of its own; its verdict was split."""
    member = Member(terms=[1, 1, 1] + [2] * suffix, term=2, reunion=settings)
    member.raft.reunions.judged(SplitState.SPLIT)
    return member


def offers(term: int = 4, more: int = 2) -> Append:
    """The new leader's log parts after index 3."""
    return append(term, (1, 3), [term] * more, commit=3 + more)


# --- the member ---------------------------------------------------------------------------------


def test_a_large_gap_after_a_split_waits_and_our_log_stays_as_it_is() -> None:
    member = split_member()
    before = member.terms

    member.hears("b", offers())

    [told] = member.heard(ReunionHeld, "b")
    assert (told.over, told.commit, told.last_term, told.last_index) == (False, 0, 2, 15)
    assert not member.heard(AppendReply)
    assert member.terms == before
    assert member.state.commit == 0
    [event] = member.raft.reunions.take_events()
    assert isinstance(event, ReunionHeldUp)
    assert event.plan.gap.to_lose == 12
    assert event.plan.gap.commit == 3, "what both hold and the leader committed"


@pytest.mark.parametrize(
    ("suffix", "settings", "judged", "waits"),
    [
        (12, TEN, SplitState.SPLIT, True),
        (12, TEN, SplitState.READ_ONLY, False),
        (10, TEN, SplitState.SPLIT, True),
        (9, TEN, SplitState.SPLIT, False),
        (0, TEN, SplitState.SPLIT, False),
        (12, ReunionSettings(5, intervene=Intervene.NEVER), SplitState.SPLIT, False),
        (12, ReunionSettings(5, intervene=Intervene.WHEN_DIVERGED), SplitState.HEALTHY, True),
        (0, ReunionSettings(5, intervene=Intervene.WHEN_DIVERGED), SplitState.SPLIT, False),
        (0, ReunionSettings(5, intervene=Intervene.AFTER_SPLIT), SplitState.SPLIT, True),
        (0, ReunionSettings(5, intervene=Intervene.ALWAYS), SplitState.HEALTHY, True),
    ],
)
def test_who_waits_is_a_setting(suffix, settings, judged, waits) -> None:
    """By default: whoever was split, and would lose ten entries of its own or more."""
    member = Member(terms=[1, 1, 1] + [2] * suffix, term=2, reunion=settings)
    member.raft.reunions.judged(judged)
    more = 2 if suffix else 12
    member.hears("b", offers(more=more))
    assert bool(member.heard(ReunionHeld)) == waits
    assert (member.last.term == 4) != waits


def test_a_split_that_healed_by_itself_is_forgotten() -> None:
    member = split_member()
    member.raft.reunions.judged(SplitState.HEALTHY)
    member.hears("b", offers())
    assert member.last == (4, 5)


def test_a_member_that_is_held_up_votes_and_keeps_its_leader_in_office() -> None:
    """Liveness: only entries wait."""
    member = split_member()
    member.hears("b", offers())

    member.hears("b", beat(4, sent_ns=7))
    assert [reply.sent_ns for reply in member.heard(HeartbeatReply)] == [7]

    member.waits(TIMEOUT_MS, tick=False)
    member.hears("c", Vote(5, 4, 99, False))
    assert [reply.granted for reply in member.heard(VoteReply)] == [True]


def test_it_says_so_again_to_whoever_probes_again() -> None:
    member = split_member()
    member.hears("b", offers())
    member.hears("b", offers())
    member.hears("c", offers(term=5))
    assert member.heard(ReunionHeld, "c")
    assert len(member.raft.reunions.take_events()) == 1, "one reunion, one piece of news"


def test_an_answer_lets_it_go_ahead_and_what_it_loses_is_handed_over() -> None:
    member = split_member()
    member.hears("b", offers())
    plan = member.raft.reunions.held
    member.sync = False

    member.raft.reunions.agree(Answer(plan.gap.episode, "eva"))
    member.drain()
    assert [told.over for told in member.heard(ReunionHeld, "b")] == [True]
    member.hears("b", offers())

    assert member.last == (4, 5)
    assert sum(len(write.dropped) for write in member.pending) == 12
    _, agreed, done = member.raft.reunions.take_events()
    assert isinstance(agreed, ReunionAgreed)
    assert isinstance(done, ReunionDone)
    assert member.raft.reunions.held is None


def test_an_answer_to_another_plan_is_refused_and_changes_nothing() -> None:
    member = split_member()
    with pytest.raises(InvalidInput, match="no reunion is held up"):
        member.raft.reunions.agree(Answer("main/a/3.2.15", "eva"))
    member.hears("b", offers())
    with pytest.raises(InvalidInput, match="the answer is for"):
        member.raft.reunions.agree(Answer("main/a/3.2.99", "eva"))
    member.hears("b", offers())
    assert member.heard(ReunionHeld)


def test_an_answer_is_good_for_this_reunion_only() -> None:
    member = split_member()
    member.hears("b", offers())
    member.raft.reunions.agree(Answer(member.raft.reunions.held.gap.episode, "eva"))
    member.hears("b", offers())
    member.raft.reunions.take_events()

    member.hears("b", append(4, (4, 5), [4] * 12, commit=5))
    member.raft.reunions.judged(SplitState.SPLIT)
    member.hears("c", append(6, (4, 5), [6], commit=6))

    assert member.heard(ReunionHeld, "c"), "the next one is asked about anew"


def test_an_answer_lasts_while_the_leader_goes_on_writing() -> None:
    """Asked even where nothing is lost: every later block is part of the same reunion."""
    member = split_member(0, ReunionSettings(5, intervene=Intervene.AFTER_SPLIT))
    first = append(4, (1, 3), [4] * 6, commit=23)
    member.hears("b", first)
    member.raft.reunions.agree(Answer(member.raft.reunions.held.gap.episode, "eva"))
    member.hears("b", first)
    member.hears("b", append(4, (4, 9), [4] * 6, commit=30))
    assert member.last == (4, 15)
    assert not member.heard(ReunionHeld)
    member.hears("b", append(4, (4, 15), [4] * 15, commit=31))
    assert member.last == (4, 30)


def test_an_answer_of_an_earlier_life_still_counts() -> None:
    member = split_member()
    member.hears("b", offers())
    answer = Answer(member.raft.reunions.held.gap.episode, "eva")
    again = Member(terms=member.terms, term=4, reunion=TEN)
    again.raft.reunions.recall(split=True, agreed=answer)
    again.hears("b", offers())
    assert again.last == (4, 5)


def test_a_member_that_the_group_needs_gives_way() -> None:
    member = split_member()
    member.hears("b", offers())

    member.hears("b", ReunionNeeded(4, 1))
    assert [told.over for told in member.heard(ReunionHeld)] == [True]
    member.hears("b", offers())

    assert member.last == (4, 5)
    events = member.raft.reunions.take_events()
    assert "the group could not commit" in events[1].answer.by


def test_an_answer_given_while_no_leader_is_known_reaches_the_leader_that_needs_us() -> None:
    """It believes that we are held up, and would send nothing for ever."""
    member = split_member()
    member.hears("b", offers())
    plan = member.raft.reunions.held
    member.times_out()
    assert member.state.leader == ""
    member.raft.reunions.agree(Answer(plan.gap.episode, "eva"))
    assert not member.drain(), "there is nobody to tell"

    member.hears("b", beat(4, sent_ns=7))
    member.hears("b", ReunionNeeded(4, 1))

    assert [told.over for told in member.heard(ReunionHeld, "b")] == [True]


def test_a_member_that_is_elected_while_it_is_held_up_waits_for_nobody() -> None:
    """What its leader had committed nowhere is gone with it; reads must not wait for a person."""
    member = split_member()
    member.hears("b", offers())
    member.waits(TIMEOUT_MS, tick=False)

    member.leads()

    assert member.raft.reunions.held is None
    assert member.raft.state.reunion.words() == ""


@pytest.mark.parametrize("asked", ["entries", "a snapshot"])
def test_who_refuses_vouches_for_no_promise_that_a_restart_would_forget(asked: str) -> None:
    """A lease of the leader would count on it (``windows``, step 3 of the argument)."""
    member = split_member()
    longer_ns = 2 * SETTINGS.election_timeout_ns
    if asked == "entries":
        member.hears("b", offers()._replace(promise_ns=longer_ns))
    else:
        member.hears("b", SnapshotOffer(4, 1, 1, 4, 40, b"head", 9, longer_ns))
        assert [reply.sent_ns for reply in member.heard(SnapshotReply)] == [0]
    assert [told.sent_ns for told in member.heard(ReunionHeld)] == [0]


def test_only_the_leader_says_that_a_member_is_needed() -> None:
    member = split_member()
    member.hears("b", offers())
    with pytest.raises(ProtocolViolation):
        member.hears("c", ReunionNeeded(4, 1))
    assert member.raft.reunions.held is not None


def test_a_snapshot_that_would_replace_a_suffix_of_ours_waits_too() -> None:
    member = split_member()
    offer = SnapshotOffer(4, 1, 1, 4, 40, b"head", 9, SETTINGS.election_timeout_ns)

    member.hears("b", offer)

    assert member.heard(ReunionHeld)
    [reply] = member.heard(SnapshotReply)
    assert reply.status == SnapshotStatus.REFUSED
    assert not member.snapshots

    member.raft.reunions.agree(Answer(member.raft.reunions.held.gap.episode, "eva"))
    member.hears("b", offer)
    assert any(isinstance(event, SnapshotOffered) for event in member.snapshots)


def test_an_append_that_would_replace_what_is_committed_is_a_violation_as_ever() -> None:
    member = split_member()
    member.hears("b", append(4, (2, 15), [], commit=15))
    assert member.state.commit == 15
    with pytest.raises(ProtocolViolation, match="committed up to 15"):
        member.hears("b", append(4, (1, 3), [4]))


# --- the leader ---------------------------------------------------------------------------------


def leader_with_held_c() -> Member:
    leader = Member().leads()
    leader.all_accept("b")
    session = leader.state.progress["c"].session
    leader.hears("c", held(leader, session))
    return leader


def held(leader: Member, session: int, *, over: bool = False) -> ReunionHeld:
    return ReunionHeld(leader.state.term, session, over, 0, 0, 0, leader.now_ns)


def test_a_member_that_is_held_up_is_sent_nothing_until_it_says_so() -> None:
    leader = leader_with_held_c()
    leader.proposes(b"x")
    assert not leader.heard(Append, "c")
    leader.waits(3 * TIMEOUT_MS, tick=False)
    leader.hears("b", held(leader, 99))  # of another session: it counts for nothing
    assert leader.state.progress["c"].held_up

    leader.hears("c", held(leader, leader.state.progress["c"].session, over=True))
    assert leader.heard(Append, "c"), "it is probed, and then sent what it lacks"


def test_a_member_whose_word_was_lost_is_asked_again() -> None:
    leader = leader_with_held_c()
    asked = 0
    for _ in range(6 * HELD_UP_TIMEOUTS):
        leader.waits(TIMEOUT_MS / 4)
        probed = len(leader.heard(Append, "c"))
        for peer in "bc":
            session = leader.state.progress[peer].session
            leader.hears(peer, HeartbeatReply(leader.state.term, session, 0, leader.now_ns))
        if probed:
            asked += probed
            leader.hears("c", held(leader, leader.state.progress["c"].session))
    assert asked == 1, "in fifteen election timeouts"


def test_a_group_that_commits_leaves_the_member_in_peace() -> None:
    leader = leader_with_held_c()
    for _ in range(5):
        leader.proposes(b"x")
        leader.all_accept("b")
        leader.waits(TIMEOUT_MS / 2)
        leader.hears("b", HeartbeatReply(leader.state.term, 1, 0, leader.now_ns))
        assert not leader.heard(ReunionNeeded)


def test_a_group_that_cannot_commit_for_an_election_timeout_calls_the_member_in() -> None:
    leader = leader_with_held_c()
    leader.proposes(b"x")
    called = []
    for _ in range(8):
        leader.waits(TIMEOUT_MS / 4)
        called += leader.heard(ReunionNeeded, "c")
        session = leader.state.progress["c"].session
        leader.hears("c", HeartbeatReply(leader.state.term, session, 0, leader.now_ns))
    assert called
    assert leader.raft.is_leader, "the member's heartbeats keep it in office"


# --- whole groups -------------------------------------------------------------------------------


def group_with_old_leader() -> Cluster:
    """c led alone and wrote; the others elected one of theirs; contact is back."""
    cluster = Cluster("abc", reunion=TEN)
    cluster.elect("c")
    cluster.settle()
    cluster.partition("c", "ab")
    for number in range(15):
        cluster.propose("c", b"old %d" % number)
    cluster["c"].reunions.judged(SplitState.SPLIT)
    cluster.advance(3000)
    cluster.propose(cluster.leader(), b"new")
    cluster.settle()
    cluster.heal()
    cluster.advance(3000)
    return cluster


def test_the_majority_goes_on_while_the_old_leader_waits() -> None:
    cluster = group_with_old_leader()
    assert cluster["c"].reunions.held is not None
    cluster.propose(cluster.leader(), b"newer")
    cluster.advance(5000)
    assert cluster.commands("a")[-1] == cluster.commands("b")[-1] == b"newer"
    assert cluster["c"].reunions.held is not None, "however long it takes"
    assert b"new" not in cluster.commands("c")

    cluster["c"].reunions.agree(Answer(cluster["c"].reunions.held.gap.episode, "eva"))
    cluster.drain("c")
    cluster.advance(500)

    assert cluster.commands("c")[-1] == b"newer"
    kept = {entry.data for entry in cluster.members["c"].disk.quarantine}
    assert {b"old %d" % number for number in range(15)} <= kept


@pytest.mark.parametrize("lost", ["leader", "follower"])
def test_no_operator_is_needed_for_the_group_to_go_on(lost: str) -> None:
    """One of the two others dies: what remains needs the member that waits, and gets it."""
    cluster = group_with_old_leader()
    assert cluster["c"].reunions.held is not None
    old = cluster.leader()
    cluster.crash(old if lost == "leader" else "ab".replace(old, ""))
    cluster.advance(5000)
    leader = cluster.leader()
    cluster.propose(leader, b"still alive")
    cluster.advance(1500)
    assert cluster.commands(leader)[-1] == b"still alive"
    assert cluster["c"].reunions.held is None


ANY_LOSS = ReunionSettings(commit_index_gap=1, intervention_factor=1, intervene=Intervene.ALWAYS)


class OperatorsWalk(Walk):
    """Every reunion, however small, waits for an operator, who answers now and then."""

    def found(self, seed: int) -> Cluster:
        self.held = self.answered = 0
        size = self.rng.choice([3, 3, 5])
        return Cluster("abcde"[:size], seed=seed, sync=False, settings=DRIFTING, reunion=ANY_LOSS)

    def step(self) -> None:
        super().step()
        for name in self.waiting():
            self.held += 1
            if self.rng.random() < 0.02:
                self.answer(name)

    def waiting(self) -> list[str]:
        up = [name for name in self.cluster.members if self.cluster.running(name)]
        return [name for name in up if self.cluster[name].reunions.held is not None]

    def answer(self, name: str) -> None:
        plan = self.cluster[name].reunions.held
        assert plan is not None
        self.cluster[name].reunions.agree(Answer(plan.gap.episode, "eva"))
        self.cluster.drain(name)
        self.answered += 1

    def look_at(self, entry: Entry) -> None:
        """No operator answers, and the group has to commit all the same."""
        cluster = self.cluster
        cluster.advance(3000)
        leader = cluster[cluster.leader()].state
        assert leader.commit >= entry.index, f"it waits for an operator: {leader}"
        for _ in range(10):
            for name in self.waiting():
                self.answer(name)
            cluster.settle()
            cluster.advance(500)


@pytest.mark.parametrize("first", range(0, 12, 3))
def test_figure_3_and_liveness_hold_while_operators_take_their_time(first: int) -> None:
    held = answered = 0
    for seed in range(first, first + 3):
        run = walk(seed, kind=OperatorsWalk)
        held, answered = held + run.held, answered + run.answered
    assert held > 100, "walks in which nobody waits prove nothing"
    assert answered, "walks in which nobody answers prove nothing"


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_operators_take_their_time_on_a_thousand_more_walks(first: int) -> None:
    for seed in range(first, first + 100):
        walk(seed, kind=OperatorsWalk)


if __name__ == "__main__":
    walk(int(sys.argv[1]), kind=OperatorsWalk)
