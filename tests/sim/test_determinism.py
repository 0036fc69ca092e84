"""The same seed gives the same run, and what would break that is neutralised or caught."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import random
import secrets
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import monotonic as an_alias_of_monotonic
from types import FrameType
from typing import Any

import pytest

from mcpcore.errors import InvalidInput, NondeterminismFound, NotSimulated
from mcpcore.sim import World
from mcpcore.sim.replay import check_deterministic

_HERE = Path(__file__).parent
_SPEC = importlib.util.spec_from_file_location("sim_scenarios", _HERE / "scenarios.py")
assert _SPEC is not None
assert _SPEC.loader is not None
scenarios = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(scenarios)


def digest_of_busy(seed: int = 5) -> str:
    with World(seed) as world:
        scenarios.busy(world)
        return world.digest


def test_the_same_seed_gives_the_same_digest_twice_in_one_process() -> None:
    assert digest_of_busy() == digest_of_busy()


def test_another_seed_gives_another_digest() -> None:
    assert digest_of_busy(5) != digest_of_busy(6)


@pytest.mark.parametrize("order", ["fifo", "random", "pct"])
def test_every_order_of_scheduling_is_deterministic(order: str) -> None:
    check_deterministic(scenarios.busy, seed=3, order=order)


def test_the_digest_is_the_same_in_other_processes_under_other_hash_seeds() -> None:
    digests = {digest_of_busy()}
    for hash_seed in ("0", "4242"):
        ran = subprocess.run(
            [sys.executable, str(_HERE / "scenarios.py"), "5"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(_HERE.parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout)
    assert len(digests) == 1


def test_the_digest_is_the_same_under_a_tracing_tool() -> None:
    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return trace

    plain = digest_of_busy()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        traced = digest_of_busy()
    finally:
        sys.settrace(before)
    assert traced == plain


def test_the_digest_does_not_depend_on_the_garbage_collectors_mood() -> None:
    plain = digest_of_busy()
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        assert digest_of_busy() == plain
    finally:
        gc.set_threshold(*thresholds)
    gc.disable()
    try:
        assert digest_of_busy() == plain
        assert not gc.isenabled(), "a world leaves the collector as it found it"
    finally:
        gc.enable()


# --- planted: each of these differs from run to run in a plain program ---------------------------


async def _task_names() -> object:
    await asyncio.create_task(asyncio.sleep(0))
    return asyncio.create_task(asyncio.sleep(0)).get_name()


async def _sets_of_tasks() -> object:
    async def one(number: int) -> int:
        await asyncio.sleep(1)
        return number

    tasks = {asyncio.create_task(one(number)) for number in range(50)}
    order = [task.get_name() for task in tasks]
    done, _ = await asyncio.wait(tasks)
    return order, [task.result() for task in done]


async def _as_completed() -> object:
    order: list[int] = []

    async def one(number: int) -> None:
        order.append(number)

    for each in asyncio.as_completed([one(number) for number in range(50)]):
        await each
    return order


async def _all_tasks() -> object:
    others = [asyncio.create_task(asyncio.sleep(9)) for _ in range(30)]
    names = [task.get_name() for task in asyncio.all_tasks()]
    for task in others:
        task.cancel()
    return names


async def _in_a_thread() -> object:
    return await asyncio.to_thread(lambda: (time.monotonic_ns(), random.random()))


async def _finaliser() -> object:
    seen: list[int] = []

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append(time.time_ns())

    loop = asyncio.get_running_loop()
    for _ in range(150):
        Cyclic()
        for _ in range(200):
            await asyncio.sleep(0.001)
    return seen, loop.time()


async def _an_abandoned_generator() -> object:
    closed: list[float] = []

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.5)
            closed.append(time.monotonic())

    async for _ in numbers():
        break
    await asyncio.sleep(1)
    return closed


# A lambda looks the function up when it is called, as a program does; hence
# ruff: noqa: PLW0108
PLANTED: dict[str, Callable[[], Any]] = {
    "time.time": lambda: time.time(),
    "time.time_ns": lambda: time.time_ns(),
    "time.perf_counter": lambda: time.perf_counter(),
    "an alias made by from-import": lambda: an_alias_of_monotonic(),
    "datetime.now": lambda: datetime.now().isoformat(),  # noqa: DTZ005
    "time.localtime": lambda: tuple(time.localtime()),
    "time.strftime": lambda: time.strftime("%H:%M:%S"),
    "random.random": lambda: random.random(),
    "random.Random unseeded": lambda: random.Random().random(),
    "random.SystemRandom": lambda: random.SystemRandom().random(),
    "os.urandom": lambda: os.urandom(8).hex(),
    "secrets": lambda: secrets.token_hex(8),
    "uuid4": lambda: str(uuid.uuid4()),
    "uuid1": lambda: str(uuid.uuid1()),
    "os.getpid": lambda: os.getpid(),
    "task names": _task_names,
    "sets of tasks": _sets_of_tasks,
    "as_completed": _as_completed,
    "all_tasks": _all_tasks,
    "work in a thread": _in_a_thread,
    "finalisers": _finaliser,
    "abandoned async generators": _an_abandoned_generator,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_source_of_chance_is_neutralised(name: str) -> None:
    async def main() -> object:
        answer = PLANTED[name]()
        return await answer if asyncio.iscoroutine(answer) else answer

    answers = []
    garbage: list[object] = []
    for _ in range(2):
        garbage.append([object() for _ in range(1_000)])  # other addresses, other hashes
        with World(seed=9) as world:
            answers.append((world.call(world.host("a"), main()), world.digest))
    assert answers[0] == answers[1]


def test_finalisers_run_at_the_same_steps_whatever_the_collector_is_told() -> None:
    def seen() -> object:
        with World(seed=9) as world:
            return world.call(world.host("a"), _finaliser())

    plain = seen()
    thresholds = gc.get_threshold()
    gc.set_threshold(7, 1, 1)
    try:
        assert seen() == plain
    finally:
        gc.set_threshold(*thresholds)


def test_an_order_that_depends_on_addresses_is_caught_and_the_first_difference_is_shown() -> None:
    class Worker:
        def __init__(self, number: int) -> None:
            self.number = number

    kept: list[object] = []

    def scenario(world: World) -> None:
        async def main() -> None:
            workers = {Worker(number) for number in range(64)}
            kept.append(workers)
            for worker in workers:  # hashed by address: another order in each run
                await asyncio.sleep(worker.number / 1_000)

        world.host("a", main)
        world.run(10)

    with pytest.raises(NondeterminismFound, match=r"first difference is event #\d+") as caught:
        check_deterministic(scenario)
    assert "first run:" in str(caught.value)
    assert "second run:" in str(caught.value)


def test_the_address_of_an_object_sent_over_the_network_is_caught() -> None:
    kept: list[object] = []

    def scenario(world: World) -> None:
        async def main() -> None:
            async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()
                writer.close()

            await asyncio.start_server(hear, "0.0.0.0", 1)
            _, writer = await asyncio.open_connection("a", 1)
            kept.append(object())
            writer.write(f"{id(kept[-1])}".encode())
            writer.close()

        world.host("a", main)
        world.run(10)

    with pytest.raises(NondeterminismFound, match="send"):
        check_deterministic(scenario)


def test_a_thread_is_refused_by_name() -> None:
    async def main() -> None:
        threading.Thread(target=print).start()

    with World() as world, pytest.raises(NotSimulated, match=r"threading.Thread.start\(\)"):
        world.call(world.host("a"), main())


def test_other_threads_of_the_test_process_keep_real_time() -> None:
    seen: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.001):
            seen.append(time.time())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with World() as world:
            host = world.host("a")
            for _ in range(20):
                world.call(host, asyncio.sleep(3_000))
    finally:
        stop.set()
        thread.join()
    now = time.time()
    assert all(abs(each - now) < 60 for each in seen)


def test_a_second_thread_cannot_enter_a_world_meanwhile() -> None:
    caught: list[BaseException] = []

    def intrude() -> None:
        try:
            with World() as another:
                another.run(1)
        except InvalidInput as error:
            caught.append(error)

    with World() as world:
        world.run(1)
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        world.run(1)
    assert "processes, not in threads" in str(caught[0])


def test_one_more_draw_by_the_program_moves_nothing_on_the_network() -> None:
    def deliveries(draws: int) -> list[int]:
        async def serve() -> None:
            async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()
                writer.close()

            await asyncio.start_server(hear, "0.0.0.0", 1)

        async def ask() -> None:
            for _ in range(draws):
                random.random()
            _, writer = await asyncio.open_connection("server", 1)
            writer.write(b"x")
            writer.close()

        with World(4) as world:
            world.host("server", serve)
            world.run(1)
            world.host("client", ask)
            world.run(10)
            return [event.at_ns for event in world.trace.events("deliver")]

    assert deliveries(0) == deliveries(5)
