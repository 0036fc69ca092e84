"""Killing an engine at every point there is, and looking at what its successor makes of it.

The engine is the real one, on a loop with virtual time. A *point* is every resumption of every task
(so: every ``await`` anywhere in the engine), and besides, before and after each append to the
journal and each effect on a resource. When the engine dies at a point, everything outside is dead
to it from then on: it can neither append nor act. A new engine then opens the same journal.

``python -m tests.saga.crashes`` explores more than the suite does, and prints the counts.
"""

from __future__ import annotations

import asyncio
import logging
import random
import selectors
import sys
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpcore.check.history import History, Operation, Outcome
from mcpcore.check.sagas import check_sagas
from mcpcore.check.verdict import Verdict
from mcpcore.errors import StepFailed
from mcpcore.saga import (
    Call,
    Fence,
    Head,
    MemoryCells,
    MemoryJournal,
    Parallel,
    Retry,
    Saga,
    SagaEngine,
    State,
    Status,
    Step,
    SubSaga,
)

TRIES = Retry(attempts=3, first_s=0.01, max_s=0.02)
UNDO_TRIES = Retry(attempts=4, first_s=0.01, max_s=0.02)


class VirtualTime(selectors.SelectSelector):
    """Time passes when everybody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for nobody"
        self.now_s += max(0.0, timeout)
        return []

    # the engine's Time seam
    def monotonic_ns(self) -> int:
        return round(self.now_s * 1e9)

    def wall_ns(self) -> int:
        return round((1_700_000_000 + self.now_s) * 1e9)

    def cluster(self) -> None:
        return None


class Process:
    """One life of an engine. Dies at point ``kill_at``, counted from 1; 0: never."""

    def __init__(self, kill_at: int = 0) -> None:
        self.kill_at = kill_at
        self.points = 0
        self.dead = False
        self.time = VirtualTime()
        self.loop = asyncio.SelectorEventLoop(self.time)
        self.loop.time = lambda: self.time.now_s  # type: ignore[method-assign]
        self.loop.set_task_factory(self._task)

    def _task(self, loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Stepped(coro, self), loop=loop, **options)

    def point(self) -> None:
        self.points += 1
        if self.points == self.kill_at:
            self.dead = True
            self.loop.stop()

    async def outside(self) -> None:
        """What the dead ask of the world, they never get."""
        self.point()
        if self.dead:
            await self.loop.create_future()

    def _over(self, main: asyncio.Task[Any]) -> None:
        self.loop.stop()

    def live(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run; None if it died."""
        task = self.loop.create_task(main)
        task.add_done_callback(self._over)
        try:
            self.loop.run_forever()
            task.remove_done_callback(self._over)
            result = task.result() if task.done() and not self.dead else None
            self.dead = True
            self.kill_at = 0
            left = asyncio.all_tasks(self.loop)
            for each in left:
                each.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left))
            for each in left:
                if not each.cancelled():
                    each.exception()
            return result
        finally:
            self.loop.close()


