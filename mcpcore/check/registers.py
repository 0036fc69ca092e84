"""Registers and maps of registers, alone and many at once.

This module exists so that the usual checks need no code. Where tools differ in what an operation
means, the difference is an option here with its name in the docstring, never a silent choice. It
must never know how a model is searched.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

from mcpcore.check.history import Operation, Outcome, clip, freeze, show
from mcpcore.check.model import ILLEGAL, Model

NilReads = Literal["absent", "unknown"]
FailedCas = Literal["evidence", "ignored"]


def _pair(model: Model, op: Operation) -> tuple[Hashable, Hashable]:
    if not isinstance(op.value, (list, tuple)) or len(op.value) != 2:
        raise model.refuse(op, "a pair [from to]")
    return freeze(op.value[0]), freeze(op.value[1])


def _compared_unequal(op: Operation) -> bool:
    """Whether a comparison is known to have failed; what an unknown one returned means nothing."""
    return op.outcome is Outcome.FAIL or (op.outcome is Outcome.OK and op.result is False)


class Register(Model):
    """A value that ``write`` sets and ``read`` returns.

    Args:
        initial: what it holds at first; None is "absent".
        nil_reads: what a successful read of nil says: the value was ``absent`` (etcd's logs as
            Porcupine reads them), or the client does not know what it read (Knossos).
    """

    name = "register"

    def __init__(self, initial: Any = None, *, nil_reads: NilReads = "absent") -> None:
        self._initial = freeze(initial)
        self.nil_reads = nil_reads

    def initial(self) -> Hashable:
        """The initial value."""
        return self._initial

    def step(self, state: Any, op: Operation) -> Hashable:
        """``read`` or ``write``."""
        if op.function in ("write", "put"):
            return freeze(op.value)
        if op.function in ("read", "get"):
            if op.outcome is Outcome.UNKNOWN or freeze(op.result) == state:
                return state  # type: ignore[no-any-return]
            if op.result is None and self.nil_reads == "unknown":
                return state  # type: ignore[no-any-return]
            return ILLEGAL
        raise self.refuse(op, "read or write")

    def reads_only(self, op: Operation) -> bool:
        """A read changes nothing."""
        return op.function in ("read", "get")

    def reachable(self, state: Any, read: Operation) -> bool:
        """What it holds stays until somebody writes."""
        return freeze(read.result) == state or (read.result is None and self.nil_reads == "unknown")

    def overwrites(self, op: Operation, read: Operation) -> bool:
        """A write, or the new value of a comparison, that gives what was read."""
        if self.reads_only(op):
            return False
        written = _pair(self, op)[1] if op.function == "cas" else freeze(op.value)
        return written == freeze(read.result)

    def signature(self, op: Operation) -> Hashable:
        """Reads differ by what they saw, everything else by what it was asked to do."""
        if op.function == "cas":
            return ("cas", freeze(op.value), op.outcome, _compared_unequal(op))
        if self.reads_only(op):
            return ("read", freeze(op.result), op.outcome)
        return (op.function, freeze(op.value))

    def tell(self, op: Operation) -> str:
        """``read() -> 3``, ``write(3)``."""
        if self.reads_only(op):
            seen = clip(show(op.result)) if op.outcome is Outcome.OK else op.outcome.value
            return f"{op.function}() -> {seen}"
        ending = "" if op.outcome is Outcome.OK else f" -> {op.outcome}"
        return f"{op.function}({clip(show(op.value))}){ending}"

    def why(self, state: Any, op: Operation) -> str:
        """A read contradicts what the register holds."""
        return f"{self.tell(op)}, but the {self.name} holds {self.tell_state(state)}"


class CasRegister(Register):
    """A register that ``cas [from to]`` changes only if it holds ``from``.

    Args:
        initial: what it holds at first.
        nil_reads: as for `Register`.
        failed_cas: whether a compare-and-set that failed without an error is ``evidence`` that the
            register did not hold ``from`` (Porcupine), or is ``ignored`` (Knossos).
    """

    name = "cas-register"

    def __init__(
        self,
        initial: Any = None,
        *,
        nil_reads: NilReads = "absent",
        failed_cas: FailedCas = "evidence",
    ) -> None:
        super().__init__(initial, nil_reads=nil_reads)
        self.failed_cas = failed_cas

    def admits(self, op: Operation) -> bool:
        """Failed operations say nothing, except a failed comparison where it is evidence."""
        if op.outcome is not Outcome.FAIL:
            return True
        return self.failed_cas == "evidence" and op.function == "cas" and op.error is None

    def step(self, state: Any, op: Operation) -> Hashable:
        """``read``, ``write`` or ``cas``."""
        if op.function != "cas":
            return super().step(state, op)
        old, new = _pair(self, op)
        if _compared_unequal(op):
            return ILLEGAL if state == old else state
        if state == old:
            return new
        return state if op.outcome is Outcome.UNKNOWN else ILLEGAL

    def reads_only(self, op: Operation) -> bool:
        """A read, or a comparison that failed: it only says what the value was not."""
        return super().reads_only(op) or (op.function == "cas" and _compared_unequal(op))

    def reachable(self, state: Any, read: Operation) -> bool:
        """Almost any write makes a comparison fail."""
        return read.function == "cas" or super().reachable(state, read)

    def tell(self, op: Operation) -> str:
        """``cas(1 to 2) -> ok``."""
        if op.function != "cas":
            return super().tell(op)
        old, new = _pair(self, op)
        ended = Outcome.FAIL if _compared_unequal(op) else op.outcome
        return f"cas({show(old)} to {show(new)}) -> {ended}"

    def why(self, state: Any, op: Operation) -> str:
        """A comparison that should have come out the other way."""
        if op.function != "cas":
            return super().why(state, op)
        return f"{self.tell(op)}, but the register holds {self.tell_state(state)}"


class KeyValue(CasRegister):
    """Independent keys with ``get``, ``put``, ``append``, ``delete`` and ``cas``; judged per key.

    Args:
        absent: what ``get`` returns for a key that was never put: None, or ``""`` for stores that
            do not tell absent from empty (Porcupine's key-value logs).
        nil_reads: as for `Register`.
        failed_cas: as for `CasRegister`.
    """

    name = "key-value"

    def __init__(
        self,
        *,
        absent: Any = None,
        nil_reads: NilReads = "absent",
        failed_cas: FailedCas = "evidence",
    ) -> None:
        super().__init__(absent, nil_reads=nil_reads, failed_cas=failed_cas)

    def partition(self, op: Operation) -> Hashable:
        """Keys share nothing."""
        return freeze(op.key)

    def step(self, state: Any, op: Operation) -> Hashable:
        """The register's operations, ``append`` to a string or list, and ``delete``."""
        if op.function == "append":
            if state is None:
                return freeze(op.value)
            if isinstance(state, str) and isinstance(op.value, str):
                return state + op.value
            if isinstance(state, tuple) and isinstance(op.value, (list, tuple)):
                return (*state, *(freeze(item) for item in op.value))
            raise self.refuse(op, f"something to append to {show(state)}")
        if op.function == "delete":
            return self._initial
        return super().step(state, op)

    def reachable(self, state: Any, read: Operation) -> bool:
        """Appends only ever make a value longer."""
        if read.function == "cas":
            return True
        seen = freeze(read.result)
        if isinstance(state, str) and isinstance(seen, str):
            return seen.startswith(state)
        if isinstance(state, tuple) and isinstance(seen, tuple):
            return seen[: len(state)] == state
        return state is None or super().reachable(state, read)

    def overwrites(self, op: Operation, read: Operation) -> bool:
        """Everything but appends and reads, if it leaves a beginning of what was read."""
        if op.function == "append" or self.reads_only(op):
            return False
        if op.function in ("put", "write"):
            return self.reachable(freeze(op.value), read)
        if op.function == "cas":
            return self.reachable(_pair(self, op)[1], read)
        return True

    def tell(self, op: Operation) -> str:
        """``put(k, 3)``, ``get(k) -> 3``."""
        key = show(op.key)
        if op.function == "cas":
            return super().tell(op).replace("cas(", f"cas({key}: ", 1)
        if self.reads_only(op):
            return super().tell(op).replace("()", f"({key})", 1)
        ending = "" if op.outcome is Outcome.OK else f" -> {op.outcome}"
        if op.function == "delete":
            return f"delete({key}){ending}"
        return f"{op.function}({key}, {clip(show(op.value))}){ending}"

    def why(self, state: Any, op: Operation) -> str:
        """What the key holds instead."""
        return f"{self.tell(op)}, but {show(op.key)} holds {self.tell_state(state)}"


class MultiRegister(Model):
    """Several registers read and written together by one atomic operation.

    The value (and for reads the result) of an operation is a list of ``[f key value]`` with ``f``
    one of ``read``/``r`` and ``write``/``w``, or a map of key to value for functions ``read`` and
    ``write``. A read of nil is "the client does not know" when ``nil_reads`` says so.
    """

    name = "multi-register"

    def __init__(
        self, initial: Mapping[Any, Any] | None = None, *, nil_reads: NilReads = "absent"
    ) -> None:
        held = {freeze(k): freeze(v) for k, v in (initial or {}).items()}
        self._initial = frozenset(held.items())
        self.nil_reads = nil_reads

    def initial(self) -> Hashable:
        """The initial values."""
        return self._initial

    def _steps(self, op: Operation) -> list[tuple[bool, Hashable, Hashable]]:
        content = op.result if op.outcome is Outcome.OK and op.result is not None else op.value
        if isinstance(content, Mapping):
            reads = op.function in ("read", "r")
            return [(reads, freeze(k), freeze(v)) for k, v in content.items()]
        if not isinstance(content, (list, tuple)):
            raise self.refuse(op, "a list of [f key value]")
        steps = []
        for item in content:
            if not isinstance(item, (list, tuple)) or len(item) not in (2, 3):
                raise self.refuse(op, "a list of [f key value]")
            if item[0] not in ("read", "r", "write", "w"):
                raise self.refuse(op, "[f key value] with f one of read, r, write, w")
            value = item[2] if len(item) == 3 else None
            steps.append((item[0] in ("read", "r"), freeze(item[1]), freeze(value)))
        return steps

    def step(self, state: Any, op: Operation) -> Hashable:
        """All reads and writes of one operation, in their order."""
        held = dict(state)
        for reads, key, value in self._steps(op):
            if not reads:
                held[key] = value
            elif op.outcome is not Outcome.UNKNOWN and held.get(key) != value:
                if value is None and self.nil_reads == "unknown":
                    continue
                return ILLEGAL
        return frozenset(held.items())

    def reads_only(self, op: Operation) -> bool:
        """Nothing but reads."""
        return all(reads for reads, _, _ in self._steps(op))

    def tell_state(self, state: Any) -> str:
        """``{x: 1, y: 2}``."""
        return clip(show(dict(sorted(state, key=lambda pair: show(pair[0])))), 120)
