"""Quorum arithmetic: what a set of answers decides.

This module exists so that "a majority of both configurations" (paper section 6) is written once,
as functions that a table can test, and so that no caller keeps a cached count that can go stale.
Everything is recomputed from the answers themselves. It must never learn about messages or roles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from mcpcore.raft.types import Configuration


class VoteResult(Enum):
    """What the answers so far decide."""

    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def majority(members: int) -> int:
    """The smallest number that any two subsets of that size must share a member."""
    return members // 2 + 1


def majority_value(voters: frozenset[str], value_of: Callable[[str], int]) -> int:
    """The largest value that a majority of ``voters`` has reached.

    With indexes as values this is the commit rule; with times, the age of a quorum's contact.
    An empty configuration decides nothing and therefore reaches 0.
    """
    if not voters:
        return 0
    values = sorted(map(value_of, voters))
    return values[len(values) - majority(len(values))]


def quorum_value(configuration: Configuration, value_of: Callable[[str], int]) -> int:
    """The largest value that a quorum has reached: a majority of each half during a joint change.

    Source: paper section 6, "separate majorities from both the old and new configurations".
    """
    value = majority_value(configuration.voters, value_of)
    if configuration.outgoing:
        value = min(value, majority_value(configuration.outgoing, value_of))
    return value


def majority_vote(voters: frozenset[str], votes: Mapping[str, bool]) -> VoteResult:
    """Whether one majority is won, can no longer be won, or is still open."""
    needed = majority(len(voters))
    granted = sum(votes.get(voter) is True for voter in voters)
    refused = sum(votes.get(voter) is False for voter in voters)
    if granted >= needed:
        return VoteResult.WON
    if len(voters) - refused < needed:
        return VoteResult.LOST
    return VoteResult.PENDING


def vote_result(configuration: Configuration, votes: Mapping[str, bool]) -> VoteResult:
    """What the votes decide; in a joint change both halves must be won, and either can lose."""
    result = majority_vote(configuration.voters, votes)
    if not configuration.outgoing:
        return result
    both = {result, majority_vote(configuration.outgoing, votes)}
    if VoteResult.LOST in both:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in both else VoteResult.WON
