"""Adaptive against static windows on the real node, in the simulator.

Run ``python -m benchmarks.windows_real [MINUTES]``. Three real nodes (log, transport, clocks) on
simulated links, in virtual time. First the leader is left alone for so many minutes: every member
that doubts it all the same is a false suspicion, every new term a needless election. Then it is
killed ``KILLS`` times, and we take the time until a majority follows another one.

*As quick* is the static timeout whose fail-over takes about as long (a leader's death is noticed
after 1 to 2 timeouts); *as shipped* are 5 s and 1 s. Links as in ``benchmarks.windows``, with what
the simulator's TCP makes of losses.
"""

from __future__ import annotations

import asyncio
import logging
import math
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import permutations
from typing import Any

from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.security import Plaintext
from mcpcore.raft.outcome import Role, RoleChanged
from mcpcore.raft.settings import SECOND, RaftSettings
from mcpcore.sim import Host, World
from mcpcore.sim.delay import Delay, Link

NAMES = ("us-east-1", "hangzhou", "edge")
PLAIN = Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",))
SEED = 7
KILLS = 8
SETTLE_S = 60.0
STEP_S = 0.5


def moving(floor_s: float) -> RaftSettings:
    return RaftSettings(
        election_floor_ns=int(floor_s * SECOND),
        heartbeat_floor_ns=int(floor_s * SECOND) // 5,
        quiet_after_ns=0,
    )


def static(timeout_s: float, beat_s: float) -> RaftSettings:
    timeout_ns, beat_ns = int(timeout_s * SECOND), int(beat_s * SECOND)
    return RaftSettings(election_timeout_ns=timeout_ns, heartbeat_ns=beat_ns, quiet_after_ns=0)


# --- links --------------------------------------------------------------------------------------


def calm(world: World, rng: random.Random) -> Callable[[], None]:
    lay(world, Delay("lognormal", 35.0, 1.0, 0.5))
    return lambda: None


def jittery(world: World, rng: random.Random) -> Callable[[], None]:
    lay(world, Delay("lognormal", 110.0, 15.0, 1.0))
    return lambda: None


def bursty(world: World, rng: random.Random) -> Callable[[], None]:
    """Outages of 0.6 s in the mean on some link, each 20 s."""
    lay(world, Delay("lognormal", 80.0, 3.0, 0.5))
    until: dict[tuple[str, str], float] = {}

    def step() -> None:
        for pair in permutations(NAMES, 2):
            path = world.network.between([pair[0]], [pair[1]])
            if pair in until and world.now_s >= until[pair]:
                del until[pair]
                world.network.mend(path)
            elif pair not in until and rng.random() < STEP_S / 20:
                until[pair] = world.now_s + rng.expovariate(1 / 0.6)
                world.network.cut(path)

    return step


def congested(world: World, rng: random.Random) -> Callable[[], None]:
    """For two minutes of every ten a queue wanders up to 2.5 s."""
    depth = dict.fromkeys(permutations(NAMES, 2), 0.0)

    def step() -> None:
        busy = world.now_s % 600 > 480
        for pair in depth:
            grown = depth[pair] + rng.gauss(0.01, 0.15) if busy else depth[pair] * 0.7
            depth[pair] = min(2.5, max(0.0, grown))
            delay = Delay("lognormal", 80.0 + 1000 * depth[pair], 8.0, 0.5)
            world.network.set_link(*pair, Link(delay=delay))

    return step


def changing(world: World, rng: random.Random) -> Callable[[], None]:
    """Calm for 14 of every 20 minutes, then two of each of the others."""
    kinds = [calm, jittery, bursty, congested]
    now: list[Any] = [0, calm(world, rng)]

    def step() -> None:
        minute = (world.now_s - SETTLE_S) / 60 % 20
        kind = 0 if minute < 14 else min(3, 1 + math.floor((minute - 14) / 2))
        if kind != now[0]:
            for pair in permutations(NAMES, 2):
                world.network.mend(world.network.between([pair[0]], [pair[1]]))
            now[:] = [kind, kinds[kind](world, rng)]
        now[1]()

    return step


PROFILES = {
    "calm": calm,
    "jittery": jittery,
    "bursty loss": bursty,
    "congested": congested,
    "changing": changing,
}


def lay(world: World, delay: Delay) -> None:
    for pair in permutations(NAMES, 2):
        world.network.set_link(*pair, Link(delay=delay))


