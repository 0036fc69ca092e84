"""Failures that other saga engines really had; ours must not. Virtual time throughout."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from mcpcore.clock import Interval
from mcpcore.errors import (
    DefinitionChanged,
    JournalUnavailable,
    SagaActionRefused,
    SagaExists,
    StepFailed,
)
from mcpcore.saga import (
    NO_EFFECT,
    ONCE,
    Call,
    End,
    Event,
    Fence,
    Head,
    MemoryCells,
    MemoryJournal,
    Migration,
    Outcome,
    Parallel,
    Retry,
    Saga,
    SagaChanged,
    SagaEngine,
    SagaHeld,
    SagaReleased,
    Status,
    Step,
    SystemTime,
)
from mcpcore.sim import run

SEEDS = itertools.count()
"""No two engines have the same name, be it by their random part."""
QUICK = Retry(attempts=2, first_s=0.01, max_s=0.02)


def virtually(main: Coroutine[Any, Any, Any]) -> Any:
    return run(main, seed=1, within_s=100_000)


class Service:
    """Remembers what was asked of it, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def step(self, name: str, **options: Any) -> Step:
        async def act(call: Call) -> str:
            self.log.append(call.action)
            return f"{name} is done"

        async def take_back(call: Call) -> None:
            self.log.append(call.action)

        undo = None if options.get("pivot") else take_back
        return Step(options.pop("act", act), options.pop("undo", undo), name=name, **options)


def engine(journal: MemoryJournal, *sagas: Saga, **options: Any) -> SagaEngine:
    options.setdefault("rng", random.Random(next(SEEDS)))
    return SagaEngine(journal, sagas, **options)


async def hang(call: Call) -> None:
    await asyncio.sleep(1e9)


async def refuse(call: Call) -> None:
    raise StepFailed("no such region")


async def break_down(call: Call) -> None:
    raise OSError("connection reset")


# --- compensations run, whatever stopped the saga -------------------------------------------------


def test_a_cancelled_saga_is_compensated() -> None:
    """Temporal sdk-java #305, and DBOS: there the compensations are cancelled too."""
    service = Service()
    saga = Saga("s", service.step("a"), service.step("b", act=hang))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            handle = await sagas.start(saga, id="x")
            await asyncio.sleep(1)
            await sagas.cancel("x", by="ops", why="wrong region")
            return await handle.outcome()

    outcome = virtually(main())

    assert outcome.status is Status.COMPENSATED
    assert outcome.why == "cancelled by ops: wrong region"
    assert service.log == ["a", "b.undo", "a.undo"], "b may have happened, so it is undone too"


def test_a_saga_whose_time_is_over_is_compensated_and_its_compensations_have_all_the_time() -> None:
    service = Service()

    async def slow(call: Call) -> None:
        await asyncio.sleep(20)
        service.log.append("slowly undone")

    saga = Saga(
        "s", service.step("a", undo=slow), service.step("b", act=hang, timeout_s=100), deadline_s=5
    )

    async def main() -> tuple[Outcome, float]:
        start = asyncio.get_running_loop().time()
        async with engine(MemoryJournal(), saga) as sagas:
            outcome = await sagas.run(saga)
            return outcome, asyncio.get_running_loop().time() - start

    outcome, took_s = virtually(main())

    assert outcome.status is Status.COMPENSATED
    assert service.log == ["a", "b.undo", "slowly undone"]
    assert 25 <= took_s < 26


def test_who_stops_waiting_for_a_saga_does_not_stop_the_saga() -> None:
    service = Service()
    saga = Saga("s", service.step("a"), service.step("b"))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            handle = await sagas.start(saga)
            waiting = asyncio.create_task(handle.outcome())
            await asyncio.sleep(0)
            waiting.cancel()
            return await handle.outcome()

    assert virtually(main()).ok


