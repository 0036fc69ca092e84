"""One moment of an experiment, ready to be shown.

This module exists so that what is drawn depends on a value and on nothing else: a screen can be
tested without a cluster. Plain data and the reading of nodes' accounts; it must never ask anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mcpcore.experiment.pulse import Beat


class State(StrEnum):
    """What a node is doing, in one or two words."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    CANDIDATE_BEFORE_THE_VOTE = "asking around"
    STARTING = "starting"
    KILLED = "killed"


_STATES = {
    "leader": State.LEADER,
    "follower": State.FOLLOWER,
    "candidate": State.CANDIDATE,
    "pre-candidate": State.CANDIDATE_BEFORE_THE_VOTE,
}


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node.

    Args:
        name: its name.
        state: what it is doing.
        cut_off: whether all of its links are cut.
        term: its term; 0 if it gives no account.
        leader: whom it takes for the leader; empty if nobody.
        commit: its commit index.
        last_index: the end of its log.
        behind: commit index behind the highest one among all nodes.
        verdict: whether the group is split, as the node itself says; empty if it gives no account.
        quarantined: commands that its log gave up and nobody has decided upon.
    """

    name: str
    state: State
    cut_off: bool = False
    term: int = 0
    leader: str = ""
    commit: int = 0
    last_index: int = 0
    behind: int = 0
    verdict: str = ""
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class LinkView:
    """Both directions between two sites: the delay one way, and whether they are cut."""

    a: str
    b: str
    one_way_ms: float
    is_cut: bool


class Mood(StrEnum):
    """What an event means, so that a screen can colour it; the words say it, too."""

    PLAIN = "plain"
    HARM = "harm"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened, in plain words."""

    at_s: float
    text: str
    mood: Mood = Mood.PLAIN


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in time to be marked below a chart."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One moment.

    Args:
        at_s: since the clients began; negative before.
        total_s: how long the clients go on.
        phase: what is being done, in a few words.
        windows: the election windows, in words.
        nodes: in the order in which they are drawn.
        links: between them.
        beats: what clients feel, by site; empty before they began.
        silent_s: how long ago any client's write was acknowledged.
        bars: acknowledged writes per second, slot after slot.
        slot_s: how long a slot is.
        acknowledged: writes acknowledged so far.
        happenings: what happened so far.
        marks: faults and mendings.
    """

    at_s: float
    total_s: float
    phase: str
    windows: str
    nodes: tuple[NodeView, ...]
    links: tuple[LinkView, ...]
    beats: Mapping[str, Beat]
    silent_s: float
    bars: tuple[float, ...]
    slot_s: float
    acknowledged: int
    happenings: tuple[Happening, ...]
    marks: tuple[Mark, ...]


def view_nodes(
    accounts: Mapping[str, Mapping[str, Any] | None],
    running: Iterable[str],
    cut_off: Iterable[str],
    group: str,
) -> tuple[NodeView, ...]:
    """Read the nodes' accounts of themselves.

    Args:
        accounts: what each node says about itself, in the order to be shown; None: nothing.
        running: nodes with a process.
        cut_off: nodes whose links are all cut.
        group: the group to be shown.
    """
    alive, alone = set(running), set(cut_off)
    told = {name: account["groups"][group] for name, account in accounts.items() if account}
    highest = max((status["commit"] for status in told.values()), default=0)
    views = []
    for name in accounts:
        status = told.get(name)
        if name not in alive:
            views.append(NodeView(name, State.KILLED, name in alone))
        elif status is None:
            views.append(NodeView(name, State.STARTING, name in alone))
        else:
            views.append(
                NodeView(
                    name,
                    _STATES.get(status["role"], State.FOLLOWER),
                    name in alone,
                    status["term"],
                    status["leader"],
                    status["commit"],
                    status["last_index"],
                    highest - status["commit"],
                    str(status.get("verdict", {}).get("state", "")),
                    int(status.get("reunion", {}).get("quarantined", 0)),
                )
            )
    return tuple(views)
