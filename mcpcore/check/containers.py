"""Locks, queues, sets and counters as sequential objects.

This module exists so that the usual checks need no code. It must never know how a model is
searched.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from mcpcore.check.history import Operation, Outcome, freeze, show
from mcpcore.check.model import ILLEGAL, Choice, Model


class Mutex(Model):
    """A lock that one client at a time holds.

    Args:
        owned: only the holder may release. Without it, anybody may (Knossos's mutex).
    """

    name = "mutex"

    def __init__(self, *, owned: bool = False) -> None:
        self.owned = owned

    def initial(self) -> Hashable:
        """Free."""
        return None

    def step(self, state: Any, op: Operation) -> Hashable:
        """``acquire`` or ``release``."""
        if op.function == "acquire":
            return ILLEGAL if state is not None else (op.process if self.owned else "held")
        if op.function == "release":
            if state is None or (self.owned and state != op.process):
                return ILLEGAL
            return None
        raise self.refuse(op, "acquire or release")

    def signature(self, op: Operation) -> Hashable:
        """Who asks matters only where locks have owners."""
        return (op.function, op.process if self.owned else None)

    def tell(self, op: Operation) -> str:
        """``acquire by 3``."""
        ending = "" if op.outcome is Outcome.OK else f" -> {op.outcome}"
        return f"{op.function} by {op.process}{ending}"

    def tell_state(self, state: Any) -> str:
        """``free`` or who holds it."""
        if state is None:
            return "free"
        return f"held by {state}" if self.owned else "held"


class FifoQueue(Model):
    """A queue: ``dequeue`` returns what was enqueued first; nil means that it was empty."""

    name = "fifo-queue"

    def initial(self) -> Hashable:
        """Empty."""
        return ()

    def step(self, state: Any, op: Operation) -> Hashable:
        """``enqueue`` or ``dequeue``."""
        if op.function == "enqueue":
            return (*state, freeze(op.value))
        if op.function == "dequeue":
            if op.outcome is Outcome.UNKNOWN:
                return state[1:]  # type: ignore[no-any-return]
            if op.result is None:
                return ILLEGAL if state else state
            return state[1:] if state and state[0] == freeze(op.result) else ILLEGAL
        raise self.refuse(op, "enqueue or dequeue")


class UnorderedQueue(Model):
    """A bag: ``dequeue`` returns anything that is in it; nil means that it was empty."""

    name = "unordered-queue"

    def initial(self) -> Hashable:
        """Empty."""
        return frozenset()

    def step(self, state: Any, op: Operation) -> Hashable:
        """``enqueue`` or ``dequeue``."""
        held = dict(state)
        if op.function == "enqueue":
            value = freeze(op.value)
            held[value] = held.get(value, 0) + 1
            return frozenset(held.items())
        if op.function != "dequeue":
            raise self.refuse(op, "enqueue or dequeue")
        if op.outcome is Outcome.UNKNOWN:
            return Choice(_without(held, value) for value in held) if held else state
        if op.result is None:
            return ILLEGAL if held else state
        value = freeze(op.result)
        return _without(held, value) if value in held else ILLEGAL

    def tell_state(self, state: Any) -> str:
        """The values, each as often as it is in there."""
        return show(sorted(show(v) for v, n in state for _ in range(n)))


def _without(held: Mapping[Hashable, int], value: Hashable) -> Hashable:
    left = dict(held)
    left[value] -= 1
    if not left[value]:
        del left[value]
    return frozenset(left.items())


class Set(Model):
    """A set with ``add``, ``remove`` and a ``read`` of all its elements."""

    name = "set"

    def initial(self) -> Hashable:
        """Empty."""
        return frozenset()

    def step(self, state: Any, op: Operation) -> Hashable:
        """``add``, ``remove`` or ``read``."""
        if op.function == "add":
            return state | {freeze(op.value)}  # type: ignore[no-any-return]
        if op.function == "remove":
            return state - {freeze(op.value)}  # type: ignore[no-any-return]
        if op.function == "read":
            if op.outcome is Outcome.UNKNOWN or op.result is None:
                return state  # type: ignore[no-any-return]
            seen = [freeze(item) for item in op.result]
            same = len(seen) == len(state) and frozenset(seen) == state
            return state if same else ILLEGAL
        raise self.refuse(op, "add, remove or read")

    def reachable(self, state: Any, read: Operation) -> bool:
        """What is in the set stays until somebody removes it."""
        return read.result is None or state <= freeze(set(map(freeze, read.result)))

    def overwrites(self, op: Operation, read: Operation) -> bool:
        """Only a removal takes something out."""
        return op.function == "remove"

    def reads_only(self, op: Operation) -> bool:
        """A read changes nothing."""
        return op.function == "read"


class Counter(Model):
    """A number with ``add n``, ``increment``, ``decrement`` and ``read``."""

    name = "counter"

    def __init__(self, initial: int = 0) -> None:
        self._initial = initial

    def initial(self) -> Hashable:
        """Where it starts."""
        return self._initial

    def step(self, state: Any, op: Operation) -> Hashable:
        """``add``, ``increment``, ``decrement`` or ``read``."""
        if op.function == "read":
            if op.outcome is Outcome.UNKNOWN or op.result in (None, state):
                return state  # type: ignore[no-any-return]
            return ILLEGAL
        sign = {"add": 1, "increment": 1, "decrement": -1}.get(op.function)
        if sign is None:
            raise self.refuse(op, "add, increment, decrement or read")
        amount = 1 if op.value is None else op.value
        if not isinstance(amount, int):
            raise self.refuse(op, "a whole number")
        return state + sign * amount  # type: ignore[no-any-return]

    def reachable(self, state: Any, read: Operation) -> bool:
        """A counter that nobody lowers only grows."""
        return read.result is None or state <= read.result

    def overwrites(self, op: Operation, read: Operation) -> bool:
        """Only what lowers it."""
        if op.function == "add":
            return isinstance(op.value, int) and op.value < 0
        return op.function == "decrement"

    def signature(self, op: Operation) -> Hashable:
        """What an ``add`` returns says nothing."""
        result = freeze(op.result) if op.function == "read" else None
        return (op.function, op.value, result, op.outcome)

    def reads_only(self, op: Operation) -> bool:
        """A read changes nothing."""
        return op.function == "read"