def test_cancelling_while_compensations_run_neither_stops_nor_repeats_them() -> None:
    service = Service()
    entered = asyncio.Event()

    async def slow(call: Call) -> None:
        entered.set()
        await asyncio.sleep(3)
        service.log.append("undone")

    saga = Saga("s", service.step("a", undo=slow), service.step("b", act=refuse))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            handle = await sagas.start(saga, id="x")
            await entered.wait()
            with pytest.raises(SagaActionRefused, match="compensated already"):
                await sagas.cancel("x")
            return await handle.outcome()

    assert virtually(main()).status is Status.COMPENSATED
    assert service.log == ["a", "undone"]


# --- clocks --------------------------------------------------------------------------------------


class StrayClock(SystemTime):
    """A system clock that anybody may set, and perhaps a cluster that knows better."""

    step_ns = 0
    known = False

    def wall_ns(self) -> int:
        return super().wall_ns() + self.step_ns

    def cluster(self) -> Interval | None:
        return Interval.around(self.monotonic_ns(), 5_000_000) if self.known else None


@pytest.mark.parametrize("hours", [1, -1, 24 * 365])
@pytest.mark.parametrize("known", [False, True])
def test_a_step_of_the_system_clock_moves_no_deadline(hours: int, known: bool) -> None:
    """DBOS cancels a workflow with 30 minutes left when the clock steps by an hour."""
    service = Service()
    clock = StrayClock()
    clock.known = known

    async def wait(call: Call) -> None:
        clock.step_ns = hours * 3_600_000_000_000
        await asyncio.sleep(20)

    saga = Saga("s", service.step("a", act=wait), deadline_s=30)
    late = Saga("late", service.step("a", act=hang, timeout_s=1e6), deadline_s=30)

    async def main() -> tuple[Outcome, Outcome, float]:
        async with engine(MemoryJournal(), saga, late, time=clock) as sagas:
            in_time = await sagas.run(saga)
            begin = asyncio.get_running_loop().time()
            clock.step_ns = -clock.step_ns
            too_late = await sagas.run(late)
            return in_time, too_late, asyncio.get_running_loop().time() - begin

    in_time, too_late, took_s = virtually(main())

    assert in_time.ok, "the deadline came early"
    assert too_late.why == "its deadline passed"
    assert 30 <= took_s < 30.1, "the deadline came late"


def test_a_cluster_clock_that_was_set_back_cannot_keep_a_deadline_from_coming() -> None:
    service = Service()

    class SetBack(StrayClock):
        def cluster(self) -> Interval | None:
            return Interval.around(self.monotonic_ns() + self.step_ns, 1_000_000)

    clock = SetBack()

    async def wait(call: Call) -> None:
        clock.step_ns = -3_600_000_000_000
        await asyncio.sleep(1e6)

    saga = Saga("s", service.step("a", act=wait, timeout_s=1e7), deadline_s=10)

    async def main() -> float:
        async with engine(MemoryJournal(), saga, time=clock) as sagas:
            begin = asyncio.get_running_loop().time()
            await sagas.run(saga)
            return asyncio.get_running_loop().time() - begin

    assert virtually(main()) < 10.2


def test_a_step_is_told_how_much_of_the_callers_time_is_left() -> None:
    seen: list[float] = []

    async def look(call: Call) -> None:
        seen.append(call.remaining_s())
        assert call.headers()["saga-budget-ms"] == str(int(seen[-1] * 1000))
        await asyncio.sleep(2)

    saga = Saga("s", *(Step(look, NO_EFFECT, name=n) for n in "ab"), deadline_s=100)

    async def main() -> None:
        async with engine(MemoryJournal(), saga) as sagas:
            await sagas.run(saga, budget_s=10)

    virtually(main())

    assert seen == [pytest.approx(10, abs=0.1), pytest.approx(8, abs=0.1)]


# --- what is undone, and what is not --------------------------------------------------------------


def test_a_step_with_unknown_outcome_is_compensated() -> None:
    service = Service()
    saga = Saga("s", service.step("a"), service.step("b", act=break_down, retry=ONCE))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            return await sagas.run(saga)

    outcome = virtually(main())

    assert service.log == ["a", "b.undo", "a.undo"]
    assert outcome.errors == {"b": "OSError: connection reset"}


