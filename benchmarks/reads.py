"""How many reads a second, by what they promise.

*Linearizable*: sees everything committed before it was asked; the leader asks a quorum, many reads
share one question. *Lease*: the same, relying on clocks' rates. *Stale*: what the member has.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.commit import CLIENT, EMBEDDED, ETCD, ETCD_GRPC, Maker, asking
from benchmarks.harness.bench import THROUGHPUT, Bench
from benchmarks.harness.programs import Program, ProgramFailed
from benchmarks.peers.clusters import EtcdCluster, OurCluster

IN_FLIGHT = (1, 64)
CONSISTENCIES = ("linearizable", "lease", "stale")


def measure(bench: Bench) -> None:
    """Ours within the leader and through a client; etcd through both of its clients."""
    answer = bench.answer
    answer.method = (
        "10,000 keys of 64 B, three nodes, no TLS. mcpcore: default settings. etcd: linearizable "
        "reads (its default), and serializable ones, which are what we call stale; it has no lease "
        "reads, so those are held against nothing."
    )
    answer.bias = (
        "A read within the leader's process crosses no connection; etcd's always does. The rows "
        "of the client are the like for like."
    )
    answer.references = (ETCD, ETCD_GRPC)
    with ExitStack() as stack:
        ours = stack.enter_context(OurCluster(bench.directory / "mcpcore"))
        leader = ours.members[ours.leader()]
        fill(leader, bench)
        makers: dict[str, Maker] = {EMBEDDED: asking(leader), CLIENT: asking(ours.client())}
        makers |= peers(bench, stack)
        for consistency in CONSISTENCIES:
            for in_flight in IN_FLIGHT:
                order: dict[str, Any] = {"do": "get", "consistency": consistency}
                order |= {"in_flight": in_flight, "seconds": bench.options.seconds}
                bench.interleave(
                    "",
                    {"consistency": consistency, "in flight": in_flight},
                    THROUGHPUT,
                    {
                        name: make(order)
                        for name, make in makers.items()
                        if consistency != "lease" or not name.startswith("etcd")
                    },
                )


def peers(bench: Bench, stack: ExitStack) -> dict[str, Maker]:
    """etcd's two clients, where wanted and to be had."""
    found: dict[str, Maker] = {}
    if (supply := bench.peer("etcd")) is not None:
        try:
            etcd = stack.enter_context(EtcdCluster(supply.program, bench.directory / "etcd"))
            bare = etcd.load("bare")
            fill(bare, bench)
            found[ETCD] = asking(bare)
            if (grpc := bench.peer("etcd-grpc")) is not None:
                found[ETCD_GRPC] = asking(etcd.load("grpc", grpc.program))
        except ProgramFailed as failure:
            bench.skip("etcd", str(failure))
    return found


def fill(program: Program, bench: Bench) -> None:
    """Write the keys that will be read: all of them, unless the run is very short."""
    seconds = min(3.0, 2 * bench.options.seconds)
    program.ask({"do": "put", "value_bytes": 64, "in_flight": 512, "seconds": seconds})
