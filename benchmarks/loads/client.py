"""A client of our nodes in a process of its own, over plaintext on loopback.

Usage: python -m benchmarks.loads.client ADDRESS...
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import Any

from benchmarks.loads import orders
from benchmarks.loads.latencies import drive_calls
from benchmarks.loads.node import CLUSTER, KEYS
from mcpcore.errors import OutcomeUnknown, Rejected
from mcpcore.node.client.client import Client
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.transport.security import Plaintext
from mcpcore.node.waiting import Consistency


async def first(store: KeyValueClient) -> float:
    """Write until it succeeds; the monotonic time when it did."""
    while True:
        try:
            await store.put(b"first", b"v")
        except (Rejected, OutcomeUnknown) as error:
            print(error, file=sys.stderr)
            await asyncio.sleep(0.005)
        else:
            return time.monotonic()


async def main() -> None:
    """Answer orders until stdin ends."""
    security = Plaintext(allow_plaintext=True)
    async with Client(sys.argv[1:], cluster=CLUSTER, security=security) as client:
        store = KeyValueClient(client)

        async def handle(order: dict[str, Any]) -> dict[str, Any]:
            numbers = itertools.count()
            if order["do"] == "first":
                return {"at_s": await first(store)}
            if order["do"] == "put":
                value = b"v" * order["value_bytes"]

                async def call() -> object:
                    return await store.put(b"key/%08d" % (next(numbers) % KEYS), value)
            else:
                consistency = Consistency.parse(order["consistency"])

                async def call() -> object:
                    key = b"key/%08d" % (next(numbers) % KEYS)
                    return await store.get(key, consistency=consistency)

            return await drive_calls(call, order["in_flight"], order["seconds"])

        orders.answer({"ready": True})
        await orders.serve(handle)


if __name__ == "__main__":
    orders.run(main)
