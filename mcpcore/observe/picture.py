"""The whole cluster in one picture: nodes' accounts in, plain values for a page out.

This module exists so that what the page and the terminal show is worked out in one place, from what
every node says of itself, and can be tested without either. Nodes are believed about themselves;
where two differ, both are shown. It must never ask anybody, nor read a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from mcpcore.observe.health import Account, Health, NodeRow, Problem, Replica, judge
from mcpcore.observe.remedies import BAD, REMEDIES, WORST_FIRST
from mcpcore.raft.split import SplitState

_WORST = tuple(
    SplitState(name)
    for name in ("intervention", "split", "read_only", "rejoining", "suspect", "healthy")
)

_ALIKE = 3
"""So many problems of one kind and node are told one by one."""


@dataclass(frozen=True, slots=True)
class NodePicture:
    """One node.

    Args:
        leads: how many groups it leads, of ``groups``.
        clock_offset_ms, clock_uncertainty_ms: against the cluster's time; None: not known.
        lag: entries committed somewhere and not applied here, of the group that has most.
    """

    name: str
    zone: str
    endpoint: str
    up: bool
    error: str
    version: str
    uptime_s: float
    groups: int
    leads: int
    asleep: int
    lag: int
    disk: str
    sync_ms: float
    clock: str
    clock_offset_ms: float | None
    clock_uncertainty_ms: float | None
    clock_skew_ppm: float | None
    log_bytes: int | None


@dataclass(frozen=True, slots=True)
class LinkPicture:
    """Two nodes, and what each says of the other. None: it did not say (it does not answer).

    Args:
        there, back: whether ``a`` has a connection to ``b``, and ``b`` to ``a``.
        round_trip_ms: the shortest lately; None: not known.
    """

    a: str
    b: str
    there: bool | None
    back: bool | None
    round_trip_ms: float | None


@dataclass(frozen=True, slots=True)
class GroupPicture:
    """One group, over all its replicas.

    Args:
        leaders: who says that it leads; more than one in different terms is no error, but news.
        commit: the highest commit index seen; rate is worked out by whoever keeps two pictures.
        lag: entries by which the last replica is behind.
        verdict: the worst that any member says; ``by`` says which member says what, if not all are
            well.
    """

    name: str
    leaders: tuple[str, ...]
    term: int
    members: tuple[str, ...]
    commit: int
    lag: int
    behind: str
    verdict: str
    by: Mapping[str, str]
    asleep: bool


@dataclass(frozen=True, slots=True)
class Advice:
    """A problem, and what to do about it."""

    kind: str
    text: str
    do: str
    node: str
    group: str
    bad: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it, at one moment."""

    cluster: str
    nodes: tuple[NodePicture, ...]
    links: tuple[LinkPicture, ...]
    groups: tuple[GroupPicture, ...]
    advice: tuple[Advice, ...]

    @property
    def level(self) -> str:
        """``good``, ``warn`` or ``bad``."""
        if any(each.bad for each in self.advice):
            return "bad"
        return "warn" if self.advice else "good"

    @property
    def headline(self) -> str:
        """The answer to "is all well?" in one line."""
        up = sum(node.up for node in self.nodes)
        of = f"{up} of {len(self.nodes)} nodes answer, {len(self.groups)} groups"
        worst = Counted(group.verdict for group in self.groups).worst
        if not self.advice:
            return f"All is well: {of}"
        if worst not in ("healthy", ""):
            count = sum(group.verdict == worst for group in self.groups)
            return f"{count} of {len(self.groups)} groups: {worst.replace('_', '-')}; {of}"
        return f"{len(self.advice)} things to look at; {of}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "level": self.level, "headline": self.headline}


class Counted:
    """Verdicts, the worst of them first."""

    def __init__(self, states: Iterable[str]) -> None:
        self._states = set(states)

    @property
    def worst(self) -> str:
        """The worst; empty if there are none."""
        return next((each.value for each in _WORST if each.value in self._states), "")


def draw(cluster: str, accounts: Iterable[Account], *, lag_max: int) -> Picture:
    """The picture that these accounts give.

    Args:
        lag_max: from how many entries on a replica's lag is a problem.
    """
    health = judge(accounts, lag_max=lag_max)
    return Picture(
        cluster,
        tuple(sorted((_node(row) for row in health.nodes), key=lambda n: (n.zone, n.name))),
        tuple(_links(health)),
        tuple(_groups(health)),
        tuple(_advice(health)),
    )


