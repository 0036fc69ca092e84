"""How fast the simulator is, against stock asyncio and against its peers.

Run ``python -m benchmarks.sim``. Figures are medians of interleaved rounds, with the least and the
greatest, since one round on a shared machine says nothing. The peers (simloop, simloom,
async-solipsism) are measured where they are installed, through their own public calls.

Distrust us: we wrote both the library and this file. A token ring has one task ready at a time and
no input or output, so stock asyncio pays one system call per hop and we pay none; the ring says
what a *step* costs, not how fast a program is.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import platform
import random
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

from mcpcore.sim import World

TASKS = 100
ROUNDS_OF_THE_RING = 200
SLEEPERS = 100
SLEEP_FOR_S = 120.0

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]


async def ring() -> None:
    """100 tasks pass one token round and round."""
    queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(TASKS)]

    async def pass_on(number: int) -> None:
        for _ in range(ROUNDS_OF_THE_RING):
            token = await queues[number].get()
            await queues[(number + 1) % TASKS].put(token + 1)

    tasks = [asyncio.create_task(pass_on(number)) for number in range(TASKS)]
    await queues[0].put(0)
    await asyncio.gather(*tasks)


async def sleepers() -> None:
    """100 tasks that wake once a second each, ten milliseconds apart."""

    async def sleep(number: int) -> None:
        await asyncio.sleep(number / 100)
        while True:  # noqa: ASYNC110 - sleeping is the work
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(sleep(number)) for number in range(SLEEPERS)]
    await asyncio.sleep(SLEEP_FOR_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def chatter() -> None:
    """Five hosts' worth of echo traffic on one host: the price of a message over a stream."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 7_007)

    async def talk() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", 7_007)
        for _ in range(MESSAGES):
            writer.write(b"x" * 100)
            await reader.readexactly(100)
        writer.close()

    await asyncio.gather(*(talk() for _ in range(5)))
    server.close()


MESSAGES = 1_000


def in_our_world(main: Callable[[], Coroutine[Any, Any, None]]) -> object:
    with World(seed=1) as world:
        world.call(world.host("bench"), main())
        return world.digest


def in_stock_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> object:
    return asyncio.run(main())


def peers() -> dict[str, Run]:
    found: dict[str, Run] = {}
    for name, make in (("async_solipsism", _solipsism), ("simloop", _simloop), ("simloom", _loom)):
        try:
            found[name] = make(importlib.import_module(name))
        except ImportError:
            continue
    return found


def _solipsism(module: Any) -> Run:
    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> object:
        with asyncio.Runner(loop_factory=module.EventLoop) as runner:
            return runner.run(main())

    return run


def _simloop(module: Any) -> Run:
    return lambda main: module.SimLoop(1).run_until_complete(main())


def _loom(module: Any) -> Run:
    return lambda main: module.run(main, seed=1)


def measure(runs: dict[str, Run], main: Callable[[], Any], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each contender, one round after the other, in a new order each time."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)
        random.Random(number).shuffle(names)
        for name in names:
            before = time.process_time()
            try:
                runs[name](main)
            except Exception as error:  # noqa: BLE001 - a peer that cannot is reported, not hidden
                print(f"  {name} cannot: {type(error).__name__}: {error}")
                runs = {each: run for each, run in runs.items() if each != name}
                continue
            seconds[name].append(time.process_time() - before)
    return {name: each for name, each in seconds.items() if each}


def show(title: str, unit: str, figures: dict[str, list[float]]) -> None:
    print(f"\n{title} ({unit}: median, least to greatest)")
    for name, values in figures.items():
        middle = statistics.median(values)
        print(f"  {name:16} {middle:10.2f}  ({min(values):.2f} to {max(values):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.sim")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"CPython {platform.python_version()}, {platform.machine()}; CPU time, {rounds} rounds")

    everybody: dict[str, Run] = {"stock asyncio": in_stock_asyncio, "mcpcore.sim": in_our_world}
    everybody |= peers()
    hops = TASKS * ROUNDS_OF_THE_RING
    ringed = measure(everybody, ring, rounds)
    show(
        f"Token ring of {TASKS} tasks, digest on",
        "microseconds per hop",
        {name: [second / hops * 1e6 for second in each] for name, each in ringed.items()},
    )
    stock, ours = (statistics.median(ringed[name]) for name in ("stock asyncio", "mcpcore.sim"))
    print(f"  ours / stock: {ours / stock:.2f} (aim: at most 1.5)")

    virtual = {name: run for name, run in everybody.items() if name != "stock asyncio"}
    slept = measure(virtual, sleepers, rounds)
    show(
        f"{SLEEPERS} sleepers, one wake each per virtual second",
        "virtual seconds per CPU second",
        {name: [SLEEP_FOR_S / second for second in each] for name, each in slept.items()},
    )

    both = {name: everybody[name] for name in ("stock asyncio", "mcpcore.sim")}
    messages = 5 * MESSAGES * 2
    talked = measure(both, chatter, rounds)
    show(
        "Echo over streams, 100 bytes",
        "microseconds per message",
        {name: [second / messages * 1e6 for second in each] for name, each in talked.items()},
    )


if __name__ == "__main__":
    main()
