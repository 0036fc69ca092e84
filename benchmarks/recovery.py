"""How soon a node is back: with a long log, with a state it has to be sent, far behind.

Sizes are scaled down so that a run takes minutes; ``--full`` asks for 1 GiB and a million entries.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.groups import wait_until
from benchmarks.harness.bench import Bench
from benchmarks.peers.clusters import OurCluster

MIB = 1 << 20
KIB = 1 << 10
LOG_MIB = (8, 16, 32, 64)
FULL_LOG_MIB = (128, 256, 512, 1024)
BEHIND = (10_000, 20_000, 50_000, 100_000)
FULL_BEHIND = (100_000, 250_000, 500_000, 1_000_000)
WITHIN_S = 1800.0
WINDOWS = {"election_ms": 1_000, "heartbeat_ms": 200}
NEVER = {"every_entries": 1 << 40, "every_bytes": 1 << 50}
OFTEN = {"every_entries": 2_000, "every_bytes": 1 << 50, "trailing_entries": 100}


def measure(bench: Bench) -> None:
    """Four sizes of each."""
    bench.answer.method = (
        "Each size once, one after the other. *Restart*: one node, SIGKILL, values of 1 KiB, no "
        "snapshot; from starting the process until it has applied all of its log. *Snapshot*: one "
        "of three nodes went away with an empty state, and the others have dropped the log that it "
        "lacks; from its start until it has applied what the leader has, and digests agree. "
        "*Catch-up*: one of three is away while entries of 64 B are committed, and gets them from "
        "the log. Starting Python and importing is included everywhere (0.3 to 1 s), and so are "
        "windows of 1 s for elections."
    )
    full = bench.options.full
    log_mib = FULL_LOG_MIB if full else LOG_MIB
    restart(bench, log_mib)
    snapshot(bench, log_mib)
    catch_up(bench, FULL_BEHIND if full else BEHIND)


def restart(bench: Bench, sizes_mib: tuple[int, ...]) -> None:
    """A log of so many MiB is read, judged and applied."""
    directory = bench.directory / "restart"
    with OurCluster(directory, count=1, snapshots=NEVER, **WINDOWS) as cluster:
        cluster.leader()
        filled = 0
        for size in sizes_mib:
            bench.progress.step("restart", {"log MiB": size})
            filled = fill(cluster, "n1", filled, size * KIB, KIB)
            cluster.members["n1"].kill()
            log_mib = bytes_below(directory / "data-n1") / MIB
            took_s = back(cluster, "n1", filled)
            keep(bench, "restart with a log", {"MiB of values": size}, took_s, log_mib, "MiB")


def snapshot(bench: Bench, sizes_mib: tuple[int, ...]) -> None:
    """A state of so many MiB is sent to a node that has nothing."""
    for size in sizes_mib:
        bench.progress.step("snapshot", {"MiB": size})
        directory = bench.directory / f"snapshot-{size}"
        with OurCluster(directory, snapshots=OFTEN, **WINDOWS) as cluster:
            leader, away = leader_and_other(cluster)
            cluster.members[away].kill()
            fill(cluster, leader, 0, size * KIB, KIB)
            took_s = back(cluster, away, cluster.applied(leader))
            keep(
                bench,
                "snapshot to a node without state",
                {"MiB of state": size},
                took_s,
                size,
                "MiB",
            )
            digests = {
                member.ask({"do": "applied", "digest": True}, WITHIN_S)["digest"]
                for member in cluster.members.values()
            }
            assert len(digests) == 1, "the states differ"


def catch_up(bench: Bench, counts: tuple[int, ...]) -> None:
    """So many entries are sent from the log to a node that missed them."""
    with OurCluster(bench.directory / "behind", snapshots=NEVER, **WINDOWS) as cluster:
        filled = 0
        for count in counts:
            bench.progress.step("catch-up", {"entries behind": count})
            leader, away = leader_and_other(cluster)
            cluster.members[away].kill()
            filled = fill(cluster, leader, filled, filled + count, 64)
            took_s = back(cluster, away, cluster.applied(leader))
            keep(
                bench, "catch-up from the log", {"entries behind": count}, took_s, count, "entries"
            )


def leader_and_other(cluster: OurCluster) -> tuple[str, str]:
    """The leader, and a node that is none."""
    leader = cluster.leader()
    return leader, next(name for name in cluster.names if name != leader)


def fill(cluster: OurCluster, name: str, first: int, until: int, value_bytes: int) -> int:
    """Write keys ``first`` to ``until``; returns ``until``."""
    order = {"do": "fill", "first": first, "count": until - first, "value_bytes": value_bytes}
    cluster.members[name].ask(order, WITHIN_S)
    return until


def back(cluster: OurCluster, name: str, index: int) -> float:
    """Start a node and wait until it has applied so much; returns the seconds that took."""
    began_s = time.monotonic()
    cluster.start(name)
    cluster.members[name].hear(WITHIN_S)
    wait_until(lambda: cluster.applied(name) >= index, WITHIN_S, f"{name} did not come back")
    return time.monotonic() - began_s


def keep(
    bench: Bench, table: str, case: dict[str, int], took_s: float, amount: float, unit: str
) -> None:
    """As seconds and as a rate."""
    bench.figure(table, "mcpcore", case, "back after", [took_s], unit="s", better="less")
    rate = [amount / took_s]
    bench.figure(table, "mcpcore", case, "rate", rate, unit=f"{unit} per s", better="more")


def bytes_below(directory: Path) -> int:
    """Sizes of all files, summed up."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