def test_a_step_that_was_never_started_or_failed_for_certain_is_not_compensated() -> None:
    service = Service()
    saga = Saga("s", service.step("a"), service.step("b", act=refuse), service.step("c"))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            return await sagas.run(saga)

    assert virtually(main()).status is Status.COMPENSATED
    assert service.log == ["a", "a.undo"]


def test_a_certain_failure_does_not_hide_that_an_earlier_attempt_may_have_happened() -> None:
    service = Service()

    async def first_lost_then_refused(call: Call) -> None:
        if call.attempt == 1:
            raise OSError("connection reset")
        raise StepFailed("no such region")

    saga = Saga("s", service.step("a", act=first_lost_then_refused, retry=QUICK))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            return await sagas.run(saga)

    virtually(main())

    assert service.log == ["a.undo"]


def test_a_compensation_is_told_whether_its_step_is_known_to_be_done() -> None:
    told: list[tuple[str, bool, Any]] = []

    async def take_back(call: Call) -> None:
        told.append((call.step, call.known, call.result))
        assert call.do_token == call.token.replace(".undo", "")

    async def act(call: Call) -> int:
        return 7

    saga = Saga(
        "s", Step(act, take_back, name="a"), Step(break_down, take_back, name="b", retry=ONCE)
    )

    async def main() -> None:
        async with engine(MemoryJournal(), saga) as sagas:
            await sagas.run(saga)

    virtually(main())

    assert told == [("b", False, None), ("a", True, 7)]


def test_a_success_is_not_rolled_back_by_a_deadline_that_comes_after_it() -> None:
    """seata #5688."""
    service = Service()

    async def just_in_time(call: Call) -> None:
        await asyncio.sleep(5)

    saga = Saga("s", service.step("a", act=just_in_time), deadline_s=5.001)

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            outcome = await sagas.run(saga)
            await asyncio.sleep(10)
            return outcome

    assert virtually(main()).ok
    assert service.log == []


# --- compensations that fail ----------------------------------------------------------------------


def test_a_compensation_that_fails_for_good_is_parked_loudly_neither_dropped_nor_retried_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """seata #5077 retried until memory ran out; others dropped it."""
    service = Service()
    asked: list[int] = []
    events: list[Event] = []

    async def cannot(call: Call) -> None:
        asked.append(call.attempt)
        raise OSError("still down")

    step = service.step("b", undo=cannot, undo_retry=QUICK)
    saga = Saga("s", service.step("a"), step, service.step("c", act=refuse))
    journal = MemoryJournal()

    async def main() -> Outcome:
        async with engine(journal, saga, observers=[events.append]) as sagas:
            outcome = await sagas.run(saga, id="x")
            await asyncio.sleep(3600)
            return outcome

    outcome = virtually(main())

    assert outcome.status is Status.PARKED
    assert asked == [1, 2]
    assert outcome.errors["b.undo"] == "OSError: still down"
    assert service.log == ["a", "b"], "what came before b waits until b is undone"
    changes = [event for event in events if isinstance(event, SagaChanged)]
    assert changes[-1].status is Status.PARKED
    assert "saga x is parked" in caplog.text


@pytest.mark.parametrize("remedy", ["retry", "skip", "resolve"])
def test_a_parked_saga_goes_on_when_somebody_decides(remedy: str) -> None:
    service = Service()
    broken = True

    async def cannot_yet(call: Call) -> None:
        if broken:
            raise OSError("still down")
        service.log.append("b.undo")

    step = service.step("b", undo=cannot_yet, undo_retry=ONCE)
    saga = Saga("s", service.step("a"), step, service.step("c", act=refuse))

    async def main() -> Outcome:
        nonlocal broken
        async with engine(MemoryJournal(), saga) as sagas:
            parked = await sagas.run(saga, id="x")
            assert parked.status is Status.PARKED
            broken = False
            if remedy == "retry":
                await sagas.retry("x")
            elif remedy == "skip":
                await sagas.skip("x", note="did it by hand")
            else:
                await sagas.resolve("x", End.COMPENSATED, note="did it all by hand")
            return await sagas.outcome("x")

    assert virtually(main()).status is Status.COMPENSATED
    assert (
        service.log
        == {
            "retry": ["a", "b", "b.undo", "a.undo"],
            "skip": ["a", "b", "a.undo"],
            "resolve": ["a", "b"],
        }[remedy]
    )


