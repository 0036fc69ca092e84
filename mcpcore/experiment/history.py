"""What clients did, in the words of ``mcpcore.check``, so that its judges can be asked.

This module exists so that a run on real processes is judged by the same judges as a simulated one.
It translates; it must never judge, and never leave an operation out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mcpcore import check
from mcpcore.experiment.operations import Kind, Operation

_FUNCTIONS: Final = {Kind.PUT: "put", Kind.INCREMENT: "cas", Kind.READ: "get"}


def as_history(operations: Sequence[Operation], *, group: str = "main") -> check.History:
    """The operations as a history for the model ``key-value``, stamped with their log positions.

    A lane whose operation ended as unknown goes on as another process, since that operation stays
    open for ever (as in Jepsen).
    """
    return check.History.timed(
        check.Operation(
            id=number,
            process=op.lane if op.outcome != check.Outcome.UNKNOWN else f"{op.lane}, lost {number}",
            function=_FUNCTIONS[op.kind],
            value=_asked(op),
            result=_answered(op),
            outcome=op.outcome,
            called=0,
            returned=None,
            called_ns=round(op.called_s * 1e9),
            returned_ns=round(op.returned_s * 1e9),
            key=op.key,
            position=check.LogPosition(group, op.term, op.index) if op.index else None,
            error=op.error or None,
        )
        for number, op in enumerate(operations)
    )


def _asked(op: Operation) -> object:
    if op.kind is Kind.READ:
        return None
    if op.kind is Kind.PUT:
        return op.value
    before = int(op.value) - 1
    return [str(before) if before else None, op.value]


def _answered(op: Operation) -> object:
    if op.outcome is not check.Outcome.OK or op.kind is Kind.PUT:
        return None
    return op.read if op.kind is Kind.READ else op.swapped
