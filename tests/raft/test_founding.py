"""How a member begins: with nothing, founded, or offered an office it may not take yet."""

from __future__ import annotations

import random

import pytest

from mcpcore.raft.catch_up import CatchUp
from mcpcore.raft.core import Raft
from mcpcore.raft.messages import Append, TimeoutNow, Vote, VoteReply
from mcpcore.raft.outcome import Role
from mcpcore.raft.settings import SECOND, RaftSettings
from mcpcore.raft.types import Block, Configuration, Entry, EntryKind, HardState

SETTINGS = RaftSettings(election_timeout_ns=SECOND, heartbeat_ns=SECOND // 10)
NOBODY = Configuration(frozenset())
ABC = Configuration.of("abc")


def fresh(configuration: Configuration = NOBODY) -> Raft:
    return Raft("a", SETTINGS, random.Random(1), configuration=configuration)


def carry_out(raft: Raft, now_ns: int) -> list[tuple[str, object]]:
    """Send, store and apply until there is nothing left to do."""
    sent: list[tuple[str, object]] = []
    while True:
        ready = raft.ready()
        sent += ready.messages
        if ready.write is not None:
            raft.written(ready.write.seq, now_ns)
        elif not ready.messages and not raft.has_more:
            return sent


def test_a_member_that_knows_nobody_never_stands_for_election() -> None:
    raft = fresh()
    for second in range(1, 100):
        raft.tick(second * SECOND)
        assert carry_out(raft, second * SECOND) == []
    assert (raft.state.role, raft.state.term) == (Role.FOLLOWER, 0)


def test_a_founded_member_stands_like_a_newborn_one() -> None:
    raft = fresh()
    raft.found(ABC, HardState(), 7 * SECOND)
    assert raft.state.configuration == ABC
    assert raft.deadline_ns() <= 8 * SECOND, "it has promised nothing to anybody"
    raft.tick(8 * SECOND)
    assert raft.state.role is Role.PRE_CANDIDATE
    raft.check()


def test_founded_alone_it_leads_at_once() -> None:
    raft = fresh()
    raft.found(Configuration.of("a"), HardState(), SECOND)
    raft.tick(SECOND)
    carry_out(raft, SECOND)
    assert raft.is_leader


def test_a_name_that_is_used_again_keeps_its_promises() -> None:
    """A retired group's term and vote stay on the disk."""
    raft = fresh()
    raft.found(ABC, HardState(4, "b"), SECOND)
    raft.step("c", Vote(4, 0, 0, False), SECOND)
    sent = carry_out(raft, SECOND)
    assert [message for _, message in sent] == [VoteReply(4, False)]
    assert raft.deadline_ns() >= 2 * SECOND


def test_a_group_is_founded_once() -> None:
    with pytest.raises(AssertionError, match="founded once"):
        fresh(ABC).found(ABC, HardState(), 0)


def test_an_office_offered_with_the_commit_of_a_configuration_is_taken_once_that_is_applied() -> (
    None
):
    """A removed leader offers its office in the moment in which it announces the commit."""
    raft = fresh(ABC)
    without_c = Configuration.of("ab")
    entry = Entry(1, 1, EntryKind.CONFIG, without_c.encode())
    raft.step("c", Append(1, 1, 0, 0, Block((entry,)), 1, 1, SECOND), 1)
    raft.step("c", TimeoutNow(1), 1)
    assert raft.state.role is Role.FOLLOWER, "committed and not yet handed out"
    assert raft.has_more
    sent = carry_out(raft, 1)
    assert raft.state.role is Role.CANDIDATE
    votes = [(to, message) for to, message in sent if isinstance(message, Vote)]
    assert votes == [("b", Vote(2, 1, 1, True))]


def test_an_offer_is_forgotten_when_a_newer_term_comes_first() -> None:
    raft = fresh(ABC)
    entry = Entry(1, 1, EntryKind.CONFIG, Configuration.of("ab").encode())
    raft.step("c", Append(1, 1, 0, 0, Block((entry,)), 1, 1, SECOND), 1)
    raft.step("c", TimeoutNow(1), 1)
    raft.step("b", Append(2, 1, 1, 1, Block(()), 1, 1, SECOND), 1)
    carry_out(raft, 1)
    assert (raft.state.role, raft.state.leader) == (Role.FOLLOWER, "b")


def test_a_learner_that_lacks_nothing_has_caught_up_though_its_one_round_was_slow() -> None:
    """In a group at rest there is no second round in which to be faster."""
    rounds = CatchUp(target=5, started_ns=0)
    rounds.observe(match=5, last_index=5, now_ns=3 * SECOND)
    assert rounds.done(SECOND, 3 * SECOND)
    rounds.observe(match=5, last_index=9, now_ns=4 * SECOND)
    assert not rounds.done(SECOND, 4 * SECOND), "now it lacks something, and was slow before"
