"""A group with nothing but promises, votes and clocks, driven by an adversary with a seed.

It exists so that the argument in ``mcpcore.raft.windows`` is tried by somebody who wants it to
fail: windows that jump anywhere within their bounds, clocks at the edge of the drift bound,
messages late, lost and out of order, restarts that forget everything but terms and votes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from mcpcore.raft.windows import Patience, PromiseLedger, WindowSettings

MS = 1_000_000
SETTINGS = WindowSettings(
    heartbeat_floor_ns=10 * MS,
    heartbeat_ceiling_ns=100 * MS,
    election_floor_ns=50 * MS,
    election_ceiling_ns=1000 * MS,
    drift_ppm=100_000,
)


@dataclass
class Rules:
    """The rules under trial; a mutant replaces one."""

    patience: type[Patience] = Patience
    ledger: type[PromiseLedger] = PromiseLedger
    settings: WindowSettings = SETTINGS
    newborn_on_restart: bool = False
    answers_everything: bool = False


@dataclass
class Node:
    rate: float
    patience: Patience
    term: int = 0
    leads: int = 0
    ledgers: dict[int, PromiseLedger] = field(default_factory=dict)


Flying = tuple[str, int, int, int, int, int]
"""Kind, from, to, the leader's term, when it was sent by the leader's clock, the promise."""


class Model:
    """``nodes`` in real time ``now_ns``; each has a clock of its own rate."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.now_ns = 10_000 * MS
        drift = SETTINGS.drift_ppm / 1e6
        self.nodes = [
            Node(self.rng.choice([1 - drift, 1.0, 1 + drift]), rules.patience(rules.settings, 0))
            for _ in range(self.rng.choice([3, 5]))
        ]
        self.flying: list[Flying] = []

    def clock(self, node: Node) -> int:
        return int(self.now_ns * node.rate)

    def step(self) -> None:
        action = self.rng.choices(
            [self.beat, self.deliver, self.campaign, self.restart, self.wait],
            weights=[4, 4, 6, 1, 3],
        )[0]
        action()

    def wait(self) -> None:
        self.now_ns += self.rng.choice([MS, 5 * MS, 30 * MS, 60 * MS, 60 * MS, 400 * MS, 1000 * MS])

    def beat(self) -> None:
        leaders = [i for i, node in enumerate(self.nodes) if node.leads]
        if leaders:
            self.beat_of(self.rng.choice(leaders))

    def beat_of(self, i: int) -> None:
        leader = self.nodes[i]
        for j in range(len(self.nodes)):
            if j == i or self.rng.random() < 0.4:
                continue
            promise_ns = self.rng.choice([50, 80, 400, 1000]) * MS
            if self.rules.answers_everything:
                promise_ns *= 3
            sent_ns = self.clock(leader)
            leader.ledgers[j].change(sent_ns, promise_ns)
            flying: Flying = ("beat", i, j, leader.leads, sent_ns, promise_ns)
            if self.rng.random() < 0.5:
                self.arrive(flying)
            else:
                self.flying.append(flying)

    def deliver(self) -> None:
        while len(self.flying) > 8:  # lost, so that what arrives is not all of yesterday
            self.flying.pop(self.rng.randrange(len(self.flying)))
        if self.flying:
            self.arrive(self.flying.pop(self.rng.randrange(len(self.flying))))

    def arrive(self, flying: Flying) -> None:
        kind, i, j, term, sent_ns, promise_ns = flying
        node = self.nodes[j]
        if kind == "answer":
            if node.leads == term:
                node.ledgers[i].answered(sent_ns)
        elif term >= node.term:
            if node.term < term:
                node.term, node.leads = term, 0
            node.patience.heard(promise_ns, self.clock(node))
            if node.patience.vouches(promise_ns) or self.rules.answers_everything:
                answer: Flying = ("answer", j, i, term, sent_ns, 0)
                if self.rng.random() < 0.5:
                    self.arrive(answer)
                else:
                    self.flying.append(answer)

    def campaign(self) -> None:
        i = self.rng.randrange(len(self.nodes))
        candidate = self.nodes[i]
        if candidate.leads or not candidate.patience.may_help(self.clock(candidate)):
            return
        candidate.term += 1
        voters = 1
        for j, node in enumerate(self.nodes):
            if j == i or self.rng.random() < 0.3:
                continue
            if node.term < candidate.term and node.patience.may_help(self.clock(node)):
                if node.leads and self.holds_lease(node):
                    continue
                node.term, node.leads = candidate.term, 0
                voters += 1
        if 2 * voters > len(self.nodes):
            candidate.leads = candidate.term
            candidate.ledgers = {
                j: self.rules.ledger(self.rules.settings, self.clock(candidate), MS)
                for j in range(len(self.nodes))
                if j != i
            }
            self.beat_of(i)

    def restart(self) -> None:
        node = self.rng.choice(self.nodes)
        node.leads = 0
        node.patience = self.rules.patience(
            self.rules.settings, self.clock(node), newborn=self.rules.newborn_on_restart
        )

    def holds_lease(self, node: Node) -> bool:
        if not node.leads:
            return False
        now_ns = self.clock(node)
        holders = 1 + sum(ledger.counted_until_ns > now_ns for ledger in node.ledgers.values())
        return 2 * holders > len(self.nodes)


def walk(seed: int, rules: Rules | None = None, steps: int = 200) -> tuple[int, int]:
    """Returns how many steps saw one lease, and how many more than one."""
    model = Model(seed, rules or Rules())
    one = several = 0
    for _ in range(steps):
        model.step()
        leases = sum(model.holds_lease(node) for node in model.nodes)
        one += leases == 1
        several += leases > 1
    return one, several
