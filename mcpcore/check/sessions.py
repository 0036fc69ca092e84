"""Session guarantees of registers: what one client may rely on between its own operations.

This module exists for stores that promise less than linearizability. It must never use real time,
which these promises do not mention.

Operations: ``read`` and ``write`` (or ``get`` and ``put``) with an optional key, every value
written to a key once.

Source: Terry et al., "Session Guarantees for Weakly Consistent Replicated Data" (1994).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.check.txn.graph import Dep, Graph, Reason
from mcpcore.check.verdict import Finding, Judgement, conclude

Guarantee = Literal[
    "monotonic-reads", "monotonic-writes", "read-your-writes", "writes-follow-reads"
]
GUARANTEES: tuple[Guarantee, ...] = (
    "monotonic-reads", "monotonic-writes", "read-your-writes", "writes-follow-reads",
)  # fmt: skip

Version = tuple[Hashable, Hashable]
"""A key and a value that it held; the value None is the initial state."""


class Access(NamedTuple):
    """A read or a write that surely happened, of one version."""

    operation: Operation
    writes: bool
    version: Version


def accesses(history: History) -> list[Access]:
    """Reads that returned, and writes that returned or that somebody read from."""
    seen: set[Version] = set()
    for op in history:
        if op.function in ("read", "get") and op.outcome is Outcome.OK:
            seen.add((freeze(op.key), freeze(op.result)))
    found = []
    for op in history:
        key = freeze(op.key)
        if op.function in ("read", "get") and op.outcome is Outcome.OK:
            found.append(Access(op, False, (key, freeze(op.result))))
        elif op.function in ("write", "put") and op.outcome is not Outcome.FAIL:
            version = (key, freeze(op.value))
            if op.outcome is Outcome.OK or version in seen:
                found.append(Access(op, True, version))
    return found


def writers_of(found: Sequence[Access]) -> tuple[dict[Version, Operation], list[Finding]]:
    """Who wrote each version, and a complaint about each one that has two writers."""
    writers: dict[Version, Operation] = {}
    twice = []
    for access in found:
        if access.writes:
            other = writers.setdefault(access.version, access.operation)
            if other is not access.operation:
                text = (
                    f"{show(access.version[1])} was written twice, by operations {other.id} and "
                    f"{access.operation.id}: a read of it does not tell whom it read from"
                )
                about = (other.id, access.operation.id)
                twice.append(Finding("ambiguous-writes", text, about, decided=False))
    return writers, twice


def thin_air(found: Sequence[Access], writers: Mapping[Version, Operation]) -> list[Finding]:
    """Reads of what nobody wrote."""
    return [
        Finding(
            "thin-air-read",
            f"operation {op.id} read {show(version[1])}, which nobody wrote",
            (op.id,),
        )
        for op, writes, version in found
        if not writes and version[1] is not None and version not in writers
    ]


def by_session(history: History, found: Sequence[Access]) -> list[list[Access]]:
    """What each client did in order."""
    of = {access.operation.id: access for access in found}
    return [
        [of[op.id] for op in session if op.id in of] for session in history.by_process().values()
    ]


def check_sessions(
    history: History,
    guarantees: Collection[Guarantee] = GUARANTEES,
    *,
    rank: Callable[[Hashable], Any] | None = None,
) -> Judgement:
    """Each guarantee holds if some order of each key's versions gives it to every client.

    For one key, consecutive reads of a client must not go back (monotonic reads), its writes stand
    in order (monotonic writes), it reads nothing older than what it wrote (read your writes), and
    what it writes comes after what it read (writes follow reads). What is known of the order: the
    initial state is first; positions in the log, where operations have them; ``rank``.

    Args:
        guarantees: which ones to judge; each by itself.
        rank: a version's place in its key's order, from its value, where values tell.
    """
    found = accesses(history)
    writers, undecided = writers_of(found)
    findings = thin_air(found, writers)
    sessions = by_session(history, found)
    broken = set()
    for guarantee in guarantees:
        for key, versions in _constraints(sessions, guarantee).items():
            known = _known_order(key, versions, writers, rank)
            for finding in _contradictions(guarantee, key, versions, known):
                broken.add(guarantee)
                findings.append(finding)
    facts = {"holds": sorted(set(guarantees) - broken), "broken": sorted(broken)}
    summary = f"{', '.join(sorted(broken)) or 'nothing'} broken in {len(sessions)} sessions"
    return conclude("sessions", [*findings, *undecided], summary, facts)


_WANTS: Mapping[Guarantee, tuple[bool, bool]] = {  # whether the earlier, the later one writes
    "monotonic-reads": (False, False),
    "monotonic-writes": (True, True),
    "read-your-writes": (True, False),
    "writes-follow-reads": (False, True),
}


class _Before(NamedTuple):
    """A client did these in this order, so the versions must be in this order."""

    earlier: Access
    later: Access


def _constraints(
    sessions: Sequence[Sequence[Access]], guarantee: Guarantee
) -> dict[Hashable, list[_Before]]:
    first_writes, then_writes = _WANTS[guarantee]
    wanted: dict[Hashable, list[_Before]] = {}
    for session in sessions:
        latest: dict[Hashable, Access] = {}
        for access in session:
            key = access.version[0]
            earlier = latest.get(key)
            if (
                access.writes == then_writes
                and earlier is not None
                and earlier.version != access.version
            ):
                wanted.setdefault(key, []).append(_Before(earlier, access))
            if access.writes == first_writes:
                latest[key] = access
    return wanted


def _known_order(
    key: Hashable,
    wanted: Sequence[_Before],
    writers: Mapping[Version, Operation],
    rank: Callable[[Hashable], Any] | None,
) -> list[Hashable]:
    """The versions whose order is known for certain, in that order; the initial one first."""
    values = {a.version[1] for pair in wanted for a in pair} - {None}
    if rank is not None:
        return [None, *sorted(values, key=rank)]
    placed = []
    for value in values:
        writer = writers.get((key, value))
        if writer is not None and writer.position is not None:
            placed.append((writer.position.index, show(value), value))
    return [None, *(value for _, _, value in sorted(placed))]


def _contradictions(
    guarantee: Guarantee,
    key: Hashable,
    wanted: Sequence[_Before],
    known: Sequence[Hashable],
) -> list[Finding]:
    graph = Graph()
    ids: dict[Hashable, int] = {}
    reasons: dict[tuple[int, int], _Before] = {}

    def node(value: Hashable) -> int:
        return ids.setdefault(value, len(ids))

    initial = node(None)
    for before, after in pairwise(known):
        graph.add(node(before), node(after), Dep.WW, Reason())
    for pair in wanted:
        a, b = node(pair.earlier.version[1]), node(pair.later.version[1])
        graph.add(a, b, Dep.WR, Reason())
        reasons.setdefault((a, b), pair)
        graph.add(initial, a, Dep.WW, Reason())
        graph.add(initial, b, Dep.WW, Reason())
    findings = []
    names = {at: value for value, at in ids.items()}
    for component in graph.components(int(Dep.WW | Dep.WR)):
        start = min(component)
        for b, kinds in graph.after.get(start, {}).items():
            home = graph.path(b, start, int(Dep.WW | Dep.WR), component) if kinds else None
            if home is None or b not in component:
                continue
            told, about = [], []
            for step in [graph.step(start, b, kinds), *home]:
                x, y = show(names[step.a]), show(names[step.b])
                because = reasons.get((step.a, step.b))
                if because is None:
                    told.append(f"{x} was there before {y}")
                    continue
                first, second = because.earlier, because.later
                about += [first.operation.id, second.operation.id]
                told.append(
                    f"process {first.operation.process} {_did(first)} {x} and then "
                    f"{_did(second)} {y} (operations {first.operation.id} and "
                    f"{second.operation.id})"
                )
            of_key = f" of {show(key)}" if key is not None else ""
            text = f"no order of the versions{of_key} gives {guarantee}: {'; but '.join(told)}"
            findings.append(Finding(guarantee, text, tuple(dict.fromkeys(about)), {"key": key}))
            break
    return findings


def _did(access: Access) -> str:
    return "wrote" if access.writes else "read"
