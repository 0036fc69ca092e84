"""Puts and reads against etcd, over one connection to its leader, from a process of its own.

Usage: python -m benchmarks.loads.etcd bare|grpc PORT...

``bare`` speaks just enough HTTP/2 (see ``bare_http2``); ``grpc`` uses grpcio, as Python programs
do, and runs in a virtual environment that has it. Nothing of mcpcore is imported here.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from benchmarks.loads import bare_http2, orders
from benchmarks.loads.latencies import Done, drive, drive_calls
from benchmarks.loads.protobuf import PUT, RANGE, STATUS, is_leader, put_request, range_request

KEYS = 10_000
LEADER_S = 20.0
ATTEMPT_S = 0.1
"""Without a leader, a member keeps a write waiting for seconds before it refuses."""


class Caller(Protocol):
    """A connection to one member."""

    async def ask(self, path: str, message: bytes) -> bytes:
        """One call."""

    async def drive(
        self, make: Callable[[], tuple[str, bytes]], in_flight: int, seconds: float
    ) -> dict[str, Any]:
        """Many calls."""


class Bare:
    """Through ``bare_http2``."""

    def __init__(self, connection: bare_http2.Connection) -> None:
        self._connection = connection

    async def ask(self, path: str, message: bytes) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def ended(told: bytes | BaseException) -> None:
            if isinstance(told, bytes):
                future.set_result(told)
            else:
                future.set_exception(told)

        self._connection.call(path, message, ended)
        return await future

    async def drive(
        self, make: Callable[[], tuple[str, bytes]], in_flight: int, seconds: float
    ) -> dict[str, Any]:
        def fire(done: Done) -> None:
            path, message = make()
            self._connection.call(
                path, message, lambda told: done(None if isinstance(told, bytes) else told)
            )

        return await drive(fire, in_flight, seconds)


class Grpc:
    """Through grpcio's asyncio channel; messages are bytes already."""

    def __init__(self, port: int) -> None:
        import grpc

        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            path: channel.unary_unary(path) for path in (PUT, RANGE, STATUS)
        }

    async def ask(self, path: str, message: bytes) -> bytes:
        return await self._calls[path](message)

    async def drive(
        self, make: Callable[[], tuple[str, bytes]], in_flight: int, seconds: float
    ) -> dict[str, Any]:
        return await drive_calls(lambda: self.ask(*make()), in_flight, seconds)


async def leader(kind: str, ports: list[int]) -> tuple[int, Caller]:
    """The member that leads: its number, and a connection to it.

    Raises:
        TimeoutError: nobody did in time.
    """
    async with asyncio.timeout(LEADER_S):
        while True:
            for number, port in enumerate(ports):
                try:
                    caller: Caller = (
                        Grpc(port)
                        if kind == "grpc"
                        else Bare(await bare_http2.connect("127.0.0.1", port))
                    )
                    if is_leader(await caller.ask(STATUS, b"")):
                        return number, caller
                except Exception as error:  # noqa: BLE001 - it is starting; grpcio has its own errors
                    print(f"port {port}: {error}", file=sys.stderr)
            await asyncio.sleep(0.2)


async def first(ports: list[int]) -> float:
    """Ask all members at once to write until one has; the monotonic time when it had."""

    async def one(port: int) -> float:
        while True:
            try:
                connection = await bare_http2.connect("127.0.0.1", port)
                try:
                    async with asyncio.timeout(ATTEMPT_S):
                        await Bare(connection).ask(PUT, put_request(b"first", b"v"))
                    return time.monotonic()
                finally:
                    connection.close()
            except OSError as error:  # nobody there, or no leader yet
                print(f"port {port}: {error}", file=sys.stderr)
                await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(one(port)) for port in ports]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return min(task.result() for task in done)


async def main() -> None:
    """Answer orders until stdin ends."""
    kind, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
    _, caller = await leader(kind, ports)

    async def handle(order: dict[str, Any]) -> dict[str, Any]:
        numbers = itertools.count()
        if order["do"] == "leads":
            return {"member": (await leader(kind, ports))[0]}
        if order["do"] == "first":
            member = order.get("member")
            return {"at_s": await first(ports if member is None else [ports[member]])}
        if order["do"] == "put":
            value = b"v" * order["value_bytes"]

            def make() -> tuple[str, bytes]:
                return PUT, put_request(b"key/%08d" % (next(numbers) % KEYS), value)
        else:
            stale = order["consistency"] == "stale"

            def make() -> tuple[str, bytes]:
                key = b"key/%08d" % (next(numbers) % KEYS)
                return RANGE, range_request(key, serializable=stale)

        return await caller.drive(make, order["in_flight"], order["seconds"])

    orders.answer({"ready": True})
    await orders.serve(handle)


if __name__ == "__main__":
    orders.run(main)
