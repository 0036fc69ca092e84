"""Is the cluster well? Nodes' own accounts in, rows and problems out.

This module exists so that what `mcpctl status` calls a problem is decided in one place, can be
tested as a table, and never depends on how it is shown. A node may lie by being late: accounts are
taken at slightly different moments, so only what cannot be explained by that is a problem. It
decides; it must never ask a node, read a clock or print.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcpcore.raft.views import View

LAG_MAX = 100
"""Entries that a replica may be behind before that is a problem; the default of K3's own bound on
how far a commit index may trail. Writes that are under way while nodes are asked count too."""
DISK_WAIT_MAX_S = 1.0
"""How long a change may wait for the disk before that is a problem."""
CLOCK_GRACE_S = 10.0
"""How long a node that has just started may take to synchronise its clock with a majority."""


@dataclass(frozen=True, slots=True)
class Account:
    """What came of asking one node.

    Args:
        endpoint: its address.
        name: the node that should be there; "" if nobody said.
        status: its own account, see ``Node.status``; None if there is none.
        error: why there is none.
        zone: where it is, if it has ever told; a node that is silent has not moved.
    """

    endpoint: str
    name: str
    status: Mapping[str, Any] | None = None
    error: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Replica:
    """One group on one node.

    Args:
        lag: entries between what is applied here and the highest commit index seen anywhere.
        agrees: whether its digest is that of the other replicas with the same applied index; None
            if there are no such others.
        standing: why it takes no full part in the group; empty if nothing stands in the way.
        doubt: which replicas hold another state than others, as it has found itself; empty: none.
        verdict: whether the group is split as it sees it; None if it does not say.
        leads: whether it says that it leads.
    """

    group: str
    role: str
    term: int
    leader: str
    last_index: int
    commit: int
    applied: int
    digest: str
    members: tuple[str, ...]
    lag: int = 0
    agrees: bool | None = None
    standing: str = ""
    doubt: str = ""
    verdict: View | None = None

    @property
    def leads(self) -> bool:
        """Whether this replica says that it leads."""
        return self.role == "leader"


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node of the table.

    Args:
        account: what came of asking it.
        replicas: its groups, by name.
        peers_connected: how many of its peers it has a connection to.
        peers: how many peers it has.
    """

    account: Account
    replicas: Mapping[str, Replica] = field(default_factory=dict)
    peers_connected: int = 0
    peers: int = 0

    @property
    def label(self) -> str:
        """How to call it in a sentence: as it calls itself, if it answered."""
        account = self.account
        if account.status is not None:
            return str(account.status["node"])
        return account.name or account.endpoint


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong.

    Args:
        kind: in one word, for programs.
        text: in plain words.
        node: the node concerned, if it is one.
        group: the group concerned, if it is one.
    """

    kind: str
    text: str
    node: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """What was found, in the order of the endpoints."""

    nodes: tuple[NodeRow, ...]
    problems: tuple[Problem, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that some node has, sorted."""
        return tuple(sorted({group for node in self.nodes for group in node.replicas}))


def judge(accounts: Iterable[Account], *, lag_max: int = LAG_MAX) -> Health:
    """Compare the nodes' accounts.

    Args:
        lag_max: from how many entries on a replica's lag is a problem.
    """
    rows = tuple(_row(account) for account in accounts)
    groups = sorted({group for row in rows for group in row.replicas})
    problems = [*_silent(rows), *_misplaced(rows)]
    found: dict[str, dict[str, Replica]] = {row.label: {} for row in rows}
    known = {row.label for row in rows}
    for group in groups:
        replicas = {row.label: row.replicas[group] for row in rows if group in row.replicas}
        for label, replica in _compared(replicas).items():
            found[label][group] = replicas[label] = replica
        problems += _of_group(group, replicas, known, lag_max)
    rows = tuple(
        replace(row, replicas={group: found[row.label][group] for group in row.replicas})
        for row in rows
    )
    problems += _of_nodes(rows)
    return Health(rows, tuple(problems))


# --- Nodes --------------------------------------------------------------------------------------


