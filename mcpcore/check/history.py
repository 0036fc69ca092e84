"""What happened, as the clients saw it: operations with a call, a return and an outcome.

This module exists so that every judge reads the same nouns, whether a history came from the
simulator, from real processes or from another project's file. Plain data and the pairing of calls
with returns; it judges nothing. It must never read a file, a clock or a socket, and never guess:
an outcome that is not known stays ``unknown`` for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from mcpcore.errors import InvalidInput

BEFORE_THE_LOG = -1
"""The ``called`` of an operation whose call the log does not show."""


class Outcome(StrEnum):
    """What is known about an operation once everybody stopped."""

    OK = "ok"
    """It took effect between its call and its return."""
    FAIL = "fail"
    """It did not take effect and never will."""
    UNKNOWN = "unknown"
    """It may have taken effect at any time after its call, may still do so, or never."""


class LogPosition(NamedTuple):
    """Where the replicated log holds an operation. Positions of one group order by index."""

    group: str
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client.

    Args:
        id: position in the history, in order of call; unique.
        process: who asked. A process has one operation open at a time.
        function: what was asked: ``read``, ``write``, ``cas``, ``txn``...
        value: the argument of the call.
        result: what came back; meaningful only when the outcome is ``ok``.
        called: place of the call among all events of the history.
        returned: place of the return, or None while the outcome is unknown.
        called_ns: when it was called; for people, never for order.
        returned_ns: when the client stopped waiting, if it did.
        key: the object asked about, where the history has several.
        position: where the log holds it, if somebody knows.
        error: what the client was told instead of a result.
        line: the line of the file it came from; 0 if from none.
    """

    id: int
    process: int | str
    function: str
    value: Any
    result: Any
    outcome: Outcome
    called: int
    returned: int | None
    called_ns: int = 0
    returned_ns: int | None = None
    key: Any = None
    position: LogPosition | None = None
    error: Any = None
    line: int = 0

    def precedes(self, other: Operation) -> bool:
        """Whether this one had returned when ``other`` was called: real-time order."""
        return self.returned is not None and self.returned < other.called


class FaultWindow(NamedTuple):
    """A fault that somebody injected, for shading; ``ended_ns`` is None if it never ended."""

    name: str
    started_ns: int
    ended_ns: int | None
    text: str = ""


