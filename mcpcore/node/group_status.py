"""One group as its node sees it, and who hears of it what concerns the whole node.

This module exists so that what a group tells is written down beside the driver and not inside it.
It looks; it must never change anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mcpcore.raft import recall
from mcpcore.raft.split import SplitState, Verdict
from mcpcore.raft.types import Configuration

if TYPE_CHECKING:
    from mcpcore.node.group import Group


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group as one node sees it."""

    group: str
    role: str
    term: int
    leader: str
    commit: int
    applied: int
    last_index: int
    digest: str
    """Hash of the applied state, to be compared between nodes at equal ``applied``."""
    members: tuple[str, ...]
    match: dict[str, int]
    """On the leader: the highest index known to be durable on each other member."""
    problem: str = ""
    """Why the group is out of service on this node (its role is then ``failed``), or why it cannot
    answer yet; else empty."""
    asleep: bool = False
    """Whether the group has nothing to do and costs nothing (``mcpcore.raft.quiescence``)."""
    in_doubt: str = ""
    """What this member lost of its log and waits for, not voting meanwhile; else empty."""
    snapshot: dict[str, Any] = field(default_factory=dict)
    """The newest snapshot, its age, and the transfers that are under way."""
    configuration: dict[str, Any] = field(default_factory=dict)
    """Who votes and who listens, as this node's log says: see ``described``."""
    verdict: dict[str, Any] = field(default_factory=dict)
    """Whether the group is split as this node sees it: see ``Verdict.as_dict``; with its evidence
    unless all is well. Empty if there is nothing to judge: no member, or out of service."""
    reunion: dict[str, Any] = field(default_factory=dict)
    """What waits for an operator (``held``, in words), how many commands are in quarantine, what is
    wrong with it, and how many reports of past cuts there are; only what there is."""
    divergence: dict[str, Any] | None = None
    """Which replicas hold another state than others, as far as this node knows: see
    ``Divergence``; None: none.
    """


class GroupObserver(Protocol):
    """Who hears of a group what concerns the node as a whole. Calls must be quick."""

    def moved(self, group: Group) -> None:
        """Entries were applied."""
        ...

    def marked(self, group: Group, index: int) -> None:
        """A digest of the state was taken."""
        ...

    def reconfigured(self, group: Group) -> None:
        """Another configuration is in force."""
        ...


def status_of(group: Group) -> GroupStatus:
    """This group as this node sees it now."""
    state, found = group.raft.state, group.applying.watch.divergence
    return GroupStatus(
        group=group.name,
        role="failed" if group.failure else state.role.value,
        term=state.term,
        leader=state.leader,
        commit=state.commit,
        applied=group.applied,
        last_index=state.log.last_index,
        digest="" if group.failure else group.state.digest().hex(),
        members=tuple(sorted(state.configuration.members)),
        match={peer: progress.match for peer, progress in state.progress.items()},
        problem=repr(group.failure) if group.failure else group.stateless_problem(),
        asleep=state.quiet,
        in_doubt=recall.in_words(state),
        snapshot=group.snapshots.status() if group.snapshots else {},
        configuration=described(state.configuration),
        verdict=_verdict(group),
        reunion=_reunion(group),
        divergence=asdict(found) if found else None,
    )


def brief_of(group: Group, unwell: Verdict | None) -> dict[str, Any]:
    """The figures of a status that cost nothing, for whoever asks about thousands of groups twice
    a second: no digest, no configuration; a verdict only if the group is not well.
    """
    state, found = group.raft.state, group.applying.watch.divergence
    return {
        "role": "failed" if group.failure else state.role.value,
        "term": state.term,
        "leader": state.leader,
        "commit": state.commit,
        "applied": group.applied,
        "last_index": state.log.last_index,
        "digest": "",
        "members": sorted(state.configuration.members),
        "asleep": state.quiet,
        "divergence": asdict(found) if found else None,
        "verdict": {} if unwell is None else unwell.as_dict(),
    }


def _verdict(group: Group) -> dict[str, Any]:
    verdict = group.verdict
    if verdict is None:
        return {}
    return verdict.as_dict(evidence=verdict.state is not SplitState.HEALTHY)


def _reunion(group: Group) -> dict[str, Any]:
    told = {
        "held": group.awaiting_operator,
        "quarantined": group.quarantine.waiting,
        "problem": group.quarantine.problem,
        "reports": len(group.reunions.reports),
    }
    return {name: value for name, value in told.items() if value}


def described(configuration: Configuration) -> dict[str, Any]:
    """A configuration in plain values."""
    return {
        "voters": sorted(configuration.voters),
        "outgoing": sorted(configuration.outgoing),
        "learners": sorted(configuration.learners | configuration.learners_next),
        "zones_required": configuration.zones_required,
        "about": {name: member._asdict() for name, member in configuration.about.items()},
    }
