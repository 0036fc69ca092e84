"""Histories of list-append transactions: every read shows the whole order of writes before it.

This module exists because a list that only grows tells its versions: if somebody read ``[1 2 3]``,
then 1 was appended before 2 and 2 before 3, whatever the database says. It infers dependencies and
the anomalies that need no cycle. It must never use a read of a transaction that did not commit.

Source: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations"
(VLDB 2020), sections 3 and 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from mcpcore.check.history import show
from mcpcore.check.txn.graph import Dep, Graph, Reason
from mcpcore.check.txn.inference import Inference, anomaly
from mcpcore.check.txn.parse import Transaction, first_reads, last_writes
from mcpcore.check.verdict import Finding


class Appends(Inference):
    """What a list-append history implies."""

    functions = ("append", "r")

    def infer(self) -> None:
        """Fill in the graph and the findings."""
        self._index_writes()
        reads = self._reads()
        for txn in self.transactions:
            if txn.committed:
                self._internal(txn)
        for key, seen in reads.items():
            self._duplicates(key, seen)
        self._orders = {key: self._order(key, seen) for key, seen in reads.items()}
        self._dirty_reads()
        self._dirty_updates()
        self._lost_updates()
        self.nodes = {txn.id for txn in self.transactions if txn.committed}
        for key, order in self._orders.items():
            for element in order:
                writer = self.writers.get((key, element))
                if writer is not None and not writer.aborted:
                    self.nodes.add(writer.id)
        self._dependencies()

    def _reads(self) -> dict[Hashable, list[tuple[Transaction, tuple[Any, ...]]]]:
        reads: dict[Hashable, list[tuple[Transaction, tuple[Any, ...]]]] = {}
        for txn in self.transactions:
            for step in txn.steps:
                if step.function == "r" and txn.committed:
                    value = self._list(txn, step.value)
                    reads.setdefault(step.key, []).append((txn, value))
                elif step.function == "append":
                    reads.setdefault(step.key, [])
        return reads

    def _list(self, txn: Transaction, value: Any) -> tuple[Any, ...]:
        if value is None:
            return ()
        if not isinstance(value, tuple):
            raise self.refuse(txn, f"a read of {show(value)}", "a list")
        return value

    # --- Within one transaction -----------------------------------------------------------------

    def _internal(self, txn: Transaction) -> None:
        """Each read must show what the transaction itself read and appended before."""
        whole: dict[Hashable, tuple[Any, ...]] = {}
        own: dict[Hashable, tuple[Any, ...]] = {}
        to_come = Counter((s.key, s.value) for s in txn.steps if s.function == "append")
        for step in txn.steps:
            if step.function == "append":
                to_come[step.key, step.value] -= 1
                if step.key in whole:
                    whole[step.key] += (step.value,)
                else:
                    own[step.key] = (*own.get(step.key, ()), step.value)
                continue
            seen = self._list(txn, step.value)
            for element in seen:
                if to_come[step.key, element] > 0:
                    self.findings.append(
                        anomaly(
                            "future-read",
                            f"operation {txn.id} read {show(element)} in {show(step.key)} "
                            "before it appended it itself",
                            [txn],
                            key=step.key,
                        )
                    )
            if step.key in whole:
                wrong, expected = seen != whole[step.key], show(whole[step.key])
            else:
                tail = own.get(step.key, ())
                wrong = bool(tail) and seen[-len(tail) :] != tail
                expected = f"something that ends in {show(tail)}"
            if wrong and not any(to_come[step.key, element] > 0 for element in seen):
                self.findings.append(
                    anomaly(
                        "internal",
                        f"operation {txn.id} read {show(step.key)} as {show(seen)}, but by what it "
                        f"had read and appended itself it should have been {expected}",
                        [txn],
                        key=step.key,
                    )
                )
            whole[step.key] = seen

    # --- Version orders -------------------------------------------------------------------------

    def _duplicates(
        self, key: Hashable, reads: Sequence[tuple[Transaction, tuple[Any, ...]]]
    ) -> None:
        for txn, seen in reads:
            twice = [element for element, n in Counter(seen).items() if n > 1]
            if twice:
                self.findings.append(
                    anomaly(
                        "duplicate-elements",
                        f"operation {txn.id} read {show(key)} as {show(seen)}: "
                        f"{', '.join(map(show, twice))} is in there more than once",
                        [txn],
                        key=key,
                    )
                )

    def _order(
        self, key: Hashable, reads: Sequence[tuple[Transaction, tuple[Any, ...]]]
    ) -> tuple[Any, ...]:
        """The longest read, which every other read must be a beginning of."""
        longest: tuple[Any, ...] = ()
        by: Transaction | None = None
        for txn, seen in reads:
            if len(seen) > len(longest):
                longest, by = seen, txn
        for txn, seen in reads:
            if seen != longest[: len(seen)] and by is not None:
                self.findings.append(
                    anomaly(
                        "incompatible-order",
                        f"operation {txn.id} read {show(key)} as {show(seen)} and operation "
                        f"{by.id} read it as {show(longest)}: no one order of appends gives both",
                        [txn, by],
                        key=key,
                    )
                )
                break
        return tuple(dict.fromkeys(longest))

    # --- Reads of what should not be seen -------------------------------------------------------

    def _dirty_reads(self) -> None:
        clean = {key for key, order in self._orders.items() if self._is_clean(key, order)}
        for txn in self.transactions:
            if not txn.committed:
                continue
            for step in txn.steps:
                if step.function == "r":
                    seen = self._list(txn, step.value)
                    if step.key in clean and seen == self._orders[step.key][: len(seen)]:
                        continue
                    for element in seen:
                        self.judge_source(txn, step.key, element)
            for key, value in first_reads(txn).items():
                seen = self._list(txn, value)
                if seen:
                    self.judge_intermediate(txn, key, seen[-1])

    def _is_clean(self, key: Hashable, order: Sequence[Any]) -> bool:
        """Whether every element has a writer, and none of them was aborted."""
        writers = [self.writers.get((key, element)) for element in order]
        return all(writer is not None and not writer.aborted for writer in writers)

    def _dirty_updates(self) -> None:
        for key, order in self._orders.items():
            aborted: Transaction | None = None
            for element in order:
                writer = self.writers.get((key, element))
                if writer is None:
                    continue
                if writer.aborted:
                    aborted = writer
                elif aborted is not None and writer.committed:
                    self.findings.append(
                        anomaly(
                            "dirty-update",
                            f"operation {writer.id} committed {show(element)} to {show(key)} on "
                            f"top of what operation {aborted.id} appended, which was aborted",
                            [writer, aborted],
                            key=key,
                        )
                    )
                    break

    def _lost_updates(self) -> None:
        versions: dict[tuple[Hashable, Any], list[Transaction]] = {}
        for txn in self.transactions:
            if txn.committed:
                written = last_writes(txn)
                for key, value in first_reads(txn).items():
                    if key in written:
                        version = (key, self._list(txn, value))
                        versions.setdefault(version, []).append(txn)
        self.report_lost_updates(versions)

    # --- Dependencies ---------------------------------------------------------------------------

    def _dependencies(self) -> None:
        readers: dict[tuple[Hashable, Any], list[Transaction]] = {}
        for txn in self.transactions:
            if txn.committed:
                for key, value in first_reads(txn).items():
                    seen = self._list(txn, value)
                    readers.setdefault((key, seen[-1] if seen else None), []).append(txn)
        loose = self._unobserved()
        for key, order in self._orders.items():
            self._along(self.graph, key, order, readers, loose.get(key, []))

    def _unobserved(self) -> dict[Hashable, list[tuple[Any, Transaction]]]:
        """Appends that happened but that the longest read does not show: they come after it."""
        loose: dict[Hashable, list[tuple[Any, Transaction]]] = {}
        shown = {key: set(order) for key, order in self._orders.items()}
        for (key, element), txn in self.writers.items():
            if txn.id in self.nodes and element not in shown.get(key, ()):
                loose.setdefault(key, []).append((element, txn))
        return loose

    def _along(
        self,
        graph: Graph,
        key: Hashable,
        order: Sequence[Any],
        readers: dict[tuple[Hashable, Any], list[Transaction]],
        loose: Sequence[tuple[Any, Transaction]],
    ) -> None:
        before: Any = None
        writer: Transaction | None = None
        for element in order:
            after = self.live_writer(key, element)
            if after is not None:
                if writer is not None:
                    graph.add(writer.id, after.id, Dep.WW, Reason(key, before, element))
                for reader in readers.get((key, before), ()):
                    graph.add(reader.id, after.id, Dep.RW, Reason(key, before, element))
                for reader in readers.get((key, element), ()):
                    graph.add(after.id, reader.id, Dep.WR, Reason(key, element))
            before, writer = element, after
        for element, after in loose:
            if writer is not None:
                graph.add(writer.id, after.id, Dep.WW, Reason(key, before, element))
            for reader in readers.get((key, before), ()):
                graph.add(reader.id, after.id, Dep.RW, Reason(key, before, element))


def judge_findings(inference: Inference) -> list[Finding]:
    """The findings of an inference, each said once."""
    return list({(f.kind, f.operations, f.text): f for f in inference.findings}.values())