def _row(account: Account) -> NodeRow:
    status = account.status
    if status is None:
        return NodeRow(account)
    replicas = {
        name: Replica(
            group=name,
            role=str(told["role"]),
            term=int(told["term"]),
            leader=str(told["leader"]),
            last_index=int(told["last_index"]),
            commit=int(told["commit"]),
            applied=int(told["applied"]),
            digest=str(told["digest"]),
            members=tuple(told["members"]),
            standing=str(told.get("standing", "")),
            doubt=_doubt(told.get("divergence")),
            verdict=_view(told.get("verdict")),
        )
        for name, told in status["groups"].items()
    }
    peers = status["peers"]
    connected = sum(bool(peer["connected"]) for peer in peers.values())
    return NodeRow(account, replicas, connected, len(peers))


def _view(told: Mapping[str, Any] | None) -> View | None:
    from mcpcore.raft.views import View  # not needed for `--help`

    return View.from_dict(told) if told else None


def _doubt(told: Mapping[str, Any] | None) -> str:
    if not told:
        return ""
    first = f"equal at index {told['last_equal'] or 'none'}, different at {told['first_unequal']}"
    if told["odd"]:
        return f"{', '.join(told['odd'])} differs from the majority: {first}"
    return f"{', '.join(told['digests'])} differ, and no majority holds one state: {first}"


def _silent(rows: Iterable[NodeRow]) -> list[Problem]:
    problems = []
    for row in rows:
        account = row.account
        if account.status is None:
            who = f"{account.name} ({account.endpoint})" if account.name else account.endpoint
            text = f"{who} does not answer: {account.error}"
            problems.append(Problem("unreachable", text, node=row.label))
    return problems


def _misplaced(rows: Iterable[NodeRow]) -> list[Problem]:
    """Nodes that answer elsewhere than they should, or at two endpoints, and so count twice."""
    problems = []
    for row in rows:
        account = row.account
        if account.status is not None and account.name not in ("", row.label):
            text = f"{row.label} answers at {account.endpoint}, where {account.name} should be"
            problems.append(Problem("misplaced", text, node=row.label))
    for label, count in Counter(row.label for row in rows).items():
        if count > 1:
            text = f"{label} answers at {count} of the endpoints"
            problems.append(Problem("duplicate", text, node=label))
    return problems


def _of_nodes(rows: tuple[NodeRow, ...]) -> list[Problem]:
    silent = {row.label for row in rows if row.account.status is None}
    problems = []
    for row in rows:
        status = row.account.status
        if status is None:
            continue
        waiting_s = float(status["disk_waiting_s"])
        if waiting_s > DISK_WAIT_MAX_S:
            text = f"the disk of {row.label} has not answered for {waiting_s:.1f} s"
            problems.append(Problem("disk", text, node=row.label))
        clock = status.get("clock", {})  # a node of an older release tells nothing of it
        if clock.get("state") == "unsynchronised" and float(status["uptime_s"]) > CLOCK_GRACE_S:
            reasons = "; ".join(clock["reasons"]) or "no reason is given"
            text = f"the clock of {row.label} is not synchronised: {reasons}"
            problems.append(Problem("clock", text, node=row.label))
        waits = row.replicas and all(replica.standing for replica in row.replicas.values())
        for peer, link in status["peers"].items():
            # Who is no member yet, or any more, is not let in: that is no fault.
            if not link["connected"] and peer not in silent and not waits:
                text = f"{row.label} has no connection to {peer}: {link['problem']}"
                problems.append(Problem("link", text, node=row.label))
    return problems


# --- Groups -------------------------------------------------------------------------------------


def _compared(replicas: Mapping[str, Replica]) -> dict[str, Replica]:
    """Fill in each replica's lag, and whether its digest agrees."""
    highest = max(replica.commit for replica in replicas.values())
    at_index: dict[int, Counter[str]] = defaultdict(Counter)
    for replica in replicas.values():
        at_index[replica.applied][replica.digest] += 1
    compared = {}
    for label, replica in replicas.items():
        digests = at_index[replica.applied]
        told = replica.digest and digests.total() > 1
        agrees = len(digests) == 1 if told else None
        compared[label] = replace(replica, lag=max(0, highest - replica.applied), agrees=agrees)
    return compared


