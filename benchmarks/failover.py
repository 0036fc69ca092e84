"""From SIGKILL of the leader to the first write that succeeds.

One trial: the leader's process is killed; somebody who has written before writes again and again;
the time of the first success counts, from the kill. Then the node is started again, and the next
trial waits until it has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
from benchmarks.harness.programs import Program, ProgramFailed
from benchmarks.peers.clusters import EtcdCluster, OurCluster, PySyncObjCluster

TRIALS_A_ROUND = 4
LAN = {"election_ms": 200, "heartbeat_ms": 40}
WAN_SAFE, TUNED = "mcpcore, default windows (5 s)", "mcpcore, LAN windows (200 ms)"
SETTLE_S = 0.5
GAP = {"to the first write": Measure("s", "less")}


def measure(bench: Bench) -> None:
    """Ours with both windows, etcd and PySyncObj with their defaults."""
    bench.answer.method = (
        "Three processes on loopback. SIGKILL to the leader; the time from there to the first "
        "write that succeeds, through a client that wrote before; four trials a round (the default "
        "windows, which take long: one), so `--rounds 5` is 20 trials. Windows: our defaults, made "
        "for links between clouds (5 s, heartbeat 1 s); ours for a LAN (election 200 ms, heartbeat "
        "40 ms); etcd's defaults (1 s, 100 ms); PySyncObj's (0.4 to 1.4 s)."
    )
    bench.answer.bias = (
        "SIGKILL closes the leader's connections at once, which a cut cable does not; everybody "
        "gets that hint, whoever uses it. PySyncObj is asked within the survivors' processes."
    )
    bench.answer.references = ("etcd", "PySyncObj")
    with ExitStack() as stack:
        directory = bench.directory
        slow = stack.enter_context(OurCluster(directory / "default"))
        fast = stack.enter_context(OurCluster(directory / "lan", **LAN))
        trials: dict[str, Contestant] = {TUNED: ours(fast)}
        if (supply := bench.peer("etcd")) is not None:
            trials["etcd"] = etcd(stack, supply.program, directory / "etcd")
        if (supply := bench.peer("pysyncobj")) is not None:
            cluster = PySyncObjCluster(supply.program, directory / "pysyncobj")
            trials["PySyncObj"] = pysyncobj(stack.enter_context(cluster))
        count = TRIALS_A_ROUND * bench.options.rounds
        bench.interleave("", {}, GAP, {WAN_SAFE: ours(slow)}, rounds=bench.options.rounds)
        bench.interleave("", {}, GAP, trials, rounds=count)


def ours(cluster: OurCluster) -> Contestant:
    """Through ``Client``, in its own process."""
    client = cluster.client()
    client.ask({"do": "first"})

    def trial() -> Measured:
        name = cluster.leader()
        gap_s = killed(cluster.members[name], lambda: client.ask({"do": "first"})["at_s"])
        cluster.start(name)
        cluster.members[name].hear()
        cluster.level()
        return Measured({"to the first write": gap_s})

    return trial


def etcd(stack: ExitStack, binary: Path, directory: Path) -> Contestant:
    """Through the bare client, which asks all members at once."""
    cluster = stack.enter_context(EtcdCluster(binary, directory))
    client = cluster.load("bare")
    client.ask({"do": "first"})

    def trial() -> Measured:
        number = client.ask({"do": "leads"})["member"]
        name = cluster.names[number]
        gap_s = killed(cluster.members[name], lambda: client.ask({"do": "first"})["at_s"])
        cluster.start(name)
        client.ask({"do": "first", "member": number})  # it answers only with what all have
        time.sleep(SETTLE_S)
        return Measured({"to the first write": gap_s})

    return trial


def pysyncobj(cluster: PySyncObjCluster) -> Contestant:
    """Asked within the survivors' processes, all at once."""
    cluster.leader().ask({"do": "first"})

    def trial() -> Measured:
        leader = cluster.leader()
        name = next(name for name, member in cluster.members.items() if member is leader)
        others = [member for member in cluster.members.values() if member is not leader]

        def first() -> float:
            for member in others:
                member.tell({"do": "first"})
            return min(member.hear()["at_s"] for member in others)

        gap_s = killed(leader, first)
        cluster.start(name)
        cluster.members[name].hear()
        cluster.members[name].ask({"do": "first"})
        time.sleep(SETTLE_S)
        return Measured({"to the first write": gap_s})

    return trial


def killed(member: Program, first: Callable[[], float]) -> float:
    """Seconds from the kill to the first write. Both clocks are the system's monotonic one."""
    at_s = time.monotonic()
    member.kill()
    gap_s = first() - at_s
    if gap_s <= 0:
        raise ProgramFailed(member.name, "a write succeeded before its leader was killed")
    return gap_s
