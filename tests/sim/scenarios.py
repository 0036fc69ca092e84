"""Scenarios that several tests run, in this process or in another one."""

from __future__ import annotations

import asyncio
import random
import sys
import uuid

from mcpcore.sim import Delay, Link, World


async def _serve() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                await asyncio.sleep(random.random() / 100)
                writer.write(line.upper())
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(shout, "0.0.0.0", 7)
    async with server:
        await server.serve_forever()


async def _ask() -> None:
    pending: set[asyncio.Task[None]] = set()
    for number in range(8):
        task = asyncio.create_task(_one(number))
        pending.add(task)
        task.add_done_callback(pending.discard)
        await asyncio.sleep(0.05)
    for task in pending:  # a set of tasks: its order is part of the run
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def _one(number: int) -> None:
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("server", 7)
            try:
                writer.write(f"{number} {uuid.uuid4()}\n".encode())
                await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        await asyncio.sleep(0.1)


def busy(world: World) -> None:
    """Traffic, randomness, timeouts, a crash, a cut: a bit of everything."""
    world.network.default = Link(
        Delay("lognormal", 1, 2, 0.5), loss=0.02, fragment=0.2, duplicate=0.1, reorder=0.2
    )
    world.host("server", _serve)
    for name in ("ann", "bob", "eve"):
        world.host(name, _ask, drift_ppm=40)
    world.at(0.1, world.network.isolate, "eve")
    world.at(0.2, world["server"].crash)
    world.at(0.9, world["server"].restart)
    world.at(1.5, world.network.repair)
    world.run(20)


if __name__ == "__main__":
    with World(int(sys.argv[1])) as a_world:
        busy(a_world)
        sys.stdout.write(a_world.digest)