def _of_group(
    group: str, replicas: Mapping[str, Replica], known: set[str], lag_max: int
) -> list[Problem]:
    def problem(kind: str, text: str, node: str = "") -> Problem:
        return Problem(kind, f"group {group}: {text}", node=node, group=group)

    outside = {label for label, replica in replicas.items() if label not in replica.members}
    problems = [problem(*told) for told in _leaders(replicas, known)]
    for label, replica in replicas.items():
        if label in outside:
            continue  # what it holds is of the time when it was a member, or nothing
        if replica.lag > lag_max:
            text = f"{label} is {replica.lag} entries behind the highest commit index seen"
            problems.append(problem("lag", text, label))
    problems += [problem(*told) for told in _verdicts(replicas)]
    for text in sorted({replica.doubt for replica in replicas.values() if replica.doubt}):
        problems.append(problem("divergence", f"replicas hold different states: {text}"))
    members = {member for replica in replicas.values() for member in replica.members}
    for label, replica in replicas.items():
        if replica.standing and (label in members or not members):
            problems.append(problem("standing", f"{label}: {replica.standing}", label))
    for index, by_digest in _diverged(replicas).items():
        sides = " and ".join(
            f"{', '.join(labels)} ({digest[:8]})" for digest, labels in by_digest.items()
        )
        text = (
            f"replicas differ at applied index {index}: {sides}. Which one is right cannot be told "
            "from this; stop writing, and compare them"
        )
        problems.append(problem("divergence", text))
    for member in sorted(members - known):
        problems.append(
            problem("unasked", f"{member} is a member, and no endpoint of it is known", member)
        )
    return problems


def _leaders(replicas: Mapping[str, Replica], known: set[str]) -> list[tuple[str, ...]]:
    """What is wrong with who leads."""
    highest = max(replica.term for replica in replicas.values())
    leaders: dict[int, list[str]] = defaultdict(list)
    for label, replica in replicas.items():
        if replica.leads:
            leaders[replica.term].append(label)
    told: list[tuple[str, ...]] = []
    for term, labels in sorted(leaders.items()):
        if len(labels) > 1:
            text = (
                f"{' and '.join(labels)} lead term {term} at the same time, which Raft rules out: "
                "stop writing, keep their logs, and report it"
            )
            told.append(("two-leaders", text))
    newest = max(leaders, default=0)
    for term, labels in sorted(leaders.items()):
        if term < newest:
            text = (
                f"{labels[0]} still leads term {term}, while {leaders[newest][0]} leads term "
                f"{newest}: it is cut off, or about to notice"
            )
            told.append(("stale-leader", text, labels[0]))
    # A leader that did not answer may well lead: its followers say so, in the newest term.
    followed = {r.leader for r in replicas.values() if r.term == highest and r.leader}
    if not leaders and not followed - set(replicas):
        told.append(("no-leader", f"nobody leads; the newest term is {highest}"))
    return told


def _verdicts(replicas: Mapping[str, Replica]) -> list[tuple[str, ...]]:
    """Who refuses writes and why; and what the members' views, side by side, say of the links.

    Members that are merely in doubt are no problem yet: it may be nothing, and passes by itself.
    """
    from mcpcore.raft.split import SplitState
    from mcpcore.raft.views import differences

    views = {label: r.verdict for label, r in replicas.items() if r.verdict is not None}
    told: list[tuple[str, ...]] = [
        ("verdict", f"{label} says {view.state.value}: {view.sentence}", label)
        for label, view in views.items()
        if view.state.refuses_writes
    ]
    if any(view.state is not SplitState.HEALTHY for view in views.values()):
        told += [("views", line) for line in differences(views.values())]
    return told


def _diverged(replicas: Mapping[str, Replica]) -> dict[int, dict[str, list[str]]]:
    """By applied index, those digests that should be one, and whose they are."""
    at_index: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for label, replica in replicas.items():
        at_index[replica.applied][replica.digest].append(label)
    return {index: found for index, found in sorted(at_index.items()) if len(found) > 1}
