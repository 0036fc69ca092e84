"""What the machine itself allows: syncs to disk, and round trips over loopback.

Usage: python -m benchmarks.loads.limits DIRECTORY, or ... echo (a server; says its port).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from benchmarks.loads import orders
from benchmarks.loads.latencies import Done, Window, drive


class Echo(asyncio.Protocol):
    """Sends back whatever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class Asking(asyncio.Protocol):
    """Sends messages of one size, many at a time, and counts what comes back."""

    def __init__(self, size: int) -> None:
        self._message, self._missing = b"m" * size, 0
        self._waiting: deque[Done] = deque()
        self._out = 0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def ask(self, done: Done) -> None:
        """One round trip. What is asked in one turn of the loop leaves in one write."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += 1
        self._waiting.append(done)

    def data_received(self, data: bytes) -> None:
        count, self._missing = divmod(self._missing + len(data), len(self._message))
        for _ in range(count):
            self._waiting.popleft()(None)

    def _flush(self) -> None:
        count, self._out = self._out, 0
        self.transport.write(self._message * count)


def sync(directory: Path, size: int, seconds: float) -> dict[str, Any]:
    """Append, ``fdatasync``, and again: what one thread that waits for the disk can do."""
    path, block, window = directory / "limit", b"x" * size, Window(seconds)
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while (began_s := perf_counter()) < window.closes_s:
        os.write(file, block)
        os.fdatasync(file)
        window.ended(began_s, perf_counter())
    os.close(file)
    path.unlink()
    return window.told()


async def serve_echo() -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    orders.answer({"port": server.sockets[0].getsockname()[1]})

    async def handle(order: dict[str, Any]) -> dict[str, Any]:
        return {"error": "an echo takes no orders"}

    await orders.serve(handle)
    server.close()


async def main() -> None:
    """Answer orders until stdin ends."""
    loop = asyncio.get_running_loop()

    async def handle(order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "sync":
            return sync(Path(sys.argv[1]), order["value_bytes"], order["seconds"])
        _, asking = await loop.create_connection(
            lambda: Asking(order["value_bytes"]), "127.0.0.1", order["port"]
        )
        told = await drive(asking.ask, order["in_flight"], order["seconds"])
        asking.transport.close()
        return told

    orders.answer({"ready": True})
    await orders.serve(handle)


if __name__ == "__main__":
    orders.run(serve_echo if sys.argv[1] == "echo" else main)
