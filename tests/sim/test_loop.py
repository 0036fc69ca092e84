"""The loop keeps asyncio's promises, in virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, NotSimulated, PropertyViolated, SimulationStuck
from mcpcore.sim import World, run


def test_an_hour_passes_in_no_time() -> None:
    before = time.monotonic()
    assert run(asyncio.sleep(3_599, "done")) == "done"
    assert time.monotonic() - before < 30


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 10**12).map(lambda us: us / 1e6), min_size=1, max_size=20),
    st.floats(-400, 400),
)
def test_timers_fire_in_the_order_of_their_deadlines_and_strictly_after_them(
    delays: list[float], drift_ppm: float
) -> None:
    fired: list[tuple[float, float, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handles: list[asyncio.TimerHandle] = []

        def note(index: int) -> None:
            fired.append((handles[index].when(), loop.time(), delays[index]))

        for index, delay in enumerate(delays):
            handles.append(loop.call_later(delay, note, index))
        await asyncio.sleep(1.1e6)

    with World() as world:
        world.call(world.host("a", drift_ppm=drift_ppm), main(), within_s=2e6)
    assert len(fired) == len(delays)
    assert all(now > when for when, now, _ in fired)
    assert [now for _, now, _ in fired] == sorted(now for _, now, _ in fired)
    assert [delay for *_, delay in fired] == sorted(delays)


def test_callbacks_run_in_the_order_in_which_they_were_scheduled() -> None:
    seen: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(20):
            loop.call_soon(seen.append, number)
        await asyncio.sleep(0)

    for order in ("fifo", "random", "pct"):
        seen.clear()
        with World(order=order) as world:
            world.call(world.host("a"), main())
            world.run(1)
        assert seen == list(range(20)), order


def test_a_random_order_finds_the_race_that_fifo_hides() -> None:
    """Read, yield, write: two tasks lose one of two increments, in some orders only."""

    def total(order: str, seed: int) -> int:
        value = [0]

        async def add(steps: int) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            before = value[0]
            await asyncio.sleep(0)
            value[0] = before + 1

        async def main() -> None:
            await asyncio.gather(add(0), add(2))

        with World(seed, order=order) as world:
            world.call(world.host("a"), main())
        return value[0]

    assert {total("fifo", seed) for seed in range(20)} == {2}
    assert {total("random", seed) for seed in range(20)} == {1, 2}
    assert {total("pct", seed) for seed in range(40)} == {1, 2}


def test_a_cancelled_timer_never_fires_even_among_thousands() -> None:
    fired: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handles = [
            loop.call_later(1 + number / 1_000, fired.append, number) for number in range(999)
        ]
        for number, handle in enumerate(handles):
            if number % 3:
                handle.cancel()
                handle.cancel()
        await asyncio.sleep(5)

    run(main())
    assert fired == list(range(0, 999, 3))


def test_timeouts_groups_queues_and_locks_work() -> None:
    async def main() -> list[object]:
        seen: list[object] = []
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()

        async def produce() -> None:
            for number in range(3):
                async with lock:
                    await queue.put(number)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.5)
        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            for _ in range(3):
                seen.append(await queue.get())
        seen.append(await asyncio.gather(*(asyncio.sleep(1, n) for n in range(3))))
        seen.append(await asyncio.wait_for(asyncio.shield(asyncio.sleep(1, "x")), 2))
        return seen

    assert run(main()) == [0, 1, 2, [0, 1, 2], "x"]


def test_context_variables_follow_tasks_callbacks_and_threads() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def main() -> list[str]:
        name.set("ann")
        seen: list[str] = []
        asyncio.get_running_loop().call_soon(lambda: seen.append(name.get()))
        seen.append(await asyncio.to_thread(name.get))
        return [*seen, await asyncio.create_task(_get(name))]

    assert run(main()) == ["ann", "ann", "ann"]


async def _get(name: contextvars.ContextVar[str]) -> str:
    return name.get()


def test_work_in_an_executor_takes_virtual_time_and_hands_on_its_errors() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        assert await loop.run_in_executor(None, pow, 2, 10) == 1024
        return loop.time() - before

    assert 0 < run(main()) < 0.01


def test_blocking_sleep_holds_the_host_and_nobody_else() -> None:
    seen: list[tuple[str, float]] = []

    async def block() -> None:
        seen.append(("before", time.monotonic()))
        time.sleep(5)  # noqa: ASYNC251 - a program that blocks is the subject
        seen.append(("after", time.monotonic()))

    async def tick() -> None:
        await asyncio.sleep(1)
        seen.append(("tick", asyncio.get_running_loop().time()))

    with World() as world:
        a, b = world.host("a"), world.host("b")
        a.spawn(tick())
        a.spawn(block())
        b.spawn(tick())
        world.run(10)
    times = [(what, round(at - 1_000)) for what, at in seen]
    assert times == [("before", 0), ("after", 5), ("tick", 1), ("tick", 5)]


def test_everybody_waiting_for_nobody_is_reported_with_names() -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="the culprit")

    with World() as world, pytest.raises(SimulationStuck, match="a/the culprit") as caught:
        world.call(world.host("a"), main())
    assert caught.value.waiting == ("a/main-1", "a/the culprit")


def test_a_task_that_never_waits_is_reported_by_name() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110 - a program that spins is the subject
            await asyncio.sleep(0)

    with (
        World(steps_per_instant_max=1_000) as world,
        pytest.raises(SimulationStuck, match="a/spin-1"),
    ):
        world.call(world.host("a"), spin())


def test_polling_a_clock_without_waiting_is_reported_instead_of_hanging() -> None:
    async def poll() -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass

    with World() as world, pytest.raises(SimulationStuck, match="reads the clock"):
        world.call(world.host("a"), poll())


def test_what_a_main_lets_escape_stops_the_run_and_says_where() -> None:
    async def main() -> None:
        await asyncio.sleep(2)
        raise KeyError("lost")

    with World(seed=3) as world:
        world.host("a", main)
        with pytest.raises(KeyError) as caught:
            world.run(10)
    assert caught.value.__notes__ == ["on host a at 2.000000001 s of virtual time, seed 3"]


def test_an_unhandled_error_in_a_callback_is_kept_and_the_world_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> str:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)
        return "alive"

    with World() as world:
        host = world.host("a")
        assert world.call(host, main()) == "alive"
        ((message, error),) = host.unhandled
        assert "lambda" in message
        assert isinstance(error, ZeroDivisionError)
    assert "a: Exception in a/" in caplog.text


def test_an_exception_handler_of_the_programs_own_is_asked_first() -> None:
    seen: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(0.1)

    with World() as world:
        host = world.host("a")
        world.call(host, main())
        assert host.unhandled == []
    assert [type(each) for each in seen] == [ZeroDivisionError]


def _blocking_socket() -> None:
    socket.create_connection(("a", 1))


async def _reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def _process() -> None:
    await asyncio.create_subprocess_exec("true")


async def _unix() -> None:
    await asyncio.open_unix_connection("/tmp/x")


async def _socket() -> None:
    _blocking_socket()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (_reader, r"loop.add_reader\(\)"),
        (_process, r"loop.subprocess_exec\(\)"),
        (_unix, r"loop.create_unix_connection\(\)"),
        (_socket, r"socket.connect\(\)"),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(
    call: Callable[[], Awaitable[Any]], named: str
) -> None:
    with World() as world, pytest.raises(NotSimulated, match=named):
        world.call(world.host("a"), call())  # type: ignore[arg-type]


def test_running_the_loop_from_inside_is_refused_with_advice() -> None:
    async def main() -> None:
        asyncio.get_running_loop().run_until_complete(asyncio.sleep(1))

    with World() as world, pytest.raises(InvalidInput, match=r"World.run"):
        world.call(world.host("a"), main())


def test_running_the_world_from_inside_is_refused_with_advice() -> None:
    with World() as world:

        async def main() -> None:
            world.run(1)

        with pytest.raises(InvalidInput, match="running already"):
            world.call(world.host("a"), main())
        world.run(1)


def test_tasks_of_a_factory_of_the_programs_own_have_names_of_this_world() -> None:
    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> list[str]:
        asyncio.get_running_loop().set_task_factory(factory)
        return [asyncio.create_task(asyncio.sleep(0)).get_name() for _ in range(2)]

    assert run(main()) == run(main()) == ["sleep-1", "sleep-2"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_work() -> None:
    async def main() -> list[str]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        seen: list[str] = []

        async def one(name: str) -> None:
            seen.append(name)
            await asyncio.sleep(1)
            seen.append(name)

        await asyncio.gather(one("a"), one("b"))
        return seen

    assert run(main()) == ["a", "b", "a", "b"]


def test_a_world_can_be_run_from_within_another_event_loop() -> None:
    async def outer() -> tuple[str, bool]:
        before = asyncio.get_running_loop()
        answer = run(asyncio.sleep(1, "inner"))
        await asyncio.sleep(0)
        return answer, asyncio.get_running_loop() is before

    assert asyncio.run(outer()) == ("inner", True)


def test_a_goal_that_is_not_reached_in_time_is_a_broken_promise() -> None:
    with World() as world:
        world.host("a", lambda: asyncio.sleep(1e6))
        with pytest.raises(PropertyViolated, match="within 5 s") as caught:
            world.run_until(lambda: False, within_s=5)
    assert isinstance(caught.value, AssertionError)


def test_real_time_and_randomness_come_back_after_the_world() -> None:
    originals = (time.time, socket.socket, asyncio.all_tasks)
    with World() as world:
        world.run(1)
        assert time.time is not originals[0]
    assert (time.time, socket.socket, asyncio.all_tasks) == originals
    with pytest.raises(InvalidInput, match="closed"):
        world.run(1)


def test_a_world_that_is_not_entered_touches_nothing() -> None:
    world = World()
    with pytest.raises(InvalidInput, match="with World"):
        world.run(1)
    with pytest.raises(InvalidInput, match="with World"):
        world.call("a", asyncio.sleep(1))
    assert gc.isenabled()
    with world:
        world.run(1)
    with pytest.raises(InvalidInput, match="entered once"):
        world.__enter__()


def test_leaving_a_world_lets_the_living_clean_up() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            await asyncio.sleep(1)
            seen.append("cleaned up")

    with World() as world:
        world.host("a", main)
        world.run(1)
        assert seen == []
    assert seen == ["cleaned up"]
