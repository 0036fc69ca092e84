"""The engine with services that are ill, and what it tells its observers. Virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Sequence
from typing import Any

import pytest

from mcpcore.errors import EngineFull, InvalidInput, JournalUnavailable, StepFailed
from mcpcore.saga import (
    NO_EFFECT,
    ONCE,
    BreakerChanged,
    BreakerState,
    Call,
    CallEnded,
    Event,
    Fence,
    Fuse,
    Head,
    MemoryCells,
    MemoryJournal,
    Outcome,
    Parallel,
    Query,
    Retry,
    Saga,
    SagaEngine,
    Status,
    Step,
    SubSaga,
    TargetSettings,
    operations,
)
from mcpcore.saga.journals.contract import head_of
from mcpcore.saga.records import Entry, Taken, decode_entry, encode_entries
from mcpcore.sim import run

FUSE = TargetSettings(fuse=Fuse(timeout_s=1, failures=2, open_s=5), calls_max=2)


def engine(*sagas: Saga, **options: Any) -> SagaEngine:
    return SagaEngine(MemoryJournal(), sagas, rng=random.Random(4), **options)


def test_a_sick_target_is_called_no_more_and_what_was_not_called_is_not_undone() -> None:
    asked: list[str] = []
    events: list[Event] = []

    async def sick(call: Call) -> None:
        asked.append(call.action)
        await asyncio.sleep(1e6)

    async def take_back(call: Call) -> None:
        asked.append(call.action)

    saga = Saga("s", Step(sick, take_back, name="a", target="t", retry=Retry(attempts=1)))
    fuse = TargetSettings(fuse=Fuse(timeout_s=1, failures=1, open_s=5))

    async def main() -> tuple[Outcome, Outcome, float]:
        async with engine(saga, targets={"t": fuse}, observers=[events.append]) as sagas:
            first = await sagas.start(saga)
            await asyncio.sleep(1.5)
            begin = asyncio.get_running_loop().time()
            second = await sagas.run(saga)
            took_s = asyncio.get_running_loop().time() - begin
            return await first.outcome(), second, took_s

    first, second, took_s = run(main(), seed=1)

    assert first.status is second.status is Status.COMPENSATED
    assert "no answer within 1 s" in first.why, "the fuse is shorter than the step's timeout"
    assert "its circuit is open" in second.why
    assert took_s < 0.1, "it was refused at once"
    assert asked == ["a", "a.undo"], "nobody was called, and nothing undone, for the second"
    assert [event.state for event in events if isinstance(event, BreakerChanged)] == [
        BreakerState.OPEN,
        BreakerState.HALF_OPEN,
        BreakerState.CLOSED,
    ], "the compensation waited, and found out that the target is well again"


def test_a_bulkhead_bounds_the_calls_of_all_sagas_together() -> None:
    inside = most = 0

    async def act(call: Call) -> None:
        nonlocal inside, most
        inside, most = inside + 1, max(most, inside + 1)
        await asyncio.sleep(0.1)
        inside -= 1

    saga = Saga("s", Step(act, NO_EFFECT, target="t"))

    async def main() -> list[Outcome]:
        async with engine(saga, targets={"t": FUSE}) as sagas:
            return await asyncio.gather(*(sagas.run(saga) for _ in range(9)))

    assert all(outcome.ok for outcome in run(main(), seed=1))
    assert most == 2


def test_every_call_is_one_span_with_its_outcome_and_its_times() -> None:
    spans: list[CallEnded] = []

    async def second_time_lucky(call: Call) -> None:
        await asyncio.sleep(0.5)
        if call.attempt == 1:
            raise OSError("reset")

    saga = Saga("s", Step(second_time_lucky, NO_EFFECT, name="a"))

    def observe(event: Event) -> None:
        if isinstance(event, CallEnded):
            spans.append(event)
        raise ValueError("a broken observer harms nobody")

    async def main() -> Outcome:
        async with engine(saga, observers=[observe]) as sagas:
            return await sagas.run(saga, trace="00-abc-def-01")

    assert run(main(), seed=1).ok
    assert [(span.attempt, span.outcome, span.trace) for span in spans] == [
        (1, "unknown", "00-abc-def-01"),
        (2, "done", "00-abc-def-01"),
    ]
    assert all(5e8 <= span.ended_ns - span.started_ns < 6e8 for span in spans)


def test_a_sub_saga_has_its_own_input_and_sees_its_own_results_by_their_short_names() -> None:
    seen: list[Any] = []

    async def reserve(call: Call) -> Any:
        return call.input

    async def use(call: Call) -> None:
        seen.append((call.input, call.results["reserve"], call.results["left/reserve"]))

    side = Saga("side", Step(reserve, NO_EFFECT), Step(use, NO_EFFECT))
    saga = Saga(
        "s",
        SubSaga(side, given=lambda value: value["l"], name="left"),
        SubSaga(side, given=lambda value: value["r"], name="right"),
    )

    async def main() -> Outcome:
        async with engine(saga) as sagas:
            return await sagas.run(saga, {"l": 1, "r": 2})

    assert run(main(), seed=1).results["right/reserve"] == 2
    assert seen == [(1, 1, 1), (2, 2, 1)]


def test_what_cannot_be_run_is_refused_before_anything_is_written() -> None:
    async def act(call: Call) -> object:
        return object()

    saga = Saga("s", Step(act, NO_EFFECT, retry=Retry(attempts=1)))
    other = Saga("other", Step(act, NO_EFFECT))

    async def main() -> Outcome:
        async with engine(saga, sagas_max=1) as sagas:
            for wrong in (
                sagas.start(other),
                sagas.start(saga, object()),
                sagas.start(saga, id="\n"),
                sagas.start(saga, budget_s=-1),
            ):
                with pytest.raises(InvalidInput):
                    await wrong
            assert await sagas.find(Query()) == []
            await sagas.start(saga)
            with pytest.raises(EngineFull):
                await sagas.start(saga)
            await asyncio.sleep(1)
            return await sagas.run(saga)

    outcome = run(main(), seed=1)
    assert outcome.status is Status.COMPENSATED
    assert "result of step act: cannot be kept in a journal" in outcome.why
    with pytest.raises(InvalidInput, match="no cells"):
        engine(Saga("s", Step(act, NO_EFFECT), locks=["x"]))


def test_an_engine_that_cannot_open_its_journal_says_so_and_leaves_nothing_running() -> None:
    class Away(MemoryJournal):
        async def heads(self, query: Query) -> Any:
            raise JournalUnavailable("group main: no quorum")

    async def main() -> int:
        with pytest.raises(JournalUnavailable):
            async with SagaEngine(Away(), [], rng=random.Random(1)):
                raise AssertionError("it opened")
        return len(asyncio.all_tasks())

    assert run(main(), seed=1) == 1


class BesideTheEngine(MemoryJournal):
    """A tool writes to a saga just when an engine is about to take it over."""

    meddle = False

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        if self.meddle and isinstance(decode_entry(rows[0]).record, Taken):
            self.meddle = False
            state = await operations.read_state(self, head.saga)
            state.apply(asked := Entry(operations.cancel(state, by="ops", why="")))
            await super().append(head_of(state), state.length - 1, encode_entries([asked]))
        return await super().append(head, expected, rows)


class SlowCells(MemoryCells):
    """Whoever takes a lock here needs a while to stop doing so."""

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        try:
            await asyncio.sleep(0.01)
        finally:
            await asyncio.sleep(0.1)
        return await super().swap(key, expected, new)


def test_an_engine_that_needs_two_tries_to_take_a_saga_over_knows_that_it_runs_it() -> None:
    held = asyncio.Event()

    async def hold(call: Call) -> None:
        await held.wait()

    saga = Saga("s", Step(hold, hold, name="a"), locks=["vpc"])
    journal, cells = BesideTheEngine(), SlowCells()

    async def main() -> tuple[str, ...]:
        first = SagaEngine(journal, [saga], cells=cells, rng=random.Random(1))
        await first.open()
        await first.start(saga, id="x")
        await asyncio.sleep(1)
        await first.close()
        journal.meddle = True
        async with SagaEngine(journal, [saga], cells=cells, rng=random.Random(2)) as second:
            await asyncio.sleep(1)
            running = second.running
            held.set()
            async with asyncio.timeout(60):
                assert (await second.outcome("x")).status is Status.COMPENSATED
            return running

    assert run(main(), seed=1) == ("x",)


def test_a_saga_that_another_engine_has_started_meanwhile_is_given_and_not_an_error() -> None:
    async def nothing(call: Call) -> None:
        pass

    saga = Saga("s", Step(nothing, nothing, name="a"), locks=["vpc"])
    journal, cells = MemoryJournal(), SlowCells()

    async def main() -> Outcome:
        here, there = (
            SagaEngine(journal, [saga], cells=cells, rng=random.Random(n)) for n in (1, 2)
        )
        async with here, there:
            await there.start(saga, id="x")
            return await (await here.start(saga, id="x")).outcome()

    assert run(main(), seed=1).ok


def test_a_wait_for_a_place_that_is_given_up_before_it_began_leaves_nothing_behind(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def hang(call: Call) -> None:
        await asyncio.sleep(10)

    async def refuse(call: Call) -> None:
        raise StepFailed("no")

    full = TargetSettings(calls_max=1)
    busy = Saga("busy", Step(hang, NO_EFFECT, name="h", target="full"))
    # The waiting and the refusal come about in one and the same turn.
    shut = TargetSettings(calls_max=1, waiting_max=0)
    shutter = Saga("shutter", Step(hang, NO_EFFECT, name="h", target="shut"))
    both = Saga("both", Parallel(
        Step(hang, NO_EFFECT, name="a", target="full", retry=ONCE),
        Step(refuse, NO_EFFECT, name="b", target="shut", retry=ONCE),
    ))  # fmt: skip

    async def main() -> Outcome:
        targets = {"full": full, "shut": shut}
        async with engine(busy, shutter, both, targets=targets) as sagas:
            await sagas.start(busy)
            await sagas.start(shutter)
            await asyncio.sleep(1)
            return await sagas.run(both)

    assert run(main(), seed=1).status is Status.COMPENSATED
    gc.collect()
    assert [str(each.message) for each in recwarn] == []
