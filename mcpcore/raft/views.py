"""Where the members' views of one group differ, and what that says about the network.

This module exists so that an operator who sees three tables need not find the asymmetric cut in
them herself. It compares verdicts; it must never judge a member, and believes none more than
another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple, Self

from mcpcore.errors import InvalidInput
from mcpcore.raft.split import SplitState, Verdict


class View(NamedTuple):
    """What counts of a verdict when it is compared with others."""

    node: str
    state: SplitState
    sentence: str
    peers: frozenset[str]
    hears: frozenset[str]
    might_lead: str
    term: int

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """The view that a verdict expresses."""
        return cls(
            verdict.node,
            verdict.state,
            verdict.sentence,
            verdict.peers,
            verdict.hears,
            verdict.might_lead,
            verdict.evidence.term,
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """The view in what ``Verdict.as_dict`` has made.

        Raises:
            InvalidInput: something is missing, or is nothing that a verdict says.
        """
        try:
            return cls(
                str(told["node"]),
                SplitState(told["state"]),
                str(told["sentence"]),
                frozenset(map(str, told["peers"])),
                frozenset(map(str, told["hears"])),
                str(told["might_lead"]),
                int(told["term"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"no verdict: {error!r}", where="verdict") from error


def compare_views(verdicts: Iterable[Verdict | View]) -> str:
    """A text on how the members' views differ; empty if they do not.

    One-way cuts are named by direction, islands by their members, and a member that hears two
    others who do not hear each other is called a bridge. Links to members whose verdict is not at
    hand cannot be judged and are left out.
    """
    views = _by_node(verdicts)
    return "\n".join([*_different_states(views), *_differences(views)])


def differences(verdicts: Iterable[Verdict | View]) -> list[str]:
    """Only what ``compare_views`` says of leaders and links, a line each."""
    return _differences(_by_node(verdicts))


def _by_node(verdicts: Iterable[Verdict | View]) -> dict[str, View]:
    known = (View.of(told) if isinstance(told, Verdict) else told for told in verdicts)
    return {view.node: view for view in sorted(known, key=lambda view: view.node)}


def _differences(views: dict[str, View]) -> list[str]:
    lines = []
    claims = sorted({view.might_lead for view in views.values() if view.might_lead})
    if len(claims) > 1:
        named = "; ".join(
            f"{node} names {view.might_lead} (term {view.term})"
            for node, view in views.items()
            if view.might_lead
        )
        lines.append(f"they disagree on who leads: {named}")
    pairs = [
        (one, other)
        for one, other in combinations(views, 2)
        if other in views[one].peers and one in views[other].peers
    ]
    for one, other in pairs:
        for hearer, speaker in ((one, other), (other, one)):
            if speaker in views[hearer].hears and hearer not in views[speaker].hears:
                lines.append(
                    f"one-way: {hearer} hears {speaker}, but {speaker} does not hear {hearer}"
                )
    joined = {
        (one, other)
        for one, other in pairs
        if other in views[one].hears and one in views[other].hears
    }
    islands = _islands(list(views), joined)
    if len(islands) > 1:
        lines.append("islands: " + " | ".join(", ".join(island) for island in islands))
    for one, other in pairs:
        apart = other not in views[one].hears and one not in views[other].hears
        bridges = [
            node
            for node in views
            if apart
            and {_pair(node, one), _pair(node, other)} <= joined
            and node not in (one, other)
        ]
        if bridges:
            lines.append(f"bridge: {one} and {other} hear each other only by {', '.join(bridges)}")
    return lines


def _different_states(views: dict[str, View]) -> list[str]:
    if len({view.state for view in views.values()}) < 2:
        return []
    return [f"{node} says {view.state.value}: {view.sentence}" for node, view in views.items()]


def _islands(nodes: list[str], joined: set[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Members that reach each other in both directions, perhaps by way of others."""
    island = {node: {node} for node in nodes}
    for one, other in sorted(joined):
        if island[one] is not island[other]:
            island[one] |= island[other]
            for node in island[other]:
                island[node] = island[one]
    return sorted({tuple(sorted(members)) for members in island.values()})


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