class History:
    """Operations in order of call, and the faults injected meanwhile. Immutable.

    Raises:
        InvalidInput: two operations share an id, or a process has two operations open.
    """

    __slots__ = ("faults", "operations")

    def __init__(self, operations: Iterable[Operation], faults: Iterable[FaultWindow] = ()) -> None:
        self.operations = tuple(sorted(operations, key=lambda op: (op.called, op.id)))
        self.faults = tuple(faults)
        if len({op.id for op in self.operations}) != len(self.operations):
            raise InvalidInput("two operations have the same id", where="history")

    @classmethod
    def timed(cls, operations: Iterable[Operation], faults: Iterable[FaultWindow] = ()) -> History:
        """A history whose order is its times: ``called`` and ``returned`` are worked out here.

        Intervals are closed: an operation called in the very nanosecond in which another returned
        overlaps it, since nobody can tell which came first.
        """
        ops = list(operations)
        events: list[tuple[int, int, int]] = []
        for at, op in enumerate(ops):
            events.append((op.called_ns, 0, at))
            if op.outcome is Outcome.UNKNOWN:
                continue
            if op.returned_ns is None or op.returned_ns < op.called_ns:
                raise InvalidInput(
                    f"operation {op.id} returned at {op.returned_ns} but was called at "
                    f"{op.called_ns}",
                    where="history",
                    remedy="Give every operation with a known outcome a return time not before "
                    "its call time.",
                )
            events.append((op.returned_ns, 1, at))
        called: dict[int, int] = {}
        returned: dict[int, int] = {}
        for place, (_, kind, at) in enumerate(sorted(events)):
            (returned if kind else called)[at] = place
        return cls(
            (
                replace(op, called=called[at], returned=returned.get(at))
                for at, op in enumerate(ops)
            ),
            faults,
        )

    def __len__(self) -> int:
        return len(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __repr__(self) -> str:
        counts = dict.fromkeys(Outcome, 0)
        for op in self.operations:
            counts[op.outcome] += 1
        told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        return f"History({len(self.operations)} operations: {told})"

    def where(self, keep: Callable[[Operation], bool]) -> History:
        """The operations that ``keep`` accepts, with all the faults."""
        return History((op for op in self.operations if keep(op)), self.faults)

    def placed(self, positions: Mapping[int, LogPosition], *, log_is_complete: bool) -> History:
        """Resolve what the clients could not know by what the log knows.

        An operation found in the log took effect; with ``log_is_complete``, an unknown operation
        that has no position never did and becomes ``fail``.

        Args:
            positions: operation id to its place in the committed log.
            log_is_complete: the log was read after everything had settled, up to its end, and
                ``positions`` names every operation in it.
        """
        resolved = []
        after_all = 1 + max((max(op.called, op.returned or 0) for op in self), default=0)
        for op in self.operations:
            position = positions.get(op.id)
            if position is not None:
                resolved.append(replace(op, position=position))
            elif log_is_complete and op.outcome is Outcome.UNKNOWN:
                # It returns when everything else has: a failed operation constrains nothing.
                resolved.append(
                    replace(op, outcome=Outcome.FAIL, error="not in the log", returned=after_all)
                )
                after_all += 1
            else:
                resolved.append(op)
        return History(resolved, self.faults)

    def by_process(self) -> dict[int | str, list[Operation]]:
        """Each client's operations in order: sessions."""
        sessions: dict[int | str, list[Operation]] = {}
        for op in self.operations:
            sessions.setdefault(op.process, []).append(op)
        for session in sessions.values():
            if any(op.called == BEFORE_THE_LOG for op in session):
                session.sort(key=_when_seen)
        return sessions

    def check(self) -> None:
        """Every promise a history makes about itself."""
        for op in self.operations:
            if op.returned is not None:
                assert op.called < op.returned, f"operation {op.id} returned before its call"
            known = op.outcome is not Outcome.UNKNOWN
            assert known == (op.returned is not None), f"operation {op.id}: {op.outcome}"
        for process, session in self.by_process().items():
            for before, after in pairwise(session):
                if before.outcome is not Outcome.UNKNOWN and after.called != BEFORE_THE_LOG:
                    assert before.precedes(after), f"process {process} did two things at once"


def _when_seen(op: Operation) -> tuple[int, int]:
    seen = op.returned if op.called == BEFORE_THE_LOG and op.returned is not None else op.called
    return seen, op.id


class _Open(NamedTuple):
    id: int
    function: str
    value: Any
    key: Any
    called: int
    called_ns: int
    line: int


class Recorder:
    """Pairs calls with returns as they come, and hands out the history.

    Every method takes the time as a number: a recorder has no clock. A process that went away with
    its operation open simply never returns; its operation ends as ``unknown``.
    """

    def __init__(self) -> None:
        self._open: dict[int | str, _Open] = {}
        self._done: list[Operation] = []
        self._faults: list[FaultWindow] = []
        self._events = 0
        self._ids = 0

    def invoke(
        self,
        process: int | str,
        function: str,
        value: Any = None,
        *,
        time_ns: int = 0,
        key: Any = None,
        line: int = 0,
    ) -> int:
        """A process calls. Returns the operation's id.

        Raises:
            InvalidInput: the process still waits for its last operation.
        """
        earlier = self._open.get(process)
        if earlier is not None:
            raise InvalidInput(
                f"process {process} calls {function} while its {earlier.function}"
                + (f" of line {earlier.line}" if earlier.line else "")
                + " is still open",
                where=f"line {line}" if line else f"operation {self._ids}",
                remedy="A process does one thing at a time; give each client its own process.",
            )
        self._open[process] = _Open(self._ids, function, value, key, self._events, time_ns, line)
        self._events += 1
        self._ids += 1
        return self._ids - 1

    def complete(
        self,
        process: int | str,
        outcome: Outcome,
        result: Any = None,
        *,
        time_ns: int = 0,
        position: LogPosition | None = None,
        error: Any = None,
        function: str | None = None,
        value: Any = None,
        key: Any = None,
        line: int = 0,
    ) -> None:
        """A process learns how its operation ended.

        A return without a call is an operation that was called before the log begins; it then
        needs ``function``, and takes ``value`` for its argument.

        Raises:
            InvalidInput: the return names another function than the call, or a return without a
                call names none.
        """
        called = self._open.pop(process, None)
        if called is None:
            if function is None:
                raise InvalidInput(
                    f"process {process} returns but called nothing",
                    where=f"line {line}" if line else f"event {self._events}",
                    remedy="Record the call first.",
                )
            called = _Open(self._ids, function, value, key, BEFORE_THE_LOG, time_ns, line)
            self._ids += 1
        elif function is not None and function != called.function:
            raise InvalidInput(
                f"process {process} returns from {function} but had called {called.function}",
                where=f"line {line}" if line else f"event {self._events}",
            )
        known = outcome is not Outcome.UNKNOWN
        self._done.append(
            Operation(
                id=called.id,
                process=process,
                function=called.function,
                value=called.value,
                result=result if outcome is Outcome.OK else None,
                outcome=outcome,
                called=called.called,
                returned=self._events if known else None,
                called_ns=called.called_ns,
                returned_ns=time_ns,
                key=called.key,
                position=position,
                error=error,
                line=called.line,
            )
        )
        self._events += 1

    def ok(self, process: int | str, result: Any = None, **facts: Any) -> None:
        """The operation took effect; see `complete` for the facts it may carry."""
        self.complete(process, Outcome.OK, result, **facts)

    def fail(self, process: int | str, **facts: Any) -> None:
        """The operation did not take effect and never will."""
        self.complete(process, Outcome.FAIL, **facts)

    def unknown(self, process: int | str, **facts: Any) -> None:
        """Nobody knows, and the client stopped waiting."""
        self.complete(process, Outcome.UNKNOWN, **facts)

    def fault(
        self, name: str, *, started_ns: int, ended_ns: int | None = None, text: str = ""
    ) -> None:
        """A fault was injected from one time to another."""
        self._faults.append(FaultWindow(name, started_ns, ended_ns, text))

    def is_open(self, process: int | str) -> bool:
        """Whether ``process`` waits for a return."""
        return process in self._open

    def history(self) -> History:
        """Everything so far; what is still open has an unknown outcome."""
        still_open = [
            Operation(
                id=called.id,
                process=process,
                function=called.function,
                value=called.value,
                result=None,
                outcome=Outcome.UNKNOWN,
                called=called.called,
                returned=None,
                called_ns=called.called_ns,
                key=called.key,
                line=called.line,
            )
            for process, called in self._open.items()
        ]
        return History([*self._done, *still_open], self._faults)


_ATOMS = frozenset((int, str, type(None), float, bytes))


def freeze(value: Any) -> Hashable:
    """A hashable stand-in that is equal exactly when the values are equal."""
    if value.__class__ in _ATOMS:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return frozenset(freeze(item) for item in value)
    if isinstance(value, Mapping):
        return ("map", frozenset((freeze(k), freeze(v)) for k, v in value.items()))
    if isinstance(value, bool):
        return ("bool", value)  # in Python True == 1; in a history they are different answers
    if isinstance(value, bytearray):
        return bytes(value)
    return value  # type: ignore[no-any-return]


def show(value: Any) -> str:
    """A value for people: short, and the same on every run."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if type(value) is not str else f"'{value}'"
    if isinstance(value, (set, frozenset)):
        return "{" + " ".join(sorted((show(item) for item in value), key=_natural)) + "}"
    if isinstance(value, Mapping):
        pairs = (f"{show(k)}: {show(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)


def _natural(text: str) -> tuple[int, str]:
    return len(text), text


def clip(text: str, limit: int = 60) -> str:
    """Text cut in the middle if it is long: both ends tell more than one."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
