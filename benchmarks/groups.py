"""What groups cost a node that has many of them: idle processor time, memory, throughput.

Three processes on loopback, on real files; every group has all three as voters. A group's memory
is the growth of the resident set over that of a node with one group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.programs import ProgramFailed
from benchmarks.loads.node import CLUSTER
from benchmarks.peers.clusters import OurCluster
from mcpcore.node.client.client import Client
from mcpcore.node.requests import Op
from mcpcore.node.transport.identity import Role
from mcpcore.node.transport.security import Plaintext
from mcpcore.raft.settings import MILLISECOND

COUNTS = (1, 10, 100, 1000)
QUIET_MS = 3_000
SETTLE_S = 240.0
IN_FLIGHT = 64
NODE = "mcpcore, a node"


def measure(bench: Bench) -> None:
    """A cluster that gets more and more groups: once kept awake, once left to sleep and loaded."""
    bench.answer.method = (
        "Groups are made at run time. Idle: processor time of a node in percent of a core, each of "
        "the three; *awake* groups send heartbeats (default: each second), groups without work "
        f"fall *asleep* (default: after 15 s, here {QUIET_MS / 1000:g}). Loaded: {IN_FLIGHT} puts "
        "of 64 B in flight at each node that leads, over all its groups in turn; the sum of the "
        "nodes. Memory: resident; of a group, what it adds to that of a node with one."
    )
    bench.answer.bias = (
        "Leaders are where elections put them, so the load is spread unevenly. Each count once: "
        "compare orders of magnitude."
    )
    for state, quiet_ms in (("awake", 0), ("asleep", QUIET_MS)):
        with OurCluster(bench.directory / state, quiet_ms=quiet_ms) as cluster:
            cluster.leader()
            made, first_kib = 1, 0.0
            for count in COUNTS:
                bench.progress.step(state, {"groups": count})
                asyncio.run(make(cluster.addresses, made, count, quiet_ms))
                made = count
                settle(cluster, count, asleep=state == "asleep")
                idle = idle_percent(cluster, max(2.0, 2 * bench.options.seconds))
                case = {"groups": count}
                bench.figure("", NODE, case, f"idle, {state}", idle, unit="%", better="less")
                if state == "asleep":
                    kib = [usage["rss_kib"] for usage in usages(cluster)]
                    first_kib = first_kib or sum(kib) / len(kib)
                    loaded(bench, cluster, count, kib, first_kib)


def loaded(
    bench: Bench, cluster: OurCluster, count: int, kib: list[float], first_kib: float
) -> None:
    """Memory, and throughput over all groups."""
    case = {"groups": count}
    mib = [each / 1024 for each in kib]
    bench.figure("", NODE, case, "memory", mib, unit="MiB", better="less")
    if count > 1:
        each_kib = [(value - first_kib) / (count - 1) for value in kib]
        bench.figure("", NODE, case, "of a group", each_kib, unit="KiB", better="less")
    rates = [rate(cluster, bench.options.seconds) for _ in range(bench.options.rounds)]
    bench.figure("", NODE, case, "puts", rates, unit="per s", better="more")


async def make(addresses: list[str], made: int, count: int, quiet_ms: int) -> None:
    """Groups, as ``mcpctl group create`` makes them.

    Raises:
        ProgramFailed: a node refused.
    """
    voters = [f"n{number}" for number in range(1, len(addresses) + 1)]
    settings = {"quiet_after_ns": quiet_ms * MILLISECOND}
    security = Plaintext(allow_plaintext=True)
    async with Client(addresses, cluster=CLUSTER, security=security, role=Role.ADMIN) as client:
        for number in range(made, count):
            told = await client.ask_each(
                Op.CREATE_GROUP, f"group-{number}", voters, settings, timeout_s=30
            )
            for answer in told.values():
                if answer is not None:
                    raise ProgramFailed("mcpcore", f"group-{number}: {answer}")


def usages(cluster: OurCluster) -> list[dict[str, Any]]:
    """Of every node."""
    return [member.ask({"do": "usage"}) for member in cluster.members.values()]


def idle_percent(cluster: OurCluster, seconds: float) -> list[float]:
    """Of each node, in percent of a core."""
    before, began_s = usages(cluster), time.monotonic()
    time.sleep(seconds)
    after, lasted_s = usages(cluster), time.monotonic() - began_s
    return [
        100 * (now["cpu_s"] - then["cpu_s"]) / lasted_s
        for then, now in zip(before, after, strict=True)
    ]


def settle(cluster: OurCluster, count: int, *, asleep: bool) -> None:
    """Wait until all groups are led, and sleep if they may."""

    def settled() -> bool:
        brief = [member.ask({"do": "brief"}) for member in cluster.members.values()]
        led = sum(each["led"] for each in brief)
        return led == count and (not asleep or all(each["asleep"] == count for each in brief))

    wait_until(settled, SETTLE_S, f"{count} groups did not settle")
    time.sleep(1.0)


def wait_until(happened: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Ask until it is so.

    Raises:
        ProgramFailed: it was not so in time.
    """
    end_s = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > end_s:
            raise ProgramFailed("mcpcore", f"{otherwise} within {within_s:g} s")
        time.sleep(0.25)


def rate(cluster: OurCluster, seconds: float) -> float:
    """Puts a second over all groups, by all leaders at once."""
    leading = [m for m in cluster.members.values() if m.ask({"do": "brief"})["led"]]
    for member in leading:
        member.tell({"do": "put", "value_bytes": 64, "in_flight": IN_FLIGHT, "seconds": seconds})
    told = [member.hear(30 + 3 * seconds) for member in leading]
    return sum(each["operations"] / each["seconds"] for each in told)
