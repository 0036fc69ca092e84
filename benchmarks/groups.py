"""What groups cost a node that has many of them: idle processor time, memory, throughput.

Three processes on loopback, on real files; every group has all three as voters. A group's memory
is the growth of the resident set over that of a node with one group.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.programs import ProgramFailed
from benchmarks.peers.clusters import OurCluster

COUNTS = (1, 10, 100, 1000)
QUIET_MS = 3_000
SETTLE_S = 120.0
IN_FLIGHT = 64
NODE = "mcpcore, a node"


def measure(bench: Bench) -> None:
    """One cluster for each count, awake and asleep, then loaded."""
    bench.answer.method = (
        "Idle: processor time of a node in percent of a core, mean of the three; *awake* groups "
        "send heartbeats (default: each second), groups without work fall *asleep* (default: after "
        f"15 s, here {QUIET_MS / 1000:g}). Loaded: {IN_FLIGHT} puts of 64 B in flight at each node "
        "that leads, over all its groups in turn; the sum of the nodes."
    )
    bench.answer.bias = (
        "Leaders are where elections put them, so the load is spread unevenly. The clusters come "
        "one after the other, each once: compare orders of magnitude."
    )
    first_kib = 0.0
    for count in COUNTS:
        bench.progress.step("", {"groups": count})
        names = [f"group-{number}" for number in range(count)]
        directory = bench.directory / f"groups-{count}"
        for state, quiet_ms in (("awake", 0), ("asleep", QUIET_MS)):
            with OurCluster(directory / state, groups=names, quiet_ms=quiet_ms) as cluster:
                settle(cluster, count, asleep=state == "asleep")
                idle = idle_percent(cluster, max(2.0, 2 * bench.options.seconds))
                case = {"groups": count}
                measure_name = f"idle CPU, {state}"
                bench.figure("", NODE, case, measure_name, idle, unit="%", better="less")
                if state == "asleep":
                    kib = [usage["rss_kib"] for usage in usages(cluster)]
                    first_kib = first_kib or sum(kib) / len(kib)
                    mib = [each / 1024 for each in kib]
                    bench.figure("", NODE, case, "memory", mib, unit="MiB", better="less")
                    if count > 1:
                        each_kib = [(value - first_kib) / (count - 1) for value in kib]
                        bench.figure(
                            "", NODE, case, "memory of a group", each_kib, unit="KiB", better="less"
                        )
                    rates = [
                        rate(cluster, bench.options.seconds) for _ in range(bench.options.rounds)
                    ]
                    bench.figure("", NODE, case, "puts", rates, unit="per s", better="more")


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