class _Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that tells of every resumption."""

    def __init__(self, coro: Any, process: Process) -> None:
        self.coro, self.process = coro, process

    def send(self, value: Any) -> Any:
        if not self.process.dead:
            self.process.point()
        return self.coro.send(value)

    def throw(self, *error: Any) -> Any:
        return self.coro.throw(*error)

    def close(self) -> None:
        self.coro.close()

    def __await__(self) -> Iterator[Any]:
        return self.coro.__await__()  # type: ignore[no-any-return]


class Disk(MemoryJournal):
    """A journal that outlives processes, and that the dead cannot reach."""

    process: Process

    def __init__(self) -> None:
        super().__init__()
        self.appends = 0

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        await self.process.outside()
        fence = await super().append(head, expected, rows)
        self.appends += 1
        await self.process.outside()
        return fence


class SharedCells(MemoryCells):
    """Cells that outlive processes."""

    process: Process

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        await self.process.outside()
        held = await super().swap(key, expected, new)
        await self.process.outside()
        return held


@dataclass
class Ledger:
    """A service that honours idempotency tokens, and remembers what it really did."""

    process: Process | None = None
    does: list[tuple[str, str]] = field(default_factory=list)
    """What took effect, in order: (step, do or undo)."""
    held: dict[str, str] = field(default_factory=dict)
    """do-tokens in force."""
    seen: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    fences: dict[str, Fence] = field(default_factory=dict)

    async def do(self, call: Call) -> None:
        assert self.process is not None
        await self.process.outside()
        self._note(call)
        if call.token not in self.seen:
            self.seen.add(call.token)
            self.held[call.token] = call.step
            self.does.append((call.step, "do"))
        await self.process.outside()

    async def undo(self, call: Call) -> None:
        assert self.process is not None
        await self.process.outside()
        self._note(call)
        self.seen.add(call.do_token)  # a step that comes after this finds itself barred
        if self.held.pop(call.do_token, None) is not None:
            self.does.append((call.step, "undo"))
        await self.process.outside()

    def _note(self, call: Call) -> None:
        self.asked[call.token] += 1
        before = self.fences.get(call.step, Fence(0, 0))
        assert call.fence > before, "an older attempt acts after a newer one"
        self.fences[call.step] = call.fence


@dataclass(frozen=True)
class Trouble:
    """What goes wrong at a step: ``fail`` (for certain), ``before`` or ``after`` its effect; it may
    ``hang`` after it, or be ``fickle``: refused when it is tried again."""

    step: str = ""
    kind: str = ""
    undo: str = ""
    """The step whose compensation gives trouble."""
    undo_kind: str = ""
    """``flaky`` (the first two attempts) or ``dead``."""


def make_steps(
    names: Sequence[str], ledger: Ledger, trouble: Trouble, pivot: str = ""
) -> list[Step]:
    def step(name: str) -> Step:
        async def act(call: Call) -> str:
            if name == trouble.step and trouble.kind == "fail":
                raise StepFailed("no such thing")
            if name == trouble.step and trouble.kind == "fickle" and call.attempt > 1:
                raise StepFailed("no such thing any more")
            if name == trouble.step and trouble.kind == "before":
                raise OSError("connection lost")
            await ledger.do(call)
            if name == trouble.step and trouble.kind == "after":
                raise OSError("connection lost")
            if name == trouble.step and trouble.kind == "hang":
                await asyncio.sleep(1e6)
            return f"{name} is done"

        async def take_back(call: Call) -> None:
            if name == trouble.undo and (trouble.undo_kind == "dead" or call.attempt <= 2):
                raise OSError("connection lost")
            await ledger.undo(call)

        return Step(
            act, None if name == pivot else take_back, name=name, pivot=name == pivot,
            timeout_s=1.0, retry=TRIES, undo_retry=UNDO_TRIES,
        )  # fmt: skip

    return [step(name) for name in names]


def chain(count: int) -> Any:
    """A saga of so many steps, one after the other."""

    def make(ledger: Ledger, trouble: Trouble) -> Saga:
        return Saga("chain", *make_steps("abcdef"[:count], ledger, trouble))

    return make


def diamond(ledger: Ledger, trouble: Trouble) -> Saga:
    """Two branches side by side, one of them a sub-saga."""
    a, b, c, d, e = make_steps("abcde", ledger, trouble)
    return Saga("diamond", a, Parallel(b, SubSaga(Saga("sub", c, d))), e)


def pivoted(ledger: Ledger, trouble: Trouble) -> Saga:
    """A pivot, and what must get done after it."""
    a, b, c, d = make_steps("abcd", ledger, trouble, pivot="c")
    return Saga("pivoted", a, b, c, d)


@dataclass
class Found:
    """What one exploration saw."""

    status: Status
    state: State
    points: int
    ledger: Ledger
    appends: int


def explore(make: Any, trouble: Trouble, kills: Sequence[int], *, claim: bool = False) -> Found:
    """Run one saga; the first engine dies at point kills[0], the second at kills[1], ..."""
    ledger, disk, cells = Ledger(), Disk(), SharedCells()
    points = 0
    for number, kill_at in enumerate([*kills, 0]):
        process = Process(kill_at)
        disk.process = cells.process = ledger.process = process
        saga = make(ledger, trouble)

        async def main(saga: Saga = saga, process: Process = process, number: int = number) -> Any:
            engine = SagaEngine(
                disk, [saga], name="e", cells=cells, claim=claim, time=process.time,
                rng=random.Random(number),
            )  # fmt: skip
            async with engine:
                # A program that was told nothing starts its saga again, under the same id.
                outcome = await (await engine.start(saga, None, id="x")).outcome()
                return outcome, await engine.state("x")

        result = process.live(main())
        if number == 0:
            points = process.points
        if result is not None:
            outcome, state = result
            return Found(outcome.status, state, points, ledger, disk.appends)
    raise AssertionError("the last engine never dies")


def judge(found: Found, make: Any, trouble: Trouble) -> None:
    """Everything that must hold at the end, whatever happened before."""
    saga = make(Ledger(), trouble)
    state, ledger = found.state, found.ledger
    state.check()
    dead_undo = trouble.undo_kind == "dead"
    names = list(saga.steps)
    asked = {"saga": "x", "steps": [name.rpartition("/")[2] for name in names]}
    operations = [Operation(0, "client", "saga", asked, str(found.status), Outcome.OK, 0, 1)]
    for number, (step, action) in enumerate(ledger.does, start=1):
        value = {"saga": "x", "step": step.rpartition("/")[2], "action": action}
        operations.append(
            Operation(number, "ledger", "effect", value, None, Outcome.OK, number, number)
        )
    verdict = check_sagas(History(operations), parked_is_fine=True)
    assert verdict.verdict is Verdict.OK, verdict
    if found.status is Status.PARKED:
        # A crash leaves the pivot unknown, and then not even a later refusal makes it certain.
        at_pivot = bool(saga.pivot) and trouble.step in (saga.pivot, "d")
        assert dead_undo or at_pivot, "parked without a reason"
    if found.status is Status.COMPLETED:
        assert trouble.kind in ("", "fickle")
        assert list(ledger.held.values()) == [step for step, _ in ledger.does]
    if found.status is Status.COMPENSATED:
        assert not ledger.held, "something is left"
    _judge_order(saga, ledger)


def _judge_order(saga: Saga, ledger: Ledger) -> None:
    """A step acts after those before it, and is undone after those behind it are."""
    position = {event: number for number, event in enumerate(ledger.does)}
    for placed in saga.steps.values():
        for before in placed.after:
            if (placed.name, "do") in position:
                assert position[before, "do"] < position[placed.name, "do"]
            if (placed.name, "undo") in position and (before, "undo") in position:
                assert position[placed.name, "undo"] < position[before, "undo"]


def everywhere(make: Any, trouble: Trouble, *, claim: bool = False) -> tuple[int, Counter[Status]]:
    """One crash at every point of a saga's life; how many points, and how it ended."""
    ends: Counter[Status] = Counter()
    whole = explore(make, trouble, [], claim=claim)
    judge(whole, make, trouble)
    ends[whole.status] += 1
    for kill_at in range(1, whole.points + 1):
        found = explore(make, trouble, [kill_at], claim=claim)
        try:
            judge(found, make, trouble)
        except AssertionError as error:
            error.add_note(f"{trouble}, killed at point {kill_at}: {found.ledger.does}")
            raise
        ends[found.status] += 1
    return whole.points, ends


