"""What an object promises, written as its sequential behaviour: one small class per object.

This module exists so that a user's own model is as good as ours: subclass `Model`, write `initial`
and `step`, and every judge of linearizability accepts it. It must never know how it is searched.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from mcpcore.check.history import Operation, Outcome, clip, freeze, show
from mcpcore.errors import InvalidInput


class _Illegal:
    """The one value of `ILLEGAL`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ILLEGAL"


ILLEGAL: Final = _Illegal()
"""What `Model.step` returns when the operation cannot have this result in this state."""


class Choice(tuple[Hashable, ...]):
    """What `Model.step` returns when the operation may leave the object in several states."""

    __slots__ = ()


class Model:
    """A sequential object. States must be hashable and never change in place.

    Only `initial` and `step` are needed. The rest has answers that are right for most objects.
    """

    name = "model"

    def initial(self) -> Hashable:
        """The state before the first operation."""
        raise NotImplementedError

    def step(self, state: Any, op: Operation) -> Hashable:
        """Apply ``op`` in ``state``.

        Returns the next state, a `Choice` of states, or `ILLEGAL` if the result that the client
        saw is impossible. When ``op.outcome`` is ``unknown`` there is no result to compare with:
        say only what the operation would do, since the search already tries leaving it out.
        """
        raise NotImplementedError

    def admits(self, op: Operation) -> bool:
        """Whether ``op`` says anything about the object. Failed operations mostly do not."""
        return op.outcome is not Outcome.FAIL

    def reads_only(self, op: Operation) -> bool:
        """Whether ``op`` never changes the state."""
        return False

    def reachable(self, state: Any, read: Operation) -> bool:
        """Whether ``read`` may yet become legal without an operation that `overwrites`.

        Saying True is always right. Saying False where it is so lets the search give up early.
        """
        return True

    def overwrites(self, op: Operation, read: Operation) -> bool:
        """Whether ``op``, taking effect before ``read``, might undo what `reachable` found."""
        return not self.reads_only(op)

    def partition(self, op: Operation) -> Hashable:
        """Objects that share nothing may be judged one by one: which one is this about?"""
        return None

    def signature(self, op: Operation) -> Hashable:
        """What `step` looks at. Equal signatures must mean equal steps from every state."""
        return (op.function, freeze(op.value), freeze(op.result), op.outcome)

    def tell(self, op: Operation) -> str:
        """The operation as a person would write it."""
        asked = "" if op.value is None else clip(show(op.value))
        if op.outcome is Outcome.OK:
            return f"{op.function}({asked}) -> {clip(show(op.result))}"
        return f"{op.function}({asked}) -> {op.outcome}"

    def tell_state(self, state: Any) -> str:
        """The state as a person would write it."""
        return clip(show(state), 120)

    def refuse(self, op: Operation, expected: str) -> InvalidInput:
        """The error for an operation that this object does not have."""
        return InvalidInput(
            f"{op.function} of {show(op.value)} is no operation of a {self.name}",
            where=f"line {op.line}" if op.line else f"operation {op.id}",
            remedy=f"Expected {expected}.",
        )

    def why(self, state: Any, op: Operation) -> str:
        """What ``op`` contradicts in ``state``, where `step` says `ILLEGAL`."""
        return f"{self.tell(op)} is impossible when the state is {self.tell_state(state)}"
