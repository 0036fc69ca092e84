"""The same asyncio programs under every loop: stock, ours, and those of the young peers.

Each interpreter imports only the loop it is asked for. SimPy has processes instead of tasks, and
gets the sleepers as its own idiom has them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

TASKS = 100
TURNS_OF_THE_RING = 200
SLEEP_FOR_S = 120.0
MESSAGES = 1_000
Main = Callable[[], Coroutine[Any, Any, None]]


async def ring() -> None:
    """100 tasks pass one token round and round."""
    queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(TASKS)]

    async def pass_on(number: int) -> None:
        for _ in range(TURNS_OF_THE_RING):
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

    tasks = [asyncio.create_task(sleep(number)) for number in range(TASKS)]
    await asyncio.sleep(SLEEP_FOR_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def chatter() -> None:
    """Five connections of echo traffic on one host: the price of a message over a stream."""

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


def simpy_sleepers() -> None:
    import simpy

    environment = simpy.Environment()

    def sleep(number: int) -> Any:
        yield environment.timeout(number / 100)
        while True:
            yield environment.timeout(1)

    for number in range(TASKS):
        environment.process(sleep(number))
    environment.run(until=SLEEP_FOR_S)


def stock(main: Main) -> None:
    asyncio.run(main())


def solipsism(main: Main) -> None:
    import async_solipsism

    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(main())


def simloop(main: Main) -> None:
    import simloop as theirs

    theirs.SimLoop(1).run_until_complete(main())


def simloom(main: Main) -> None:
    import simloom as theirs

    theirs.run(main, seed=1)


def handle(order: dict[str, Any]) -> dict[str, Any]:
    """Processor seconds of one program under one loop."""
    began_s = time.process_time()
    if order["loop"] == "simpy":
        simpy_sleepers()
    else:
        globals()[order["loop"]](globals()[order["program"]])
    return {"cpu_s": time.process_time() - began_s}