def _node(row: NodeRow) -> NodePicture:
    account, status = row.account, row.account.status or {}
    clock = status.get("clock", {})
    own: Mapping[str, Any] = next(
        (each for each in clock.get("view", ()) if each["node"] == row.label), {}
    )
    return NodePicture(
        name=row.label,
        zone=str(status.get("zone", account.zone)),
        endpoint=account.endpoint,
        up=account.status is not None,
        error=account.error,
        version=str(status.get("version", "")),
        uptime_s=float(status.get("uptime_s", 0.0)),
        groups=len(row.replicas),
        leads=sum(replica.leads for replica in row.replicas.values()),
        asleep=int(status.get("groups_asleep", 0)),
        lag=max((replica.lag for replica in row.replicas.values()), default=0),
        disk=_disk(status),
        sync_ms=float(status.get("last_sync_ms", 0.0)),
        clock=str(clock.get("state", "")),
        clock_offset_ms=_ms(own.get("offset_ns")),
        clock_uncertainty_ms=_ms(own.get("uncertainty_ns")),
        clock_skew_ppm=own.get("skew_ppm"),
        log_bytes=status.get("log_bytes"),
    )


def _disk(status: Mapping[str, Any]) -> str:
    if status.get("disk_stalled"):
        return "stalled"
    return "full" if status.get("disk_full") else "well" if status else ""


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else value_ns / 1e6


def _links(health: Health) -> Iterable[LinkPicture]:
    rows = {row.label: row.account.status for row in health.nodes}
    names = set(rows)
    for status in rows.values():
        names |= set(status["peers"]) if status is not None else set()
    for a, b in combinations(sorted(names), 2):
        there, back = _connected(rows.get(a), b), _connected(rows.get(b), a)
        if there is None and back is None and rows.get(a) is not None and rows.get(b) is not None:
            continue  # they have no business with each other
        trips = [t for t in (_trip(rows.get(a), b), _trip(rows.get(b), a)) if t is not None]
        yield LinkPicture(a, b, there, back, min(trips, default=None))


def _connected(status: Mapping[str, Any] | None, peer: str) -> bool | None:
    link = status["peers"].get(peer) if status is not None else None
    return None if link is None else bool(link["connected"])


def _trip(status: Mapping[str, Any] | None, peer: str) -> float | None:
    if status is None:
        return None
    found = next((r for r in status.get("clock", {}).get("view", ()) if r["node"] == peer), None)
    return None if found is None else _ms(found["delay_ns"])


def _groups(health: Health) -> Iterable[GroupPicture]:
    found: dict[str, dict[str, Replica]] = {name: {} for name in health.groups}
    for row in health.nodes:
        for name, replica in row.replicas.items():
            found[name][row.label] = replica
    silent = {row.label for row in health.nodes if row.account.status is None}
    for name, replicas in found.items():
        term = max(replica.term for replica in replicas.values())
        members = {m for replica in replicas.values() for m in replica.members}
        by = {
            label: replica.verdict.state.value
            for label, replica in replicas.items()
            if replica.verdict is not None
        }
        worst = Counted(by.values()).worst or "healthy"
        by |= dict.fromkeys(sorted(members & silent), "silent")
        behind, lag = max(
            ((label, r.lag) for label, r in replicas.items()), key=lambda each: each[1]
        )
        yield GroupPicture(
            name,
            tuple(sorted(label for label, r in replicas.items() if r.leads)),
            term,
            tuple(sorted(members)),
            max(replica.commit for replica in replicas.values()),
            lag,
            behind if lag else "",
            worst,
            by,
            all(_asleep(row, name) for row in health.nodes if name in row.replicas),
        )


def _asleep(row: NodeRow, group: str) -> bool:
    status = row.account.status
    return status is not None and bool(status["groups"][group].get("asleep"))


def _advice(health: Health) -> list[Advice]:
    """The worst first; what concerns many groups alike in one line."""
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in health.problems:
        alike.setdefault((problem.kind, problem.node), []).append(problem)
    told = []
    for (kind, node), problems in alike.items():
        shown = problems if len(problems) <= _ALIKE else problems[:1]
        for each in shown:
            more = len(problems) - len(shown)
            text = f"{each.text} (and {more} more groups)" if more else each.text
            told.append(Advice(kind, text, REMEDIES.get(kind, ""), node, each.group, kind in BAD))
    order = {kind: place for place, kind in enumerate(WORST_FIRST)}
    return sorted(told, key=lambda each: order.get(each.kind, len(order)))