def test_all_errors_of_parallel_compensations_are_collected() -> None:
    """temporalio/sdk-php #786: only the first is told there."""
    service = Service()

    async def cannot(call: Call) -> None:
        raise OSError(f"{call.step} is down")

    parts = [service.step(name, undo=cannot, undo_retry=ONCE) for name in "abc"]
    saga = Saga("s", Parallel(*parts), service.step("d", act=refuse))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            return await sagas.run(saga)

    outcome = virtually(main())

    assert outcome.status is Status.PARKED
    assert {f"{name}.undo" for name in "abc"} <= set(outcome.errors)


# --- the pivot ------------------------------------------------------------------------------------


def test_after_the_pivot_there_is_only_forward() -> None:
    service = Service()
    tries = 0

    async def at_last(call: Call) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("down")

    pivot, last = service.step("p", pivot=True), Step(at_last, name="last", retry=Retry(attempts=3))
    saga = Saga("s", service.step("a"), pivot, last, deadline_s=1)

    async def main() -> tuple[Outcome, str]:
        async with engine(MemoryJournal(), saga) as sagas:
            handle = await sagas.start(saga, id="x")
            await asyncio.sleep(0.01)
            try:
                await sagas.cancel("x")
            except SagaActionRefused as error:
                return await handle.outcome(), error.why
            raise AssertionError("cancelled after the pivot")

    outcome, why = virtually(main())

    assert outcome.ok
    assert "past its pivot" in why


def test_a_pivot_with_unknown_outcome_is_never_guessed_at() -> None:
    service = Service()
    saga = Saga("s", service.step("a"), Step(break_down, name="p", pivot=True, retry=QUICK))

    async def main() -> Outcome:
        async with engine(MemoryJournal(), saga) as sagas:
            return await sagas.run(saga)

    outcome = virtually(main())

    assert outcome.status is Status.PARKED
    assert service.log == ["a"], "neither undone nor gone on from"


# --- restart, definitions, ids -------------------------------------------------------------------


def test_a_restart_loses_no_saga_and_a_changed_definition_is_refused_clearly() -> None:
    service = Service()
    old = Saga("s", service.step("a"), service.step("b", act=hang))
    new = Saga("s", service.step("a"), service.step("b2"))
    journal = MemoryJournal()

    async def main() -> tuple[str, Outcome]:
        async with engine(journal, old) as sagas:
            await sagas.start(old, id="x")
            await asyncio.sleep(1)
        async with engine(journal, new) as sagas:
            with pytest.raises(DefinitionChanged) as refused:
                await sagas.outcome("x")
        done = Saga("s", service.step("a"), service.step("b"))
        assert done.version == old.version, "a mended step is no other definition"
        async with engine(journal, done, new) as sagas:
            return str(refused.value), await sagas.outcome("x")

    why, outcome = virtually(main())

    assert old.version in why
    assert new.version in why
    assert outcome.ok
    assert service.log == ["a", "b"], "a is not done again"


def test_a_migration_takes_running_sagas_along() -> None:
    service = Service()
    old = Saga("s", service.step("reserve"), service.step("b", act=hang))
    parts = service.step("reserve_range"), service.step("b"), service.step("c", act=refuse)
    new = Saga("s", *parts, migrations=[Migration(old.version, {"reserve": "reserve_range"})])
    journal = MemoryJournal()

    async def main() -> Outcome:
        async with engine(journal, old) as sagas:
            await sagas.start(old, id="x")
            await asyncio.sleep(1)
        async with engine(journal, new) as sagas:
            return await sagas.outcome("x")

    assert virtually(main()).status is Status.COMPENSATED
    assert service.log == ["reserve", "b", "b.undo", "reserve_range.undo"]