# --- a cluster ----------------------------------------------------------------------------------


class Cluster:
    """Three nodes with one group, and what its members said of their leaders."""

    def __init__(self, world: World, settings: RaftSettings) -> None:
        self.world, self.settings = world, settings
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, Host] = {}
        self.suspicions = 0
        self.terms: set[int] = set()
        for name in NAMES:
            self.hosts[name] = world.host(name, self._main(name), start=False)
        for host in self.hosts.values():
            host.start()

    def _main(self, name: str) -> Any:
        async def main() -> None:
            addresses = {n: Address(h.address, 7000) for n, h in self.hosts.items()}
            config = NodeConfig(
                cluster="bench",
                name=name,
                listen=addresses[name],
                peers={n: at for n, at in addresses.items() if n != name},
                data="data",
                security=PLAIN,
                groups={"main": GroupConfig(NAMES, self.settings)},
                bootstrap=True,
            )
            host = self.hosts[name]
            async with Node(
                config, lambda group: KeyValueNode(), disk=host.disk, rng=host.random
            ) as node:
                self.nodes[name] = node
                node.group("main").listeners.append(self._heard)
                await asyncio.Event().wait()

        return main

    def _heard(self, event: RoleChanged) -> None:
        self.suspicions += event.role is Role.PRE_CANDIDATE or "no quorum" in event.reason
        if event.role is Role.LEADER:
            self.terms.add(event.term)

    def leader(self) -> str:
        """Whom a majority follows; empty if there is none."""
        live = {
            name: node.group("main").raft
            for name, node in self.nodes.items()
            if self.hosts[name].is_alive and "main" in node.groups
        }
        for name, raft in live.items():
            if raft.is_leader and sum(each.leader == name for each in live.values()) > 1:
                return name
        return ""


def measure(profile: str, settings: RaftSettings, minutes: float) -> tuple[float, float, float]:
    """False suspicions and needless elections per hour, and the mean fail-over in seconds."""
    with World(seed=SEED) as world:
        cluster = Cluster(world, settings)
        step = PROFILES[profile](world, random.Random(SEED))
        world.run_until(lambda: bool(cluster.leader()), within_s=120)
        run(world, step, SETTLE_S - world.now_s)
        cluster.suspicions, before = 0, len(cluster.terms)
        run(world, step, minutes * 60)
        hours = minutes / 60
        suspicions = cluster.suspicions / hours
        elections = (len(cluster.terms) - before) / hours
        took_s = []
        for _ in range(KILLS):
            run(world, step, 20)
            wait(world, step, lambda: bool(cluster.leader()))
            dead = cluster.leader()
            cluster.hosts[dead].crash()
            died_s = world.now_s
            wait(world, step, lambda dead=dead: cluster.leader() not in ("", dead))
            took_s.append(world.now_s - died_s)
            cluster.hosts[dead].restart()
        return suspicions, elections, statistics.fmean(took_s)


def wait(world: World, step: Callable[[], None], reached: Callable[[], bool]) -> None:
    """Links go on changing meanwhile."""
    while not reached():
        step()
        for _ in range(10):
            if not reached():
                world.run(STEP_S / 10)


def run(world: World, step: Callable[[], None], for_s: float) -> None:
    for _ in range(int(for_s / STEP_S)):
        step()
        world.run(STEP_S)


def main(minutes: float, profiles: list[str]) -> None:
    """Print the table of docs/split.md."""
    logging.disable(logging.CRITICAL)
    began = time.time()
    rivals = {
        "adaptive, 1 s to 5 s": moving(1.0),
        "static 1 s, as quick when calm": static(1.0, 0.2),
        "static 5 s, as shipped before": static(5.0, 1.0),
    }
    print("| link | windows | false suspicions/h | needless elections/h | fail-over |")
    print("|---|---|---|---|---|")
    for profile in profiles or list(PROFILES):
        for name, settings in rivals.items():
            suspicions, elections, took_s = measure(profile, settings, minutes)
            print(
                f"| {profile} | {name} | {suspicions:.1f} | {elections:.1f} | {took_s:.2f} s |",
                flush=True,
            )
    print(
        f"\n> CPython {platform.python_version()}, real nodes in the simulator, {minutes:g} "
        f"virtual minutes each and {KILLS} killed leaders, seed {SEED}, "
        f"{time.time() - began:.0f} s."
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, sys.argv[2:])
