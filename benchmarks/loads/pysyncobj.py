"""One PySyncObj node with whoever calls it inside its process, in a virtual environment of its own.

Usage: python -m benchmarks.loads.pysyncobj OURS PARTNER...   (host:port each)

Its log is in memory, which is its default and its fastest; nothing is synced, and nothing survives
the loss of power. The object is a dictionary with a replicated ``put``. It is driven by ``doTick``,
so that no thread has to hand over to another; windows are PySyncObj's defaults (0.4 to 1.4 s).
While it is loaded, it sends in the way that suits the load: each command at once if there is one in
flight, batches every 2 ms otherwise. With its default, batches every 100 ms, one in flight makes 10
commands a second.
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
import threading
import time
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

from benchmarks.loads import orders
from benchmarks.loads.latencies import Done, Meter

KEYS = 10_000
TICK_S = 0.02
PERIOD_S = 0.1
BUSY_PERIOD_S = 0.002


class Store(SyncObj):  # type: ignore[misc]
    """What etcd and our key-value machine do, as little of it as a put needs."""

    def __init__(self, ours: str, partners: list[str], settings: SyncObjConf) -> None:
        super().__init__(ours, partners, settings)
        self.values: dict[bytes, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: bytes, value: bytes) -> int:
        self.values[key] = value
        return len(self.values)


def load(store: Store, settings: SyncObjConf, order: dict[str, Any]) -> dict[str, Any]:
    """Puts from within the leader's process."""
    settings.appendEntriesUseBatch = order["in_flight"] > 1
    settings.appendEntriesPeriod = BUSY_PERIOD_S
    numbers, value, over = itertools.count(), b"v" * order["value_bytes"], []

    def fire(done: Done) -> None:
        def ended(result: object, error: int) -> None:
            done(None if error == FAIL_REASON.SUCCESS else RuntimeError(f"PySyncObj: {error}"))

        store.put(b"key/%08d" % (next(numbers) % KEYS), value, callback=ended)

    meter = Meter(fire, order["seconds"], lambda: over.append(True))
    for _ in range(order["in_flight"]):
        meter.go()
    while not over:
        store.doTick(TICK_S)
    settings.appendEntriesPeriod = PERIOD_S
    return meter.told()


def first(store: Store) -> float:
    """Write until it succeeds; the monotonic time when it did."""
    while True:
        ended: list[int] = []
        store.put(b"first", b"v", callback=lambda result, error, e=ended: e.append(error))
        while not ended:
            store.doTick(TICK_S)
        if ended[0] == FAIL_REASON.SUCCESS:
            return time.monotonic()


def main() -> None:
    """Tick, and answer orders, until stdin ends."""
    settings = SyncObjConf(
        autoTick=False,
        connectionRetryTime=0.1,
        appendEntriesPeriod=PERIOD_S,
        appendEntriesUseBatch=False,  # else it makes no pipe to wake it, and cannot change later
    )
    store = Store(sys.argv[1], sys.argv[2:], settings)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            waiting.put(line)
        waiting.put("")

    threading.Thread(target=listen, daemon=True).start()
    orders.answer({"ready": True})
    while True:
        store.doTick(TICK_S)
        if waiting.empty():
            continue
        line = waiting.get()
        if not line:
            return
        order = json.loads(line)
        if order["do"] == "leads":
            told = {"leads": store._isLeader() and store.isReady()}
        elif order["do"] == "first":
            told = {"at_s": first(store)}
        elif order["do"] == "put":
            told = load(store, settings, order)
        else:
            told = {"error": f"unknown order {order['do']}"}
        orders.answer(told)


if __name__ == "__main__":
    main()