def test_a_migration_that_would_make_one_step_of_two_is_refused() -> None:
    """What one of the two had done would be forgotten, and never undone."""
    service = Service()
    old = Saga("s", service.step("a"), service.step("b"), service.step("c", act=hang))
    new = Saga("s", service.step("b"), service.step("c"),
               migrations=[Migration(old.version, {"a": "b"})])  # fmt: skip
    journal = MemoryJournal()

    async def main() -> None:
        async with engine(journal, old) as sagas:
            await sagas.start(old, id="x")
            await asyncio.sleep(1)
        async with engine(journal, new) as sagas:
            assert isinstance(sagas.refused["x"], DefinitionChanged)

    virtually(main())
    assert service.log == ["a", "b"], "it is left exactly as it is"


def test_starting_the_same_again_gives_the_saga_that_is_there_and_another_one_is_refused() -> None:
    service = Service()
    saga = Saga("s", service.step("a"))

    async def main() -> None:
        async with engine(MemoryJournal(), saga) as sagas:
            first = await sagas.run(saga, {"vpc": 1}, id="x")
            assert await sagas.run(saga, {"vpc": 1}, id="x") == first
            with pytest.raises(SagaExists):
                await sagas.start(saga, {"vpc": 2}, id="x")

    virtually(main())
    assert service.log == ["a"]


# --- a journal that does not answer --------------------------------------------------------------


class CutOff(MemoryJournal):
    """A journal that can be cut off."""

    away = False

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        if self.away:
            await asyncio.sleep(1)
            raise JournalUnavailable("group main: no quorum")
        return await super().append(head, expected, rows)


def test_a_saga_whose_journal_is_cut_off_is_held_and_does_not_time_out() -> None:
    service = Service()
    events: list[Event] = []
    journal = CutOff()

    async def act(call: Call) -> None:
        journal.away = True

    saga = Saga("s", service.step("a", act=act), service.step("b"), deadline_s=10)

    async def main() -> Outcome:
        async with engine(journal, saga, observers=[events.append]) as sagas:
            handle = await sagas.start(saga)
            await asyncio.sleep(3600)
            assert service.log == [], "nothing begins while nothing can be written"
            journal.away = False
            return await handle.outcome()

    outcome = virtually(main())

    assert outcome.ok
    assert [type(e) for e in events if isinstance(e, SagaHeld | SagaReleased)] == [
        SagaHeld,
        SagaReleased,
    ]


# --- locks ---------------------------------------------------------------------------------------


def test_two_sagas_never_change_a_locked_resource_at_the_same_time() -> None:
    inside = most = 0

    async def change(call: Call) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.5)
        inside -= 1

    parts = [Step(change, NO_EFFECT, name=name) for name in "ab"]
    saga = Saga("s", *parts, locks=lambda value: [value["vpc"]])

    async def main() -> list[Outcome]:
        async with engine(MemoryJournal(), saga, cells=MemoryCells()) as sagas:
            runs = (sagas.run(saga, {"vpc": "v"}) for _ in range(5))
            return await asyncio.gather(*runs)

    assert all(outcome.ok for outcome in virtually(main()))
    assert most == 1


def test_a_saga_that_gets_no_lock_in_time_is_undone_and_says_who_holds_it() -> None:
    service = Service()
    saga = Saga("s", service.step("a", act=hang, timeout_s=1e6), locks=["vpc-1"])

    async def main() -> Outcome:
        async with engine(
            MemoryJournal(), saga, cells=MemoryCells(), lock_patience_s=2
        ) as sagas:  # fmt: skip
            await sagas.start(saga, id="first")
            await asyncio.sleep(1)
            return await sagas.run(saga, id="second")

    outcome = virtually(main())

    assert outcome.status is Status.COMPENSATED
    assert "vpc-1 is locked by saga first" in outcome.why
