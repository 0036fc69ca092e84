"""A group reduced to what a split detector sees, under labelled faults.

It exists so that a detector can be judged on thousands of groups of which the truth is known.
Links are directed, have delays, and are cut by a schedule drawn from the seed; a leader is whoever
reaches a quorum both ways and is reached by it; load adds entries. Nothing of Raft is run: the
model knows only what Raft guarantees (who can lead, what is committed), so that its mistakes are
not ours.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field

from mcpcore.raft.evidence import Evidence, PeerEvidence
from mcpcore.raft.split import SplitDetector, SplitSettings, SplitState

MS = 1_000_000
SECOND = 1_000 * MS
TIMEOUT_NS = 5 * SECOND
STEP_NS = 500 * MS
KINDS = ("none", "none", "jitter", "island", "one-way", "bridge", "ring", "flapping", "old leader")


@dataclass
class Cut:
    """Directed links that carry nothing between two moments; ``every_ns`` makes it flap."""

    links: frozenset[tuple[int, int]]
    begin_ns: int
    end_ns: int
    every_ns: int = 0

    def holds(self, now_ns: int) -> bool:
        if not self.begin_ns <= now_ns < self.end_ns:
            return False
        return not self.every_ns or (now_ns // self.every_ns) % 2 == 0


@dataclass
class Member:
    commit: int = 0
    last: int = 0
    term: int = 0
    leader: int = -1
    leader_heard_ns: int = 0
    quorum_ns: int = 0
    heard_ns: dict[int, int] = field(default_factory=dict)
    told: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    detector: SplitDetector = field(default_factory=SplitDetector)


class Group:
    """``size`` members and one fault; ``step`` advances a quarter of a second."""

    def __init__(self, seed: int, settings: SplitSettings | None = None) -> None:
        self.rng = rng = random.Random(seed)
        self.size = rng.choice([3, 3, 5])
        self.now_ns = 0
        self.kind = rng.choice(KINDS)
        self.load = rng.choice([0, 2, 40, 400])  # entries a step
        self.members = [Member() for _ in range(self.size)]
        for member in self.members:
            member.detector = SplitDetector(settings or SplitSettings())
        self.leader, self.term, self.headless_ns = 0, 1, 0
        self.last = self.commit = 0
        begin_ns = rng.randrange(20, 30) * SECOND
        self.cut = Cut(*self._links(), begin_ns, begin_ns + rng.randrange(10, 60) * SECOND)
        if self.kind == "flapping":
            self.cut.every_ns = rng.choice([1, 3, 8]) * SECOND
        self.flying: list[tuple[int, int, int, tuple[int, int, int, int, bool]]] = []
        self.labels = dict.fromkeys(range(self.size), 0)
        """Since when, without a break, both conditions have held in truth; 0 if they do not."""

    def _links(self) -> tuple[frozenset[tuple[int, int]]]:
        everybody = range(self.size)
        few = self.rng.sample(everybody, self.rng.randint(1, (self.size - 1) // 2))
        if self.kind == "old leader" and 0 not in few:
            few[0] = 0
        across = {(a, b) for a in everybody for b in everybody if (a in few) != (b in few)}
        match self.kind:
            case "none" | "jitter":
                return (frozenset(),)
            case "one-way":
                return (frozenset((a, b) for a, b in across if b in few),)
            case "bridge":
                bridge = self.rng.randrange(self.size)
                return (frozenset((a, b) for a, b in across if bridge not in (a, b)),)
            case "ring":
                near = {1, self.size - 1}
                return (
                    frozenset(
                        (a, b)
                        for a in everybody
                        for b in everybody
                        if a != b and (a - b) % self.size not in near
                    ),
                )
        return (frozenset(across),)

    # --- one step --------------------------------------------------------------------------------

    def step(self) -> None:
        self.now_ns += STEP_NS
        self._elect()
        self._append()
        self._talk()
        for i, member in enumerate(self.members):
            member.detector.observe(self.evidence(i), self.now_ns)
            self._label(i)

    def open(self, a: int, b: int) -> bool:
        return not (self.cut.holds(self.now_ns) and (a, b) in self.cut.links)

    def reaches_quorum(self, i: int) -> bool:
        both = [j for j in range(self.size) if j != i and self.open(i, j) and self.open(j, i)]
        return 2 * (len(both) + 1) > self.size

    def _elect(self) -> None:
        if self.leader >= 0 and self.reaches_quorum(self.leader):
            self.headless_ns = 0
            return
        self.headless_ns += STEP_NS
        if self.headless_ns < TIMEOUT_NS + 2 * SECOND:
            return
        able = [i for i in range(self.size) if self.reaches_quorum(i)]
        if able:
            old, self.leader = self.leader, self.rng.choice(able)
            self.term, self.headless_ns = self.term + 1, 0
            self.last = self.commit
            if old >= 0 and old != self.leader:
                self.members[old].leader = -1

    def _append(self) -> None:
        leader = self.members[self.leader]
        leader.term, leader.leader = self.term, self.leader
        self.last += self.load
        leader.last = max(leader.last, self.last)
        if self.reaches_quorum(self.leader):
            self.commit = self.last
            leader.commit, leader.last, leader.quorum_ns = self.commit, self.last, self.now_ns

    def _talk(self) -> None:
        """Everybody says how far it is to everybody; the leader's word carries the entries."""
        for i, member in enumerate(self.members):
            for j in range(self.size):
                if i == j or not self.open(i, j):
                    continue
                delay_ns = self.rng.randrange(10, 150) * MS
                if self.kind == "jitter" and self.rng.random() < 0.03:
                    delay_ns = self.rng.randrange(1, 4) * SECOND
                word = (member.commit, member.last, member.term, member.leader, i == self.leader)
                self.flying.append((self.now_ns + delay_ns, i, j, word))
        arrived = [letter for letter in self.flying if letter[0] <= self.now_ns]
        self.flying = [letter for letter in self.flying if letter[0] > self.now_ns]
        for _, i, j, (commit, last, term, leader, leads) in arrived:
            member = self.members[j]
            member.heard_ns[i] = self.now_ns
            member.told[i] = (commit, last, term, leader)
            if leads and term >= member.term and i == self.leader:
                member.leader_heard_ns, member.leader, member.term = self.now_ns, i, term
                if self.open(j, i):  # what it confirmed and the leader saw
                    step = max(self.load * 4, 2000)
                    member.last = member.commit = max(
                        member.commit, min(commit, member.commit + step)
                    )

    def evidence(self, i: int) -> Evidence:
        member = self.members[i]
        leads = i == self.leader
        contact_ns = member.quorum_ns if leads else member.leader_heard_ns
        age_ns = self.now_ns - contact_ns
        return Evidence(
            node=f"n{i}",
            group="main",
            leads=leads,
            leader=f"n{member.leader}" if member.leader >= 0 and age_ns < 2 * TIMEOUT_NS else "",
            term=member.term,
            contact_age_ns=age_ns,
            election_timeout_ns=TIMEOUT_NS,
            commit=member.commit,
            last_index=member.last,
            peers=tuple(self._peer(member, j) for j in range(self.size) if j != i),
        )

    def _peer(self, member: Member, j: int) -> PeerEvidence:
        commit, last, term, leader = member.told.get(j, (0, 0, 0, -1))
        heard_ns = member.heard_ns.get(j)
        return PeerEvidence(
            f"n{j}",
            heard_age_ns=None if heard_ns is None else self.now_ns - heard_ns,
            commit=commit,
            last_index=last,
            term=term,
            leader=f"n{leader}" if leader >= 0 else "",
        )

    def _label(self, i: int) -> None:
        """The truth: is this member cut off from every leader, and does it know of more entries?"""
        member = self.members[i]
        known = max([member.last, *(max(told[:2]) for told in member.told.values())])
        contact_ns = member.quorum_ns if i == self.leader else member.leader_heard_ns
        split = (
            bool(self.cut.links)
            and self.now_ns - contact_ns > 3 * TIMEOUT_NS
            and known - member.commit > 100
        )
        self.labels[i] = (self.labels[i] or self.now_ns) if split else 0


