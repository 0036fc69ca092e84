"""How many seeds of a five-node Raft group one core runs when the pure protocol is driven directly.

``python -m benchmarks.raft_core [--seconds N]``. Each seed is 60 virtual seconds at the default
windows (5 s election timeout, 1 s heartbeat): messages take 1 to 60 ms, disks 1 ms, commands are
proposed at a steady rate, and the leader is cut off once for 20 s. Nothing is judged while the
clock runs; afterwards every member must have applied the same commands. Bias: no frames, no TLS, no
event loop: that is what "driven directly" leaves out.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from typing import Any

from mcpcore.errors import Rejected
from mcpcore.raft import Configuration, EntryKind, Raft, RaftSettings

MS = 1_000_000
NAMES = ("a", "b", "c", "d", "e")
VIRTUAL_S = 60


def run(seed: int, rate: int) -> int:
    """One seed; returns how many commands were applied everywhere."""
    draw = random.Random(seed)
    configuration = Configuration.of(NAMES)
    cores = {
        name: Raft(
            name,
            RaftSettings(),
            random.Random(draw.random()),
            configuration=configuration,
            now_ns=1,
        )
        for name in NAMES
    }
    applied: dict[str, list[bytes]] = {name: [] for name in NAMES}
    cut: set[str] = set()
    events: list[tuple[int, int, str, str, Any]] = []
    number = 0

    def post(at_ns: int, kind: str, name: str, what: Any) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (at_ns, number, kind, name, what))

    def drain(name: str, now_ns: int) -> None:
        ready = cores[name].ready()
        for to, message in ready.messages:
            if name not in cut and to not in cut:
                post(now_ns + draw.randint(1, 60) * MS, "letter", to, (name, message))
        if ready.write is not None:
            post(now_ns + MS, "written", name, ready.write.seq)
        applied[name].extend(e.data for e in ready.committed if e.kind == EntryKind.COMMAND)

    for name, core in cores.items():
        post(core.deadline_ns(), "tick", name, None)
    for each in range(VIRTUAL_S * rate):
        post(each * 1000 * MS // rate, "propose", "", b"%d" % each)
    post(20_000 * MS, "cut", "", None)
    post(40_000 * MS, "heal", "", None)
    end_ns = VIRTUAL_S * 1000 * MS
    while events and events[0][0] <= end_ns:
        now_ns, _, kind, name, what = heapq.heappop(events)
        if kind == "letter":
            if name not in cut:
                cores[name].step(what[0], what[1], now_ns)
                drain(name, now_ns)
        elif kind == "written":
            cores[name].written(what, now_ns)
            drain(name, now_ns)
        elif kind == "tick":
            core = cores[name]
            if core.deadline_ns() <= now_ns:
                core.tick(now_ns)
                drain(name, now_ns)
            post(max(core.deadline_ns(), now_ns + MS), "tick", name, None)
        elif kind == "propose":
            leader = next((n for n in NAMES if cores[n].is_leader and n not in cut), "")
            if leader and now_ns < end_ns - 2_000 * MS:
                try:
                    cores[leader].propose(what, now_ns)
                except Rejected:
                    continue
                drain(leader, now_ns)
        elif kind == "cut":
            cut |= {n for n in NAMES if cores[n].is_leader}
        else:
            cut.clear()
            for one in NAMES:
                for other in NAMES:
                    if one != other:
                        cores[one].peer_connected(other, now_ns)
                drain(one, now_ns)
    logs = list(applied.values())
    assert all(log == logs[0] for log in logs), f"seed {seed}: the members differ"
    return len(logs[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    wanted_s = parser.parse_args().seconds
    print("| commands per virtual s | seeds per CPU s | applied on each member | virtual : CPU |")
    print("|---|---|---|---|")
    for rate in (0, 1, 10):
        seeds = commands = 0
        started = time.process_time()
        while time.process_time() - started < wanted_s:
            commands += run(seeds, rate)
            seeds += 1
        spent = time.process_time() - started
        print(
            f"| {rate} | {seeds / spent:.1f} | {commands / seeds:.0f} "
            f"| {seeds * VIRTUAL_S / spent:,.0f} : 1 |"
        )


if __name__ == "__main__":
    main()
