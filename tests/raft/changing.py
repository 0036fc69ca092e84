"""A leader in the middle of a change of membership: what the tests of changes share."""

from __future__ import annotations

from mcpcore.raft.membership import AddLearner
from mcpcore.raft.messages import Append
from mcpcore.raft.types import Block, Configuration, Entry, EntryKind
from mcpcore.raft.types import Member as About
from tests.raft.member import Member, accepted, append

LATER = About(promote=True)
"""A learner that is meant to become a voter."""
ADMITTED = Configuration(
    frozenset("abc"), about={name: About(incarnation=f"{name}1") for name in "abc"}
)
"""Three voters, each with the disk it was admitted with."""


def leader(voters: str = "abc", **how) -> Member:
    """Member a leads, and everybody holds what it has."""
    return Member(voters, **how).leads().all_accept()


def config_append(term: int, configuration: Configuration, *, commit: int = 0) -> Append:
    """The first entry of the log is this configuration."""
    block = Block((Entry(term, 1, EntryKind.CONFIG, configuration.encode()),))
    return append(term, commit=commit)._replace(block=block)


def sent_to(member: Member, peer: str, last: int) -> Append:
    """An append that ends at ``last``, as this leader would have sent it."""
    state = member.state
    block = state.log.block(last, last)
    prev = state.log.term_at(last - 1) or 0
    session = state.progress[peer].session
    return Append(state.term, session, prev, last - 1, block, 0, member.now_ns, 0)


def commits(member: Member, *peers: str) -> list:
    """These members hold the whole log; what that made the leader say."""
    said = []
    for _ in range(2):
        for peer in peers or member.state.progress:
            if peer in member.state.progress:
                last = member.state.log.last_index
                said += member.hears(peer, accepted(sent_to(member, peer, last)))
    return said


def with_learner(about: About = LATER, **how) -> Member:
    """Member a leads b and c; d has just become a learner and holds nothing."""
    member = leader(**how)
    member.changes(AddLearner("d", about))
    commits(member, "b", "c")
    return member
