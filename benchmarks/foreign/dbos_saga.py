"""DBOS: workflows of five empty steps on SQLite."""

from __future__ import annotations

import asyncio
import tempfile
import time
from typing import Any

from dbos import DBOS

from benchmarks.loads.latencies import summary

STEPS = 5


async def measure(concurrent: int, seconds: float) -> dict[str, Any]:
    """So many workflows at a time, for so long; a step's latency is from end to end."""
    latencies_s: list[float] = []

    @DBOS.step()  # type: ignore[untyped-decorator]
    async def step() -> float:
        return time.perf_counter()

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    async def saga() -> None:
        before_s = None
        for _ in range(STEPS):
            now_s = await step()
            if before_s is not None:
                latencies_s.append(now_s - before_s)
            before_s = now_s

    DBOS.launch()
    await saga()
    latencies_s.clear()
    done, began_s = 0, time.perf_counter()

    async def client() -> None:
        nonlocal done
        while time.perf_counter() - began_s < seconds:
            await saga()
            done += STEPS

    await asyncio.gather(*(client() for _ in range(concurrent)))
    lasted_s = time.perf_counter() - began_s
    return {**summary(latencies_s, lasted_s), "operations": done}


def handle(order: dict[str, Any]) -> dict[str, Any]:
    """One measurement in a database of its own."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/d.db"
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
        try:
            return asyncio.run(measure(order["concurrent"], order["seconds"]))
        finally:
            DBOS.destroy(destroy_registry=True)
