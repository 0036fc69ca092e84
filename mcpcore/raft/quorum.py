"""Quorum arithmetic: what a set of answers decides.

This module exists so that "a majority of both configurations" (paper section 6) is written once,
as functions that a table can test, and so that no caller keeps a cached count that can go stale.
Everything is recomputed from the answers themselves. It must never learn about messages or roles.

Conventions, which are those of the field: a half without voters stands in nobody's way (it has
reached everything and votes for everybody), so that a joint configuration with one empty half
decides as its other half alone; whoever has not answered has reached nothing and leaves a vote
open; answers of others than the voters do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from mcpcore.raft.types import Configuration

UNBOUNDED = (1 << 64) - 1
"""What a half without voters has reached: more than any index, term or time."""


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
    """
    if not voters:
        return UNBOUNDED
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


def zone_value(
    voters: frozenset[str],
    zone_of: Callable[[str], str],
    zones_required: int,
    value_of: Callable[[str], int],
) -> int:
    """The largest value that voters of so many zones have reached; 0 if there are fewer zones."""
    if not voters:
        return UNBOUNDED
    best: dict[str, int] = {}
    for voter in voters:
        zone, value = zone_of(voter), value_of(voter)
        best[zone] = max(best.get(zone, 0), value)
    if len(best) < zones_required:
        return 0
    return sorted(best.values(), reverse=True)[zones_required - 1]


def zone_quorum_value(configuration: Configuration, value_of: Callable[[str], int]) -> int:
    """The largest value reached by a quorum *and* by voters of enough zones, in each half.

    This is the commit rule of a group that asks for ``zones_required`` zones; with one zone it is
    ``quorum_value``. Each half needs its zones, or an entry held in a second zone by a leaving
    voter alone would lose it when the joint change is left.

    Elections need no such rule. Whoever is elected has the votes of a majority; every entry
    committed by this rule is held by a majority too, since the rule only ever asks for more; any
    two majorities share a voter, who votes for no log that lacks the entry (section 5.4.1). So a
    leader elected by a plain majority holds every committed entry. What the zones add is for the
    day on which too few voters for a majority are left: as long as one of the zones that held it
    stands, a committed entry is there to be recovered.

    The price is liveness: while fewer than ``zones_required`` zones answer, a majority may elect,
    and its leader stays in office, but nothing is committed, not even the leader's first entry, so
    a new leader confirms no reads either. Nothing acknowledged is lost; writes wait for a second
    zone, or for an administrator who gives the requirement up by a change of configuration (which
    is in force once appended and therefore does not wait for the missing zone).

    A voter without a stated zone counts as a zone by itself.
    """
    value = quorum_value(configuration, value_of)
    required = configuration.zones_required
    if required > 1:
        for half in (configuration.voters, configuration.outgoing):
            value = min(value, zone_value(half, configuration.zone_of, required, value_of))
    return value


def majority_vote(voters: frozenset[str], votes: Mapping[str, bool]) -> VoteResult:
    """Whether one majority is won, can no longer be won, or is still open."""
    if not voters:
        return VoteResult.WON
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
