"""Histories for tests: told in one line, made from a true execution, or drawn by Hypothesis.

The oracle here tries every order of every subset. It shares no line with the judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, permutations
from random import Random
from typing import Any

from hypothesis import strategies as st

from mcpcore.check.history import History, Operation, Outcome, Recorder
from mcpcore.check.model import ILLEGAL, Choice, Model

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def told(*events: tuple[Any, ...]) -> History:
    """Events as (process, "invoke" | "ok" | "fail" | "unknown", function, value[, key])."""
    recorder = Recorder()
    for at, (process, kind, function, value, *rest) in enumerate(events):
        if kind == "invoke":
            key = rest[0] if rest else None
            recorder.invoke(process, function, value, key=key, time_ns=at * 1000)
        else:
            outcome = Outcome(kind)
            key = rest[0] if rest else None
            recorder.complete(
                process, outcome, value, function=function, value=value, key=key, time_ns=at * 1000
            )
    return recorder.history()


def in_turn(*operations: tuple[Any, ...]) -> History:
    """Operations one after the other: (process, function, value, result)."""
    recorder = Recorder()
    for at, (process, function, value, result) in enumerate(operations):
        recorder.invoke(process, function, value, time_ns=2000 * at)
        recorder.ok(process, result, time_ns=2000 * at + 1000)
    return recorder.history()


def linearizable_by_brute_force(history: History, model: Model) -> bool:
    """Every order of every choice of operations that respects real time, one by one."""
    admitted = [op for op in history if model.admits(op)]
    must = [op for op in admitted if op.outcome is not UNKNOWN]
    may = [op for op in admitted if op.outcome is UNKNOWN]
    for size in range(len(may) + 1):
        for chosen in combinations(may, size):
            for order in permutations([*must, *chosen]):
                if _respects_real_time(order) and _explains(model, order):
                    return True
    return False


def _respects_real_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.precedes(earlier) for at, earlier in enumerate(order) for later in order[at + 1 :]
    )


def _explains(model: Model, order: Iterable[Operation]) -> bool:
    states = {model.initial()}
    for op in order:
        reached = set()
        for state in states:
            after = model.step(state, op)
            if after is ILLEGAL:
                continue
            reached.update(after if isinstance(after, Choice) else (after,))
        states = reached
    return bool(states)


def explains(model: Model, history: History, order: Sequence[int]) -> bool:
    """Whether the ids in ``order`` are a linearization of everything that has to be in one."""
    by_id = {op.id: op for op in history}
    ops = [by_id[i] for i in order]
    needed = {op.id for op in history if op.outcome is not UNKNOWN and model.admits(op)}
    return (
        needed <= set(order)
        and len(set(order)) == len(order)
        and _respects_real_time(ops)
        and _explains(model, ops)
    )


CALLS: dict[str, Callable[[Random], tuple[str, Any]]] = {
    "register": lambda r: r.choice([("read", None), ("write", r.randrange(3))]),
    "cas-register": lambda r: r.choice(
        [("read", None), ("write", r.randrange(3)), ("cas", (r.randrange(3), r.randrange(3)))]
    ),
    "key-value": lambda r: r.choice(
        [("get", None), ("put", r.choice("ab")), ("append", r.choice("ab")), ("delete", None)]
    ),
    "mutex": lambda r: r.choice([("acquire", None), ("release", None)]),
    "fifo-queue": lambda r: r.choice([("enqueue", r.randrange(3)), ("dequeue", None)]),
    "unordered-queue": lambda r: r.choice([("enqueue", r.randrange(3)), ("dequeue", None)]),
    "set": lambda r: r.choice(
        [("add", r.randrange(3)), ("remove", r.randrange(3)), ("read", None)]
    ),
    "counter": lambda r: r.choice([("add", r.randrange(1, 3)), ("add", -1), ("read", None)]),
}


class Real:
    """A correct implementation of every object, to make true histories with."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.held: Any = {
            "fifo-queue": [], "unordered-queue": [], "set": set(), "counter": 0,
        }.get(kind)  # fmt: skip

    def apply(self, process: int, function: str, value: Any) -> tuple[bool, Any]:
        """Returns whether it worked, and the answer."""
        held = self.held
        match function:
            case "read" | "get":
                return True, sorted(held) if self.kind == "set" else held
            case "write" | "put":
                self.held = value
            case "delete":
                self.held = None
            case "append":
                self.held = (held or "") + value
            case "cas":
                if held != value[0]:
                    return False, None
                self.held = value[1]
            case "acquire":
                if held is not None:
                    return False, None
                self.held = process
            case "release":
                if held is None:
                    return False, None
                self.held = None
            case "enqueue":
                held.append(value)
            case "dequeue":
                if self.kind == "fifo-queue" or not held:
                    return True, held.pop(0) if held else None
                return True, held.pop(len(held) // 2)
            case "add":
                if self.kind == "counter":
                    self.held += value
                else:
                    held.add(value)
            case "remove":
                held.discard(value)
        return True, value


def true_history(
    kind: str, random: Random, operations: int, clients: int = 4, lose: float = 0.1
) -> History:
    """A history of a correct object: every operation takes effect at one moment while it is open.

    Of the operations whose client gives up, some take effect before that, some long after it, and
    some never.
    """
    recorder, real = Recorder(), Real(kind)
    idle = list(range(clients))
    waiting: list[tuple[int, str, Any]] = []
    answered: list[tuple[int, bool, Any]] = []
    orphans: list[tuple[int, str, Any]] = []
    started, fresh, now = 0, clients, 0
    while started < operations or waiting or answered:
        now += 1000
        action = random.random()
        if started < operations and idle and action < 0.4:
            process = idle.pop(random.randrange(len(idle)))
            function, value = CALLS[kind](random)
            recorder.invoke(process, function, value, time_ns=now)
            waiting.append((process, function, value))
            started += 1
        elif waiting and action < 0.7:
            process, function, value = waiting.pop(random.randrange(len(waiting)))
            if random.random() < lose:
                if random.random() < 0.5:
                    recorder.unknown(process, time_ns=now)
                orphans.append((process, function, value))
                idle.append(fresh)
                fresh += 1
            else:
                answered.append((process, *real.apply(process, function, value)))
        elif answered and action < 0.95:
            process, worked, answer = answered.pop(random.randrange(len(answered)))
            idle.append(process)
            if worked:
                recorder.ok(process, answer, time_ns=now)
            else:
                recorder.fail(process, time_ns=now)
        elif orphans:
            process, function, value = orphans.pop(random.randrange(len(orphans)))
            if random.random() < 0.7:
                real.apply(process, function, value)
    return recorder.history()


def small_histories(kind: str) -> st.SearchStrategy[History]:
    """Any history at all of at most six operations, mostly wrong ones."""
    return st.builds(
        _random_history, st.just(kind), st.randoms(use_true_random=False), st.integers(1, 6)
    )


def _random_history(kind: str, random: Random, operations: int) -> History:
    recorder = Recorder()
    open_calls: list[tuple[int, str, Any]] = []
    process = 0
    started = 0
    while started < operations or open_calls:
        if started < operations and (not open_calls or random.random() < 0.5):
            function, value = CALLS[kind](random)
            recorder.invoke(process, function, value)
            open_calls.append((process, function, value))
            process += 1
            started += 1
        else:
            who, function, value = open_calls.pop(random.randrange(len(open_calls)))
            outcome = random.choices([OK, FAIL, UNKNOWN], [8, 1, 2])[0]
            recorder.complete(who, outcome, _any_answer(kind, random, function, value))
    return recorder.history()


def _any_answer(kind: str, random: Random, function: str, value: Any) -> Any:
    match kind, function:
        case "set", "read":
            return [n for n in range(3) if random.random() < 0.5]
        case "counter", "read":
            return random.randrange(-1, 4)
        case "key-value", "get":
            return random.choice([None, "a", "b", "ab", "ba", "aa", "bb"])
        case _, "read" | "dequeue":
            return random.choice([None, 0, 1, 2])
    return value