def troubles(names: str, *, undo_kinds: Sequence[str] = ("", "flaky", "dead")) -> list[Trouble]:
    """Nothing; and a failure of every kind at every step, with every trouble of compensations."""
    found = [Trouble()]
    for place, step in enumerate(names):
        for kind in ("fail", "before", "after", "hang"):
            found.append(Trouble(step, kind))
            for undo in names[: place + (kind != "fail")]:
                found += [Trouble(step, kind, undo, each) for each in undo_kinds if each]
    return found


def main() -> None:
    """Sagas of one to six steps, and the other shapes; with claims and without."""
    total = crashes = 0
    shapes = [(f"{count} steps", chain(count), "abcdef"[:count]) for count in range(1, 7)]
    shapes += [("parallel", diamond, "abe"), ("pivot", pivoted, "abcd")]
    for title, make, names in shapes:
        ends: Counter[Status] = Counter()
        points = 0
        undo_kinds = ("", "flaky", "dead") if len(names) < 5 else ("", "dead")
        for trouble in troubles(names, undo_kinds=undo_kinds):
            for claim in (False, True) if len(names) < 4 else (False,):
                more, found = everywhere(make, trouble, claim=claim)
                points += more
                ends += found
                total += 1
        crashes += points
        told = ", ".join(f"{count} {status}" for status, count in sorted(ends.items()))
        sys.stdout.write(f"{title}: {points} crash points; {told}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{total} sagas, {crashes} crash points, nothing wrong\n")


if __name__ == "__main__":
    logging.getLogger("mcpcore.saga").setLevel(logging.CRITICAL)
    main()
