"""Transactions out of operations: micro-operations, and what they say from outside.

This module exists so that both kinds of histories (list-append and read-write registers) refuse the
same malformed things in the same words. It must never infer an order.

A transaction is an operation whose value is a list of ``[f key value]``: ``["append", "x", 1]``,
``["r", "x", [1, 2]]``, ``["w", "x", 1]``, as Elle and Jepsen have them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from mcpcore.check.history import History, Operation, Outcome, freeze, show
from mcpcore.errors import InvalidInput

_NAMES = {"r": "r", "read": "r", "w": "w", "write": "w", "append": "append"}


class Micro(NamedTuple):
    """One step of a transaction."""

    function: str
    key: Hashable
    value: Any


class Transaction(NamedTuple):
    """An operation and its steps: what came back if it committed, what was asked if not."""

    operation: Operation
    steps: tuple[Micro, ...]

    @property
    def id(self) -> int:
        """The operation's id."""
        return self.operation.id

    @property
    def committed(self) -> bool:
        """It is known to have taken effect."""
        return self.operation.outcome is Outcome.OK

    @property
    def aborted(self) -> bool:
        """It is known never to take effect."""
        return self.operation.outcome is Outcome.FAIL

    def told(self) -> str:
        """``[append x 1] [r y [1 2]]``."""
        return " ".join(_told(step, self.committed) for step in self.steps)


def _told(step: Micro, committed: bool) -> str:
    if step.function == "r" and not committed:
        return f"[r {show(step.key)} ?]"
    return f"[{step.function} {show(step.key)} {show(step.value)}]"


def transactions(history: History, allowed: Sequence[str]) -> list[Transaction]:
    """Every operation as a transaction.

    Raises:
        InvalidInput: a value is no list of steps, or a step is not of the ``allowed`` functions.
    """
    found = []
    for op in history:
        content = op.result if op.outcome is Outcome.OK and op.result is not None else op.value
        if not isinstance(content, (list, tuple)):
            raise _refuse(op, f"a transaction of {show(content)}", "a list of [f key value]")
        steps = []
        for step in content:
            if not isinstance(step, (list, tuple)) or len(step) not in (2, 3):
                raise _refuse(op, f"the step {show(step)}", "[f key value]")
            function = _NAMES.get(step[0]) if isinstance(step[0], str) else None
            if function is None or function not in allowed:
                raise _refuse(op, f"the step {show(step)}", f"one of {', '.join(allowed)}")
            value = freeze(step[2]) if len(step) == 3 else None
            steps.append(Micro(function, freeze(step[1]), value))
        found.append(Transaction(op, tuple(steps)))
    return found


def _refuse(op: Operation, found: str, expected: str) -> InvalidInput:
    where = f"line {op.line}" if op.line else f"operation {op.id}"
    return InvalidInput(f"{found} cannot be judged", where=where, remedy=f"Expected {expected}.")


def first_reads(txn: Transaction) -> dict[Hashable, Any]:
    """What it read of each key before writing it: what other transactions left there."""
    seen: dict[Hashable, Any] = {}
    touched: set[Hashable] = set()
    for step in txn.steps:
        if step.key not in touched and step.function == "r":
            seen[step.key] = step.value
        touched.add(step.key)
    return seen


def last_writes(txn: Transaction) -> dict[Hashable, Any]:
    """What it left of each key for other transactions to see."""
    return {step.key: step.value for step in txn.steps if step.function != "r"}
