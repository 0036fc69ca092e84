"""What each further voter costs: commits of groups of three to nine nodes."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.commit import EMBEDDED, ETCD, Maker, asking
from benchmarks.harness.bench import THROUGHPUT, Bench
from benchmarks.harness.programs import ProgramFailed
from benchmarks.peers.clusters import EtcdCluster, OurCluster

COUNTS = (3, 5, 7, 9)
IN_FLIGHT = 64


def measure(bench: Bench) -> None:
    """Ours within the leader, and etcd, one size after the other."""
    bench.answer.method = (
        f"As for commits: puts of 64 B, {IN_FLIGHT} in flight, synced; groups of 3 to 9 voters, "
        "all on one machine."
    )
    bench.answer.bias = (
        "Every further voter here costs processor time and disk of the same machine; on machines "
        "of their own it would cost the leader its share only."
    )
    bench.answer.references = (ETCD,)
    supply = bench.peer("etcd")
    order = {"do": "put", "value_bytes": 64, "in_flight": IN_FLIGHT}
    order["seconds"] = bench.options.seconds
    for count in COUNTS:
        bench.progress.say(f"starting {count} nodes")
        with ExitStack() as stack:
            directory = bench.directory / str(count)
            cluster = stack.enter_context(OurCluster(directory / "mcpcore", count=count))
            makers: dict[str, Maker] = {EMBEDDED: asking(cluster.members[cluster.leader()])}
            if supply is not None:
                try:
                    etcd = EtcdCluster(supply.program, directory / "etcd", count=count)
                    makers[ETCD] = asking(stack.enter_context(etcd).load("bare"))
                except ProgramFailed as failure:
                    bench.skip(f"etcd, {count} nodes", str(failure))
            contestants = {name: make(order) for name, make in makers.items()}
            bench.interleave("", {"nodes": count}, THROUGHPUT, contestants)
