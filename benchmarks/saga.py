"""Journalled steps per second and the latency of a step: ours on SQLite and on Raft, beside DBOS.

Every saga has five steps that do nothing, so what is measured is the engine and its journal. A
step's latency is the time from the end of one step to the end of the next.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured, throughput
from benchmarks.harness.programs import Program
from benchmarks.loads.latencies import summary
from benchmarks.loads.node import CLUSTER
from benchmarks.peers.clusters import OurCluster
from benchmarks.peers.foreign import foreign
from mcpcore.node.client.client import Client
from mcpcore.node.sagas import GroupJournal
from mcpcore.node.transport.security import Plaintext
from mcpcore.saga import Call, Journal, Saga, SagaEngine, SqliteJournal, Step

STEPS = 5
CONCURRENT = (1, 16, 64, 256)
SQLITE, RAFT, DBOS = "mcpcore, SQLite", "mcpcore, Raft of three nodes", "DBOS, SQLite"
STEP = {
    "steps": Measure("per s", "more"),
    "p50": Measure("ms", "less"),
    "p99": Measure("ms", "less"),
}


def measure(bench: Bench) -> None:
    """All journals in turn, at four numbers of sagas at a time."""
    bench.answer.method = (
        f"{STEPS} empty steps a saga. SQLite: one file, its default journal mode of each engine, "
        "synced. Raft: three nodes as processes on loopback, the engine in a fourth."
    )
    bench.answer.bias = "DBOS keeps more of each step (inputs, outputs, a user interface's needs)."
    bench.answer.references = (DBOS,)
    with ExitStack() as stack:
        cluster = stack.enter_context(OurCluster(bench.directory / "raft"))
        cluster.leader()
        dbos = foreign(bench, stack, "dbos", "dbos_saga")
        seconds = bench.options.seconds
        for concurrent in CONCURRENT:
            contestants: dict[str, Contestant] = {
                SQLITE: partial(on_sqlite, bench.directory, concurrent, seconds),
                RAFT: partial(on_raft, cluster.addresses, concurrent, seconds),
            }
            if dbos is not None:
                contestants[DBOS] = asked(dbos, concurrent, seconds)
            bench.interleave("", {"sagas at a time": concurrent}, STEP, contestants)


def asked(program: Program, concurrent: int, seconds: float) -> Contestant:
    """DBOS, in its own environment."""

    def run() -> Measured:
        told = program.ask({"concurrent": concurrent, "seconds": seconds}, 120 + 20 * seconds)
        return steps(told)

    return run


def on_sqlite(directory: Path, concurrent: int, seconds: float) -> Measured:
    """A fresh database."""
    path = directory / "sagas.db"
    for each in directory.glob("sagas.db*"):
        each.unlink()
    return steps(uvloop.run(load(SqliteJournal(path), concurrent, seconds)))


def on_raft(addresses: list[str], concurrent: int, seconds: float) -> Measured:
    """The cluster that is there."""

    async def run() -> dict[str, Any]:
        security = Plaintext(allow_plaintext=True)
        async with Client(addresses, cluster=CLUSTER, security=security) as client:
            return await load(GroupJournal(client), concurrent, seconds)

    return steps(uvloop.run(run()))


def steps(told: dict[str, Any]) -> Measured:
    """The rate of steps, and their latencies."""
    measured = throughput(told)
    values = dict(measured.values)
    return Measured({"steps": values.pop("rate"), **values}, measured.quantiles)


class Stopwatch:
    """The time between the ends of a saga's steps."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        self.latencies_s: list[float] = []

    async def step(self, call: Call) -> None:
        now_s = time.perf_counter()
        before_s = self.ended.get(call.saga)
        self.ended[call.saga] = now_s
        if before_s is not None:
            self.latencies_s.append(now_s - before_s)


async def nothing(call: Call) -> None:
    """A compensation that is never run."""


async def load(journal: Journal, concurrent: int, seconds: float) -> dict[str, Any]:
    """So many sagas at a time, for so long."""
    watch = Stopwatch()
    saga = Saga("bench", *(Step(watch.step, nothing, name=f"step{n}") for n in range(STEPS)))
    done = 0
    async with SagaEngine(journal, [saga]) as engine:
        await engine.run(saga)  # warm
        watch.latencies_s.clear()
        began_s = time.perf_counter()

        async def client() -> None:
            nonlocal done
            while time.perf_counter() - began_s < seconds:
                outcome = await engine.run(saga)
                assert outcome.ok
                watch.ended.pop(outcome.saga)
                done += STEPS

        await asyncio.gather(*(client() for _ in range(concurrent)))
        lasted_s = time.perf_counter() - began_s
    return {**summary(watch.latencies_s, lasted_s), "operations": done}
