"""How many writes a second three nodes commit, synced to disk, and how soon.

Three processes on loopback. *Embedded*: the proposals are made inside the leader's process, which
is what a library is for; *client*: by another process through ``Client``, in a session, so that
each is applied exactly once. etcd is asked by a client that costs it next to nothing, and by
grpcio, as Python programs do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from benchmarks.harness.bench import THROUGHPUT, Bench, Contestant, Measured, throughput
from benchmarks.harness.programs import Program, ProgramFailed
from benchmarks.peers.clusters import (
    EtcdCluster,
    Limits,
    OurCluster,
    PySyncObjCluster,
    Redis,
)

IN_FLIGHT = (1, 64, 1024)
VALUES = {"64 B": 64, "1 KiB": 1024}
EMBEDDED, CLIENT = "mcpcore, embedded", "mcpcore, client"
ETCD, ETCD_GRPC = "etcd, bare HTTP/2", "etcd, grpcio"
PYSYNCOBJ, REDIS = "PySyncObj, in memory", "Redis, one server"
SYNC, ECHO = "limit: fdatasync", "limit: loopback echo"

METHOD = (
    "Puts of distinct keys, one connection, no TLS, `in flight` at a time; what ends within the "
    "window counts. mcpcore: default settings, log synced with `fdatasync` before anything is "
    "acknowledged, snapshots included. etcd: defaults, every write synced. PySyncObj: called "
    "inside the leader's process, its log in memory (its default): **it syncs nothing**, and a "
    "power cut loses everything; it sends each command at once with one in flight, batches every "
    "2 ms with more (its default is 100 ms). Redis: one server, no replica, `appendfsync always`: "
    "no consensus at all. Limits: one thread that appends and syncs; an echo between two "
    "processes."
)
BIAS = (
    "All members, the load and the harness share one machine and one disk, so a sync of three logs "
    "costs what one device gives; etcd uses all cores, we use one for each node. The bare client "
    "for etcd is ours and does not decode headers, which favours etcd."
)


def measure(bench: Bench) -> None:
    """All contestants, all cases, in turn."""
    answer = bench.answer
    answer.method, answer.bias = METHOD, BIAS
    answer.references = (ETCD, PYSYNCOBJ)
    with ExitStack() as stack:
        makers = contestants(bench, stack)
        for value, value_bytes in VALUES.items():
            for in_flight in IN_FLIGHT:
                order = {"do": "put", "value_bytes": value_bytes, "in_flight": in_flight}
                order["seconds"] = bench.options.seconds
                bench.interleave(
                    "",
                    {"value": value, "in flight": in_flight},
                    THROUGHPUT,
                    {name: make(order) for name, make in makers.items() if may(name, in_flight)},
                )


def may(name: str, in_flight: int) -> bool:
    """A thread that waits for the disk has one write in flight, however many are asked for."""
    return name != SYNC or in_flight == 1


Maker = Callable[[Mapping[str, Any]], Contestant]


def contestants(bench: Bench, stack: ExitStack) -> dict[str, Maker]:
    """Start everybody; returns what makes a contestant of an order."""
    bench.progress.say("starting the nodes")
    directory = bench.directory
    ours = stack.enter_context(OurCluster(directory / "mcpcore"))
    leader, client = ours.members[ours.leader()], ours.client()
    limits = stack.enter_context(Limits(directory / "limits"))
    found: dict[str, Maker] = {EMBEDDED: asking(leader), CLIENT: asking(client)}
    found |= peers(bench, stack)
    found[SYNC] = asking(limits.load, do="sync")
    found[ECHO] = asking(limits.load, do="echo", port=limits.port)
    return found


def peers(bench: Bench, stack: ExitStack) -> dict[str, Maker]:
    """Those that are wanted and can be had."""
    found: dict[str, Maker] = {}
    directory = bench.directory
    if (supply := bench.peer("etcd")) is not None:
        try:
            etcd = stack.enter_context(EtcdCluster(supply.program, directory / "etcd"))
            found[ETCD] = asking(etcd.load("bare"))
            if (grpc := bench.peer("etcd-grpc")) is not None:
                found[ETCD_GRPC] = asking(etcd.load("grpc", grpc.program))
        except ProgramFailed as failure:
            bench.skip("etcd", str(failure))
    if (supply := bench.peer("pysyncobj")) is not None:
        try:
            theirs = stack.enter_context(PySyncObjCluster(supply.program, directory / "pysyncobj"))
            found[PYSYNCOBJ] = asking(theirs.leader())
        except ProgramFailed as failure:
            bench.skip("pysyncobj", str(failure))
    if (supply := bench.peer("redis")) is not None:
        try:
            redis = stack.enter_context(Redis(supply.program, directory / "redis"))
            found[REDIS] = asking(redis.load())
        except ProgramFailed as failure:
            bench.skip("redis", str(failure))
    return found


def asking(program: Program, **more: Any) -> Maker:
    """Contestants that hand an order to a program."""

    def make(order: Mapping[str, Any]) -> Contestant:
        whole = {**order, **more}

        def run() -> Measured:
            return throughput(program.ask(whole, timeout_s=30 + 3 * order["seconds"]))

        return run

    return make
