"""What both kinds of transaction histories share: who wrote what, and whom nobody should have seen.

This module exists so that an aborted read is the same thing for lists and for registers. It must
never know how versions are ordered.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from mcpcore.check.history import History, show
from mcpcore.check.txn.graph import Graph
from mcpcore.check.txn.parse import Transaction, transactions
from mcpcore.check.verdict import Finding
from mcpcore.errors import InvalidInput


def anomaly(kind: str, text: str, about: Sequence[Transaction], **facts: Any) -> Finding:
    """A finding about some transactions."""
    return Finding(kind, text, tuple(txn.id for txn in about), facts)


class Inference:
    """What a history of transactions implies: a graph, the nodes in it, and plain anomalies.

    Args:
        history: operations that are transactions.
        initial: values that a key may hold although nobody wrote them.
    """

    functions: tuple[str, ...] = ()

    def __init__(self, history: History, initial: Collection[Any] = ()) -> None:
        self.history = history
        self.transactions = transactions(history, self.functions)
        self.initial = set(initial)
        self.by_id = {txn.id: txn for txn in self.transactions}
        self.graph = Graph()
        self.nodes: set[int] = set()
        self.findings: list[Finding] = []
        self.writers: dict[tuple[Hashable, Any], Transaction] = {}
        self._overwritten: dict[tuple[Hashable, Any], Transaction] = {}
        self._ambiguous: set[tuple[Hashable, Any]] = set()

    def infer(self) -> None:
        """Fill in the graph, its nodes and the findings."""
        raise NotImplementedError

    def refuse(self, txn: Transaction, found: str, expected: str) -> InvalidInput:
        """An error that names the transaction."""
        op = txn.operation
        where = f"line {op.line}" if op.line else f"operation {op.id}"
        return InvalidInput(
            f"{found} cannot be judged", where=where, remedy=f"Expected {expected}."
        )

    def _index_writes(self) -> None:
        """Who wrote each version, and which versions their own transaction overwrote.

        Everything rests on a version having one writer; versions with several are left out and
        reported as undecided.
        """
        for txn in self.transactions:
            latest: dict[Hashable, Any] = {}
            for step in txn.steps:
                if step.function == "r":
                    continue
                version = (step.key, step.value)
                known = self.writers.setdefault(version, txn)
                if known is not txn or latest.get(step.key, _NOTHING) == step.value:
                    self._ambiguous.add(version)
                if step.key in latest:
                    self._overwritten[step.key, latest[step.key]] = txn
                latest[step.key] = step.value
        for key, value in sorted(self._ambiguous, key=repr):
            del self.writers[key, value]
            self.findings.append(
                Finding(
                    "ambiguous-writes",
                    f"{show(value)} was written to {show(key)} more than once, so a read of it "
                    "does not tell whom it read from",
                    (),
                    {"key": key, "value": value},
                    decided=False,
                )
            )

    def live_writer(self, key: Hashable, value: Any) -> Transaction | None:
        """Who wrote a version, if that transaction is in the graph."""
        writer = self.writers.get((key, value))
        return writer if writer is not None and writer.id in self.nodes else None

    def judge_source(self, reader: Transaction, key: Hashable, value: Any) -> None:
        """G1a, an aborted read; and a read of what nobody ever wrote."""
        writer = self.writers.get((key, value))
        if writer is None:
            if (key, value) in self._ambiguous or value in self.initial:
                return
            self.findings.append(
                anomaly(
                    "garbage-read",
                    f"operation {reader.id} read {show(value)} in {show(key)}, which nobody wrote",
                    [reader],
                    key=key,
                    value=value,
                )
            )
        elif writer.aborted:
            self.findings.append(
                anomaly(
                    "G1a",
                    f"operation {reader.id} read {show(value)} in {show(key)}, which operation "
                    f"{writer.id} wrote and which was aborted",
                    [reader, writer],
                    key=key,
                    value=value,
                )
            )

    def judge_intermediate(self, reader: Transaction, key: Hashable, value: Any) -> None:
        """G1b: a read of a version that its own transaction overwrote before it ended."""
        writer = self._overwritten.get((key, value))
        if writer is not None and writer is not reader and (key, value) not in self._ambiguous:
            self.findings.append(
                anomaly(
                    "G1b",
                    f"operation {reader.id} read {show(key)} when {show(value)} was the latest in "
                    f"it, but operation {writer.id} wrote on after {show(value)} before it ended",
                    [reader, writer],
                    key=key,
                    value=value,
                )
            )

    def report_lost_updates(
        self, versions: Mapping[tuple[Hashable, Any], Sequence[Transaction]]
    ) -> None:
        """Two that read one version and both wrote on: one of them overwrote the other unseen."""
        for (key, value), group in versions.items():
            if len(group) > 1:
                ids = " and ".join(f"operation {txn.id}" for txn in group[:4])
                self.findings.append(
                    anomaly(
                        "lost-update",
                        f"{ids} all read {show(key)} as {show(value)} and wrote it: "
                        "none of them saw what the others wrote",
                        group,
                        key=key,
                        value=value,
                    )
                )


_NOTHING = object()
