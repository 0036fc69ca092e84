"""How many seeds of a five-node Raft group one core runs when the pure protocol is driven directly.

Each seed is 60 virtual seconds at the default
windows (5 s election timeout, 1 s heartbeat): messages take 1 to 60 ms, disks 1 ms, commands are
proposed at a steady rate, and the leader is cut off once for 20 s. Nothing is judged while the
clock runs; afterwards no two members may have applied different commands. Bias: no frames, no TLS,
no event loop: that is what "driven directly" leaves out.
"""

from __future__ import annotations

import heapq
import random
import time
from typing import Any

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
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
    common = min(map(len, logs))
    assert all(log[:common] == logs[0][:common] for log in logs), f"seed {seed}: members differ"
    return common


def measure(bench: Bench) -> None:
    """Three rates of proposals; processor time."""
    bench.answer.method = (
        f"A seed: five members, {VIRTUAL_S} virtual seconds at the default windows, a cut leader. "
        "Processor time of one core; the protocol driven directly, without frames, TLS, event loop."
    )
    measures = {
        "seeds": Measure("per CPU s", "more"),
        "virtual time": Measure("s per CPU s", "more"),
        "applied on each member": Measure("commands", ""),
    }
    for rate in (0, 1, 10, 100):
        case = {"commands per virtual s": rate}
        bench.interleave("", case, measures, {"mcpcore, Raft": seeds(rate, bench.options.seconds)})


def seeds(rate: int, seconds: float) -> Contestant:
    """Seed after seed, for so long."""

    def go() -> Measured:
        count = commands = 0
        began_s = time.process_time()
        while time.process_time() - began_s < seconds:
            commands += run(count, rate)
            count += 1
        spent_s = time.process_time() - began_s
        return Measured(
            {
                "seeds": count / spent_s,
                "virtual time": count * VIRTUAL_S / spent_s,
                "applied on each member": commands / count,
            }
        )

    return go
