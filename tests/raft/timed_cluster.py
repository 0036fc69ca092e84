"""Real Raft cores on links with delay and rate, disks with a sync time, and cuts, in virtual time.

It exists to try the convergence bound: everything takes no longer than the model says, so a group
that takes longer than the bound is a bug in the core or in the formula.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from mcpcore.raft.convergence import Backlog, ConvergenceConfig, Link
from mcpcore.raft.core import Raft
from mcpcore.raft.log import RaftLog
from mcpcore.raft.messages import Append, Message
from mcpcore.raft.outcome import Write
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import Configuration, Entry, HardState

MS = 1_000_000
SECOND = 1000 * MS


@dataclass(frozen=True)
class Model:
    """How slow things are at most."""

    one_way_ns: int = 110 * MS
    bytes_per_s: int = 4 << 20
    sync_ns: int = 20 * MS
    notice_ns: int = 2 * SECOND
    settings: RaftSettings = field(
        default_factory=lambda: RaftSettings(election_timeout_ns=5 * SECOND, heartbeat_ns=SECOND)
    )

    def config(self, voters: int) -> ConvergenceConfig:
        return ConvergenceConfig(
            election_timeout_ns=self.settings.election_timeout_ns,
            heartbeat_ns=self.settings.heartbeat_ns,
            voters=voters,
            sync_ns=self.sync_ns,
            late_ns=0,
            idle_timeout_ns=0,
            connect_timeout_ns=0,
            backoff_max_ns=self.notice_ns,
        )

    def link(self) -> Link:
        return Link(self.one_way_ns, self.bytes_per_s)


class TimedCluster:
    """``size`` members; ``run_until`` lets time pass."""

    def __init__(self, seed: int, size: int, model: Model) -> None:
        self.rng = random.Random(seed)
        self.model = model
        self.names = [f"n{i}" for i in range(size)]
        self.now_ns = 1
        self.agenda: list[tuple[int, int, Callable[[], None]]] = []
        self.counter = 0
        self.cut: set[tuple[str, str]] = set()
        self.free_ns: dict[tuple[str, str], int] = {}
        self.arrived_ns: dict[tuple[str, str], int] = {}
        self.synced_ns: dict[str, int] = {}
        self.disk: dict[str, tuple[HardState, list[Entry]]] = {}
        self.rafts: dict[str, Raft] = {}
        self.applied: dict[str, int] = {}
        self.ticks: dict[str, int] = {}
        self.life: dict[str, int] = dict.fromkeys(self.names, 0)
        for name in self.names:
            self.disk[name] = (HardState(), [])
            self.start(name)

    # --- time ------------------------------------------------------------------------------------

    def at(self, when_ns: int, act: Callable[[], None]) -> None:
        self.counter += 1
        heapq.heappush(self.agenda, (when_ns, self.counter, act))

    def run_until(self, end_ns: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Whether ``until`` came true."""
        while self.agenda and self.agenda[0][0] <= end_ns:
            self.now_ns, _, act = heapq.heappop(self.agenda)
            act()
            if until():
                return True
        self.now_ns = end_ns
        return until()

    # --- members ---------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        hard_state, entries = self.disk[name]
        self.life[name] += 1
        self.rafts[name] = Raft(
            name,
            self.model.settings,
            random.Random(self.rng.randrange(1 << 30)),
            configuration=Configuration.of(self.names),
            hard_state=hard_state,
            log=RaftLog(entries=list(entries)),
            now_ns=self.now_ns,
        )
        self.applied[name] = 0
        self.ticks[name] = 0
        self.turn(name)

    def turn(self, name: str) -> None:
        raft, life = self.rafts[name], self.life[name]
        while True:
            ready = raft.ready()
            for to, message in ready.messages:
                self.send(name, to, message)
            if ready.committed:
                self.applied[name] = ready.committed[-1].index
            if ready.write is not None:
                self.store(name, ready.write)
            if not raft.has_more:
                break
        due_ns = max(raft.deadline_ns(), self.now_ns)
        if due_ns != self.ticks[name]:
            self.ticks[name] = due_ns
            self.at(due_ns, lambda: self.tick(name, life, due_ns))

    def store(self, name: str, write: Write) -> None:
        """One sync after the other, each of some length."""
        raft, life = self.rafts[name], self.life[name]

        def stored() -> None:
            if self.life[name] != life:
                return
            hard_state, entries = self.disk[name]
            for block in write.blocks:
                entries[block.entries[0].index - 1 :] = block.entries
            self.disk[name] = (write.hard_state or hard_state, entries)
            raft.written(write.seq, self.now_ns)
            self.turn(name)

        # Writes handed in while a sync runs share the next one, so that none waits for two.
        sync_ns = self.rng.randrange(self.model.sync_ns // 2 + 1)
        self.synced_ns[name] = max(self.synced_ns.get(name, 0), self.now_ns + sync_ns)
        self.at(self.synced_ns[name], stored)

    def tick(self, name: str, life: int, due_ns: int) -> None:
        if self.life[name] == life and self.ticks[name] == due_ns:
            self.ticks[name] = 0
            self.rafts[name].tick(self.now_ns)
            self.turn(name)

    # --- links -----------------------------------------------------------------------------------

    def send(self, sender: str, to: str, message: Message) -> None:
        link = (sender, to)
        if link in self.cut:
            return
        size = 60
        if isinstance(message, Append):
            size += sum(len(entry.data) for entry in message.block.entries)
        begin_ns = max(self.now_ns, self.free_ns.get(link, 0))
        # Small messages go between large ones, as on a paced link.
        if size > 1000:
            self.free_ns[link] = begin_ns + size * SECOND // self.model.bytes_per_s
            begin_ns = self.free_ns[link]
        delay_ns = self.rng.randrange(self.model.one_way_ns // 2, self.model.one_way_ns + 1)
        arrives_ns = max(begin_ns + delay_ns, self.arrived_ns.get(link, 0))
        self.arrived_ns[link] = arrives_ns
        self.at(arrives_ns, lambda: self.arrive(link, message))

    def arrive(self, link: tuple[str, str], message: Message) -> None:
        if link not in self.cut:
            self.rafts[link[1]].step(link[0], message, self.now_ns)
            self.turn(link[1])

    def heal(self) -> None:
        """Each pair notices by itself, within the model's bound."""
        was, self.cut = self.cut, set()
        for a, b in sorted({tuple(sorted(link)) for link in was}):
            both = {(a, b), (b, a)} & was
            self.cut |= both
            notice_ns = self.now_ns + self.rng.randrange(self.model.notice_ns + 1)
            self.at(notice_ns, lambda a=a, b=b, both=both: self.reconnect(a, b, both))

    def reconnect(self, a: str, b: str, links: set[tuple[str, str]]) -> None:
        self.cut -= links
        for name, peer in ((a, b), (b, a)):
            self.rafts[name].peer_connected(peer, self.now_ns)
            self.turn(name)

    # --- looking ---------------------------------------------------------------------------------

    def leader(self) -> str:
        leading = [name for name in self.names if self.rafts[name].is_leader]
        return max(leading, key=lambda name: self.rafts[name].state.term, default="")

    def settled_leader(self) -> bool:
        """A leader of the highest term has committed in it."""
        name = self.leader()
        state = self.rafts[name].state if name else None
        return bool(
            state
            and state.commit >= state.term_start
            and all(self.rafts[other].state.term <= state.term for other in self.names)
        )

    def all_equal(self) -> bool:
        ends = {raft.state.log.last for raft in self.rafts.values()}
        return len(ends) == 1 and set(self.applied.values()) == {next(iter(ends)).index}


CUTS = ("island", "one-way", "bridge", "ring", "nobody")


def scenario(seed: int, model: Model) -> tuple[TimedCluster, Backlog]:
    """A cut of some kind under load, some crashes, and the heal; the clock stands at the heal."""
    rng = random.Random(seed)
    cluster = TimedCluster(seed, rng.choice([3, 3, 5]), model)
    names = cluster.names
    assert cluster.run_until(120 * SECOND, cluster.settled_leader)
    kind = rng.choice(CUTS)
    few = set(rng.sample(names, rng.randint(1, len(names) // 2)))
    if rng.random() < 0.5:
        few.add(cluster.leader())
    across = {(a, b) for a in names for b in names if (a in few) != (b in few)}
    match kind:
        case "one-way":
            across = {(a, b) for a, b in across if b in few}
        case "bridge":
            bridge = rng.choice(names)
            across = {link for link in across if bridge not in link}
        case "ring":
            at = {name: number for number, name in enumerate(names)}
            near = {1, len(names) - 1}
            across = {
                (a, b)
                for a in names
                for b in names
                if a != b and (at[a] - at[b]) % len(names) not in near
            }
        case "nobody":
            across = {(a, b) for a in names for b in names if a != b}
    cluster.cut = across
    end_ns = cluster.now_ns + rng.randrange(5, 40) * SECOND
    size, every_ns = rng.choice([100, 4000]), rng.choice([50, 500, 5000]) * MS
    while cluster.now_ns < end_ns:
        cluster.run_until(cluster.now_ns + every_ns)
        for name in names:
            raft = cluster.rafts[name]
            if raft.is_leader:
                raft.propose(bytes(size), cluster.now_ns)
                cluster.turn(name)
        if rng.random() < 0.01:
            cluster.start(rng.choice(names))
    ends = [cluster.rafts[name].state for name in names]
    last = max(state.log.last_index for state in ends)
    entries = last - min(state.commit for state in ends) + 10
    return cluster, Backlog(entries, entries * (size + 60), terms=8)
