"""Sagas: three steps with effects in the cluster, run by engines that die in the middle.

This module exists to put the saga engine under faults, its journal and its effects included: steps
that time out, answers that get lost, engines that are gone and taken over from. What really
happened is read from the cluster in the end; the judge is ``mcpcore.check.sagas``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from mcpcore.check import LogPosition
from mcpcore.clock import Interval
from mcpcore.errors import StepFailed
from mcpcore.experiment.workloads.saga_journal import KeyValueJournal
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.work import Ask, Lane
from mcpcore.node.kv.commands import Compare, Get, Put, Relation, Target
from mcpcore.saga import Call, Outcome, Retry, Saga, SagaEngine, Step

_STEPS: Final = ("flight", "hotel", "card")
_FAILING: Final = 0.3
"""Share of the sagas of which a step fails for certain."""
_DYING: Final = 0.3
"""Share of the sagas whose engine is gone before they end."""
_PATIENT: Final = Retry(attempts=1000, first_s=0.2, max_s=2.0)
"""Compensations are tried for as long as any fault lasts: none is to be parked."""
_READS_MAX: Final = 20


class Sagas:
    """Book a flight, a hotel, and pay. Judge: all or nothing, and each effect once."""

    judge = "sagas"
    writes = frozenset(("saga",))

    def __init__(self, keys: int) -> None:
        self._count = 0

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing is booked yet."""

    def next(self, lane: Lane) -> Ask:
        """Run one saga to its end."""
        self._count += 1
        name = f"trip-{self._count}"
        fails = lane.rng.choice(_STEPS) if lane.rng.random() < _FAILING else ""
        dies_after_s = lane.rng.random() if lane.rng.random() < _DYING else None

        async def run() -> Answer:
            outcome = await _run(lane, name, fails, dies_after_s)
            return Answer(str(outcome.status), LogPosition(lane.stores[0].group, 0, 0))

        return Ask("saga", {"saga": name, "steps": list(_STEPS)}, None, run)

    def last(self, lane: Lane) -> Iterable[Ask]:
        """Read from every group what was really done and undone."""
        for store in lane.stores:
            found: list[Answer] = []
            for _ in range(_READS_MAX):
                yield self._read(store, found)
                if found:
                    break
            for effect in found[0].value if found else ():
                yield self._effect(effect, found[0].position)

    def _read(self, store: Store, found: list[Answer]) -> Ask:
        async def read() -> Answer:
            records, position = await store.scan("effect/")
            found.append(Answer([json.loads(record.value) for record in records], position))
            return Answer(len(records), position)

        return Ask("read", None, None, read)

    def _effect(self, effect: Any, position: LogPosition) -> Ask:
        async def known() -> Answer:
            return Answer(None, position)

        return Ask("effect", effect, None, known)


async def _run(lane: Lane, name: str, fails: str, dies_after_s: float | None) -> Outcome:
    saga = _saga(lane, fails)
    if dies_after_s is not None:
        async with _engine(lane, saga) as engine:
            start = asyncio.ensure_future(engine.start(saga, id=name))
            await asyncio.wait({start}, timeout=dies_after_s)
            start.cancel()
    # Started again under the same id it is the same saga, however far the first engine came.
    async with _engine(lane, saga) as engine:
        return await engine.run(saga, id=name)


def _engine(lane: Lane, saga: Saga) -> SagaEngine:
    name = lane.name.replace("/", "-")
    journal = KeyValueJournal(lane.stores[0], name)
    return SagaEngine(journal, [saga], name=name, rng=lane.rng, time=_LaneTime(lane.now_ns))


class _LaneTime:
    """The run's clock as the engine's."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns

    def monotonic_ns(self) -> int:
        return self._now_ns()

    def wall_ns(self) -> int:
        return self._now_ns()

    def cluster(self) -> Interval | None:
        return None


def _saga(lane: Lane, fails: str) -> Saga:
    """The definition, over this lane's connection; its steps are spread over the groups."""

    def step(number: int, name: str) -> Step:
        store = lane.store_of(number)

        async def act(call: Call) -> None:
            if name == fails:
                raise StepFailed(f"no {name} to be had")
            await _do(store, call)

        async def undo(call: Call) -> None:
            await _undo(store, call)

        return Step(act, undo, name=name, timeout_s=8.0, undo_timeout_s=8.0, undo_retry=_PATIENT)

    return Saga("trip", *(step(number, name) for number, name in enumerate(_STEPS)))


async def _do(store: Store, call: Call) -> None:
    """An effect, once: found there again, or barred by its compensation, it is not done again."""
    effect, barred = f"effect/{call.token}".encode(), f"barred/{call.token}".encode()
    told = json.dumps({"saga": call.saga, "step": call.step, "action": "do"}).encode()
    absent = [Compare.unchanged(effect, 0), Compare.unchanged(barred, 0)]
    done, _ = await store.txn(absent, [Put(effect, told)], [Get(effect)])
    if not done.succeeded and not done.answers[0].record:  # type: ignore[union-attr]
        raise StepFailed("its compensation came first")


async def _undo(store: Store, call: Call) -> None:
    """Undo what was done, if anything was, and see to it that it cannot happen any more."""
    effect, barred = f"effect/{call.do_token}".encode(), f"barred/{call.do_token}".encode()
    undone = f"effect/{call.token}".encode()
    told = json.dumps({"saga": call.saga, "step": call.step, "action": "undo"}).encode()
    there = [Compare(effect, Target.VERSION, Relation.GREATER, 0), Compare.unchanged(undone, 0)]
    await store.txn(there, [Put(undone, told), Put(barred, b"")], [Put(barred, b"")])
