"""SETs against one Redis, over one connection, from a process of its own.

Usage: python -m benchmarks.loads.redis PORT
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import deque
from typing import Any, cast

from benchmarks.loads import orders
from benchmarks.loads.latencies import Done, drive

KEYS = 10_000


class Connection(asyncio.Protocol):
    """As much of RESP as SET needs: every answer is one line."""

    def __init__(self) -> None:
        self._waiting: deque[Done] = deque()
        self._out: list[bytes] = []
        self._rest = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name

    def set(self, key: bytes, value: bytes, done: Done) -> None:
        """What is set in one turn of the loop leaves in one write."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)
        )
        self._waiting.append(done)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            good = line == b"+OK"
            self._waiting.popleft()(None if good else RuntimeError(f"Redis: {line!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        while self._waiting:
            self._waiting.popleft()(error or ConnectionError("Redis hung up"))

    def _flush(self) -> None:
        out, self._out = b"".join(self._out), []
        self._transport.write(out)


async def main() -> None:
    """Answer orders until stdin ends."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while True:
            try:
                _, redis = await loop.create_connection(Connection, "127.0.0.1", int(sys.argv[1]))
                break
            except OSError:  # it is starting
                await asyncio.sleep(0.1)

    async def handle(order: dict[str, Any]) -> dict[str, Any]:
        numbers, value = itertools.count(), b"v" * order["value_bytes"]

        def fire(done: Done) -> None:
            redis.set(b"key/%08d" % (next(numbers) % KEYS), value, done)

        return await drive(fire, order["in_flight"], order["seconds"])

    orders.answer({"ready": True})
    await orders.serve(handle)


if __name__ == "__main__":
    orders.run(main)
