"""The engine with services that are ill, and what it tells its observers. Virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from mcpcore.errors import EngineFull, InvalidInput, JournalUnavailable
from mcpcore.saga import (
    NO_EFFECT,
    BreakerChanged,
    BreakerState,
    Call,
    CallEnded,
    Event,
    Fuse,
    MemoryJournal,
    Outcome,
    Query,
    Retry,
    Saga,
    SagaEngine,
    Status,
    Step,
    SubSaga,
    TargetSettings,
)
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
