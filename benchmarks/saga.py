"""Journalled steps per second and the latency of a step: ours on SQLite and on Raft, beside DBOS.

``python -m benchmarks.saga`` measures the SQLite journal and a Raft journal of three nodes in this
process, at 1, 16 and 256 sagas at a time. ``--dbos`` makes a virtual environment in a temporary
directory, installs DBOS into it, and measures its workflows on SQLite too, in turn with ours.
Every saga has five steps that do nothing, so what is measured is the engine and its journal. A
step's latency is the time from the end of one step to the end of the next.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from mcpcore.node.sagas import GroupJournal
from mcpcore.saga import Call, Journal, Saga, SagaEngine, SqliteJournal, Step
from tests.node.local_cluster import LocalCluster

STEPS = 5
CONCURRENT = (1, 16, 256)
SECONDS = 2.0


class Stopwatch:
    """The time between the ends of a saga's steps."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        self.latencies_s: list[float] = []

    async def step(self, call: Call) -> None:
        now = time.perf_counter()
        before = self.ended.get(call.saga)
        self.ended[call.saga] = now
        if before is not None:
            self.latencies_s.append(now - before)


async def nothing(call: Call) -> None:
    """A compensation that is never run."""


async def measure(journal: Journal, concurrent: int) -> dict[str, float]:
    watch = Stopwatch()
    saga = Saga("bench", *(Step(watch.step, nothing, name=f"step{n}") for n in range(STEPS)))
    done = 0
    async with SagaEngine(journal, [saga]) as engine:
        await engine.run(saga)  # warm
        watch.latencies_s.clear()
        start = time.perf_counter()

        async def client() -> None:
            nonlocal done
            while time.perf_counter() - start < SECONDS:
                outcome = await engine.run(saga)
                assert outcome.ok
                watch.ended.pop(outcome.saga)
                done += STEPS

        await asyncio.gather(*(client() for _ in range(concurrent)))
        elapsed_s = time.perf_counter() - start
    return row(done / elapsed_s, watch.latencies_s)


def row(steps_per_s: float, latencies_s: list[float]) -> dict[str, float]:
    ordered = sorted(latencies_s)
    return {
        "steps_per_s": steps_per_s,
        "p50_ms": statistics.median(ordered) * 1e3,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
    }


@asynccontextmanager
async def raft(directory: Path) -> AsyncIterator[GroupJournal]:
    async with LocalCluster(directory) as cluster:
        await cluster.leader()
        async with cluster.client() as client:
            yield GroupJournal(client)


async def ours(kind: str, concurrent: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        if kind == "SQLite":
            return await measure(SqliteJournal(Path(directory) / "sagas.db"), concurrent)
        async with raft(Path(directory)) as journal:
            return await measure(journal, concurrent)


DBOS_PROGRAM = """
import asyncio, json, statistics, sys, time
from dbos import DBOS
concurrent, seconds, path, steps = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], 5
DBOS(config={"name": "bench", "system_database_url": "sqlite:///" + path, "log_level": "ERROR"})
latencies = []

@DBOS.step()
async def step():
    return time.perf_counter()

@DBOS.workflow()
async def saga():
    before = None
    for _ in range(steps):
        now = await step()
        if before is not None:
            latencies.append(now - before)
        before = now

async def main():
    DBOS.launch()
    await saga()
    latencies.clear()
    done, start = 0, time.perf_counter()
    async def client():
        nonlocal done
        while time.perf_counter() - start < seconds:
            await saga()
            done += steps
    await asyncio.gather(*(client() for _ in range(concurrent)))
    rate = done / (time.perf_counter() - start)
    ordered = sorted(latencies)
    print("RESULT " + json.dumps({"steps_per_s": rate, "p50_ms": statistics.median(ordered) * 1e3,
          "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3}), flush=True)
    DBOS.destroy()
asyncio.run(main())
"""


class Dbos:
    """DBOS in a virtual environment of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = directory / "venv" / "bin" / "python"
        venv.create(directory / "venv", with_pip=True)
        install = [self.python, "-m", "pip", "install", "--quiet", "dbos", "aiosqlite"]
        subprocess.run(install, check=True)
        self.program = directory / "program.py"
        self.program.write_text(DBOS_PROGRAM)
        shown = [self.python, "-c", "import importlib.metadata as m; print(m.version('dbos'))"]
        self.version = subprocess.run(
            shown, check=True, capture_output=True, text=True
        ).stdout.strip()

    def measure(self, concurrent: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as directory:
            words = [self.python, self.program, str(concurrent), str(SECONDS), f"{directory}/d.db"]
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=120 + 20 * SECONDS, check=False
            )
        for line in done.stdout.splitlines():
            if line.startswith("RESULT "):
                found: dict[str, float] = json.loads(line[7:])
                return found
        raise SystemExit(f"DBOS did not finish: {done.stderr[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dbos", action="store_true", help="measure DBOS too")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        dbos = Dbos(Path(directory)) if options.dbos else None
        print("| journal | sagas at a time | steps/s (median, min-max) | p50 ms | p99 ms |")
        print("|---|---|---|---|---|")
        for concurrent in CONCURRENT:
            found: dict[str, list[dict[str, float]]] = {}
            for _ in range(options.rounds):  # in turn, so that a busy machine slows all alike
                for kind in ("SQLite", "Raft, three nodes"):
                    found.setdefault(kind, []).append(uvloop.run(ours(kind, concurrent)))
                if dbos is not None:
                    found.setdefault(f"DBOS {dbos.version}, SQLite", []).append(
                        dbos.measure(concurrent)
                    )
            for kind, rows in found.items():
                rates = sorted(each["steps_per_s"] for each in rows)
                p50, p99 = (
                    statistics.median(each[name] for each in rows) for name in ("p50_ms", "p99_ms")
                )
                print(
                    f"| {kind} | {concurrent} | {statistics.median(rates):,.0f} "
                    f"({rates[0]:,.0f}-{rates[-1]:,.0f}) | {p50:.2f} | {p99:.2f} |",
                    flush=True,
                )
    print(f"\n> CPython {platform.python_version()}, uvloop, one process; {STEPS} empty steps.")


if __name__ == "__main__":
    sys.exit(main())
