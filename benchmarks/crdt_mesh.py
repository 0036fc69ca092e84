"""Bytes sent in a mesh of replicas: the experiment of ICDE 2019, section 6."""

from __future__ import annotations

from benchmarks.harness.bench import Bench
from mcpcore.crdt.mesh import Algorithm, grow_map, grow_set, run_mesh

REPLICAS = 15


def measure(bench: Bench) -> None:
    """Every workload with every way to send."""
    bench.answer.method = (
        f"{REPLICAS} replicas in a partial mesh, virtual time, fixed dice: no machine is measured."
    )
    workloads = {
        "GSet": grow_set,
        "GMap 10 %": grow_map(10, replicas=REPLICAS),
        "GMap 100 %": grow_map(100, replicas=REPLICAS),
    }
    for name, workload in workloads.items():
        for algorithm in Algorithm:
            case = {"workload": name}
            bench.progress.step(algorithm.value, case)
            sent = run_mesh(name, workload, algorithm).sent_bytes
            bench.figure("", algorithm.value, case, "sent", [sent / 1e6], unit="MB", better="less")
