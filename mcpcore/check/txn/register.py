"""Histories of read-write register transactions: versions whose order has to be argued for.

This module exists because a register forgets what it held before. What orders two versions here is
what is sure, and what the caller says may be assumed. It must never order versions by their values.

Sure are: the initial state comes before every write; and a transaction that read one version and
wrote another put the second after the first (if it did not, that is a worse anomaly already).

Source: Kingsbury and Alvaro, "Elle" (VLDB 2020), section 5.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any, Literal

from mcpcore.check.history import History, Operation, show
from mcpcore.check.txn.graph import Dep, Graph, Reason
from mcpcore.check.txn.inference import Inference, anomaly
from mcpcore.check.txn.order import realtime_pairs
from mcpcore.check.txn.parse import Transaction, first_reads, last_writes
from mcpcore.errors import InvalidInput

Assumption = Literal["writes-follow-reads", "sequential-keys", "linearizable-keys"]
ASSUMPTIONS: tuple[Assumption, ...] = (
    "writes-follow-reads", "sequential-keys", "linearizable-keys",
)  # fmt: skip
SURE: tuple[Assumption, ...] = ("writes-follow-reads",)


class Registers(Inference):
    """What a history of read-write register transactions implies.

    Args:
        assume: ``sequential-keys``: each client sees each key's versions in order;
            ``linearizable-keys``: each key's versions follow real time.
        initial: values that a key may hold although nobody wrote them.
    """

    functions = ("w", "r")

    def __init__(
        self,
        history: History,
        assume: Collection[Assumption] = SURE,
        initial: Collection[Any] = (),
    ) -> None:
        super().__init__(history, initial)
        for name in assume:
            if name not in ASSUMPTIONS:
                raise InvalidInput(
                    f"no such assumption: {name}",
                    where="assume",
                    remedy=f"Any of {', '.join(ASSUMPTIONS)}.",
                )
        self.assume = frozenset(assume)

    def infer(self) -> None:
        """Fill in the graph and the findings."""
        self._index_writes()
        committed = [txn for txn in self.transactions if txn.committed]
        seen: set[tuple[Hashable, Any]] = set()
        lost: dict[tuple[Hashable, Any], list[Transaction]] = {}
        self._readers: dict[tuple[Hashable, Any], list[Transaction]] = {}
        for txn in committed:
            self._internal(txn)
            written = last_writes(txn)
            for key, value in first_reads(txn).items():
                self._readers.setdefault((key, value), []).append(txn)
                seen.add((key, value))
                if value is not None:
                    self.judge_source(txn, key, value)
                    self.judge_intermediate(txn, key, value)
                if key in written:
                    lost.setdefault((key, value), []).append(txn)
        self.report_lost_updates(lost)
        self.nodes = {txn.id for txn in committed}
        for version in seen:
            writer = self.writers.get(version)
            if writer is not None and not writer.aborted:
                self.nodes.add(writer.id)
        for (key, value), readers in self._readers.items():
            writer = self.live_writer(key, value)
            if writer is not None:
                for reader in readers:
                    self.graph.add(writer.id, reader.id, Dep.WR, Reason(key, value))
        for key, graph in self._version_graphs().items():
            self._along(key, graph)

    def _internal(self, txn: Transaction) -> None:
        held: dict[Hashable, Any] = {}
        for step in txn.steps:
            if step.function == "r" and step.key in held and held[step.key] != step.value:
                self.findings.append(
                    anomaly(
                        "internal",
                        f"operation {txn.id} read {show(step.key)} as {show(step.value)} although "
                        f"it had itself left it at {show(held[step.key])}",
                        [txn],
                        key=step.key,
                    )
                )
            held[step.key] = step.value

    # --- Versions -------------------------------------------------------------------------------

    def _version_graphs(self) -> dict[Hashable, _Versions]:
        graphs: dict[Hashable, _Versions] = {}

        def versions(key: Hashable) -> _Versions:
            return graphs.setdefault(key, _Versions())

        for txn in self.transactions:
            if txn.id in self.nodes:
                for key, value in last_writes(txn).items():
                    versions(key).add(None, value, "initial-state")
        for (key, value), readers in self._readers.items():
            if readers and value is not None:
                versions(key).add(None, value, "initial-state")
        if "writes-follow-reads" in self.assume:
            for txn in self.transactions:
                if txn.committed:
                    written = last_writes(txn)
                    for key, value in first_reads(txn).items():
                        if key in written:
                            versions(key).add(value, written[key], "writes-follow-reads")
        if "sequential-keys" in self.assume:
            for session in self.history.by_process().values():
                self._in_order(session, versions, "sequential-keys")
        if "linearizable-keys" in self.assume:
            self._realtime(versions)
        return graphs

    def _in_order(self, session: list[Operation], versions: Any, source: str) -> None:
        latest: dict[Hashable, Any] = {}
        for op in session:
            txn = self.by_id[op.id]
            if txn.committed:
                for key, (first, last) in _touched(txn).items():
                    if key in latest:
                        versions(key).add(latest[key], first, source)
                    latest[key] = last

    def _realtime(self, versions: Any) -> None:
        by_key: dict[Hashable, list[Operation]] = {}
        for txn in self.transactions:
            if txn.committed:
                for key in _touched(txn):
                    by_key.setdefault(key, []).append(txn.operation)
        for key, operations in by_key.items():
            for before, after in realtime_pairs(operations):
                last = _touched(self.by_id[before.id])[key][1]
                first = _touched(self.by_id[after.id])[key][0]
                versions(key).add(last, first, "linearizable-keys")

    def _along(self, key: Hashable, versions: _Versions) -> None:
        cycles = versions.graph.components(int(Dep.WW))
        if cycles:
            names = [show(versions.values[at]) for at in sorted(cycles[0])]
            self.findings.append(
                anomaly(
                    "cyclic-versions",
                    f"the versions {', '.join(names)} of {show(key)} come before each other, by "
                    + " and ".join(sorted(versions.sources)),
                    [],
                    key=key,
                )
            )
            return
        for at, row in versions.graph.after.items():
            value = versions.values[at]
            writer = self.live_writer(key, value)
            for b in row:
                later = versions.values[b]
                after = self.live_writer(key, later)
                if after is None:
                    continue
                if writer is not None:
                    self.graph.add(writer.id, after.id, Dep.WW, Reason(key, value, later))
                for reader in self._readers.get((key, value), ()):
                    self.graph.add(reader.id, after.id, Dep.RW, Reason(key, value, later))


class _Versions:
    """The order of one key's versions, as far as it is known."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.values: list[Any] = []
        self.sources: set[str] = set()
        self._ids: dict[Any, int] = {}

    def add(self, before: Any, after: Any, source: str) -> None:
        """``before`` was replaced by ``after``, directly or not."""
        if before != after:
            self.graph.add(self._id(before), self._id(after), Dep.WW, Reason())
            self.sources.add(source)

    def _id(self, value: Any) -> int:
        known = self._ids.get(value)
        if known is None:
            known = self._ids[value] = len(self.values)
            self.values.append(value)
        return known


def _touched(txn: Transaction) -> dict[Hashable, tuple[Any, Any]]:
    """The first version of each key that it read or wrote, and the last."""
    found: dict[Hashable, tuple[Any, Any]] = {}
    reads, writes = first_reads(txn), last_writes(txn)
    for key in {**reads, **writes}:
        first = reads.get(key, writes.get(key))
        found[key] = (first, writes.get(key, first))
    return found