@dataclass
class Score:
    """Of one seed: what was wrong, in words, and how late true splits were recognised."""

    wrong: list[str] = field(default_factory=list)
    splits: int = 0
    late_ns: list[int] = field(default_factory=list)
    changes: int = 0
    healthy_after_ns: int = 0


def judge(seed: int, seconds: int = 150) -> Score:
    """Run one seed and compare verdicts with the truth."""
    group, score = Group(seed), Score()
    open_cases: dict[int, int] = {}
    for _ in range(seconds * SECOND // STEP_NS):
        group.step()
        for i, member in enumerate(group.members):
            verdict = member.detector.verdict
            assert verdict is not None
            where = f"seed {seed} ({group.kind}), n{i} at {group.now_ns / 1e9:.2f} s: {verdict}"
            if verdict.state is SplitState.SPLIT and not group.cut.links:
                score.wrong.append(f"a split without a cut: {where}")
            if group.labels[i]:
                if i not in open_cases:
                    open_cases[i] = group.labels[i]
                    score.splits += 1
                if verdict.state is SplitState.SPLIT and open_cases[i] >= 0:
                    score.late_ns.append(group.now_ns - open_cases[i])
                    open_cases[i] = -1
            elif open_cases.pop(i, -1) >= 0:
                score.wrong.append(f"a split was not recognised: {where}")
            if verdict.state is not SplitState.HEALTHY:
                score.healthy_after_ns = group.now_ns - group.cut.end_ns
    score.changes = sum(len(member.detector.history) for member in group.members)
    for i, member in enumerate(group.members):
        verdict = member.detector.verdict
        assert verdict is not None
        if verdict.state is not SplitState.HEALTHY:
            score.wrong.append(f"seed {seed} ({group.kind}), n{i} is not healthy again: {verdict}")
    return score


def main(first: int, count: int) -> None:
    """``python -m tests.raft.split_model 0 2000``: the figures of docs/split.md."""
    scores = [judge(seed) for seed in range(first, first + count)]
    late = sorted(late_ns for score in scores for late_ns in score.late_ns)
    wrong = [text for score in scores for text in score.wrong]
    splits = sum(score.splits for score in scores)
    sys.stdout.write("\n".join([*wrong, f"{count} seeds, {len(wrong)} wrong"]))
    sys.stdout.write(f", {splits} true splits, the latest recognised after ")
    sys.stdout.write(f"{max(late, default=0) / 1e9:.1f} s, healthy again at most ")
    sys.stdout.write(
        f"{max(score.healthy_after_ns for score in scores) / 1e9:.1f} s after the heal"
    )
    sys.stdout.write(f", at most {max(score.changes for score in scores)} changes a group\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
