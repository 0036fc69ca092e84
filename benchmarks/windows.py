"""Adaptive against static windows: false suspicions at equal detection time.

A leader and two followers, nothing else: heartbeats
leave, arrive in order after a delay drawn from a profile, and are answered. The leader never dies,
so every timer that runs out is a false suspicion, and every one that finds the other follower's
promise run out as well is a needless election.

Equal detection time: for a leader that dies at a random moment, we take the time until an election
could be won (one timer has run out, and a majority has no promise left to keep). The static timeout
is found by bisection so that the mean over the same crashes is the same. Two tables: a *changing*
link, which is what windows that follow are for, and each profile alone, where the static timeout is
tuned with hindsight to that very profile, which no operator can.
"""

from __future__ import annotations

import heapq
import random
import statistics
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.harness.bench import Bench
from mcpcore.raft.settings import SECOND
from mcpcore.raft.windows import AdaptiveWindows, Patience, WindowSettings

SETTINGS = WindowSettings()
FOLLOWERS = ("b", "c")
CRASHES = 4000
SEED = 7


# --- profiles -----------------------------------------------------------------------------------


class Link:
    """One-way delays of a follower's link, both directions, by a seed."""

    def __init__(self, seed: int, hours: float) -> None:
        self.rng = random.Random(seed)
        self.end_s = hours * 3600

    def delay_s(self, now_s: float) -> float:
        raise NotImplementedError


class Calm(Link):
    """35 ms, jitter of a millisecond."""

    def delay_s(self, now_s: float) -> float:
        return 0.035 + self.rng.expovariate(1000)


class Jittery(Link):
    """110 ms; jitter of 15 ms in the median, with a heavy tail; now and then a second or more."""

    def delay_s(self, now_s: float) -> float:
        jitter = self.rng.lognormvariate(-4.2, 1.0)
        if self.rng.random() < 0.002:
            jitter += self.rng.uniform(0.3, 1.5)
        return 0.110 + jitter


class BurstyLoss(Link):
    """80 ms; outages of 0.6 s in the mean, every 20 s; what is lost is sent again by TCP.

    The retransmission timer starts at 0.3 s and doubles (RFC 6298).
    """

    def __init__(self, seed: int, hours: float) -> None:
        super().__init__(seed, hours)
        self.turns = [0.0]
        while self.turns[-1] < self.end_s:
            mean_s = 20.0 if len(self.turns) % 2 else 0.6
            self.turns.append(self.turns[-1] + self.rng.expovariate(1 / mean_s))

    def lost(self, now_s: float) -> bool:
        return bisect_right(self.turns, now_s) % 2 == 0

    def delay_s(self, now_s: float) -> float:
        waited, timer = 0.0, 0.3
        while self.lost(now_s + waited):
            waited += timer
            timer *= 2
        return 0.080 + waited + self.rng.expovariate(200)


class Congested(Link):
    """80 ms; for two minutes of every ten, a queue that wanders up to 2.5 s."""

    def __init__(self, seed: int, hours: float) -> None:
        super().__init__(seed, hours)
        self.queue: list[float] = []
        depth = 0.0
        busy_until = calm_until = 0.0
        for tick in range(int(self.end_s * 5) + 1):
            now_s = tick / 5
            if now_s >= max(busy_until, calm_until):
                calm_until = now_s + self.rng.expovariate(1 / 480)
                busy_until = calm_until + self.rng.expovariate(1 / 120)
            if now_s >= calm_until:
                depth = min(2.5, max(0.0, depth + self.rng.gauss(0.01, 0.15)))
            else:
                depth *= 0.7
            self.queue.append(depth)

    def delay_s(self, now_s: float) -> float:
        at = min(int(now_s * 5), len(self.queue) - 1)
        return 0.080 + self.queue[at] + self.rng.expovariate(100)


class Changing(Link):
    """Four hours, again and again: 168 minutes calm, then 24 minutes each of the others."""

    def __init__(self, seed: int, hours: float) -> None:
        super().__init__(seed, hours)
        self.parts = [kind(seed, hours) for kind in (Calm, Jittery, BurstyLoss, Congested)]

    def delay_s(self, now_s: float) -> float:
        minute = now_s / 60 % 240
        part = 0 if minute < 168 else 1 + int((minute - 168) // 24)
        return self.parts[part].delay_s(now_s)


PROFILES: dict[str, type[Link]] = {
    "calm": Calm,
    "jittery": Jittery,
    "bursty loss": BurstyLoss,
    "congested": Congested,
    "changing": Changing,
}


# --- windows ------------------------------------------------------------------------------------


class Static:
    """One heartbeat interval and one timeout for ever."""

    def __init__(self, timeout_s: float, heartbeat_s: float) -> None:
        self.timeout_ns, self.beat_ns = int(timeout_s * SECOND), int(heartbeat_s * SECOND)
        ceiling_ns = max(self.timeout_ns, 2 * self.beat_ns)
        self.settings = WindowSettings(
            heartbeat_floor_ns=1,
            heartbeat_ceiling_ns=ceiling_ns,
            election_floor_ns=2,
            election_ceiling_ns=ceiling_ns,
        )

    def beats(self, now_ns: int) -> tuple[int, dict[str, int]]:
        return self.beat_ns, dict.fromkeys(FOLLOWERS, self.timeout_ns)

    def answered(self, member: str, sent_ns: int, now_ns: int) -> None:
        pass

    def round_trip_ns(self, member: str) -> int:
        return 0


class Adaptive(AdaptiveWindows):
    """As in the library."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)

    def beats(self, now_ns: int) -> tuple[int, dict[str, int]]:
        """A heartbeat leaves for everybody: when the next one does, and what each asks for."""
        for name in FOLLOWERS:
            self.link(name).sent(now_ns)
        interval_ns = self.heartbeat_ns(FOLLOWERS, now_ns)
        return interval_ns, self.promises_ns(FOLLOWERS, FOLLOWERS, now_ns)

    def answered(self, member: str, sent_ns: int, now_ns: int) -> None:
        """The answer to the heartbeat sent then came."""
        self.link(member).answered(sent_ns, now_ns)

    def round_trip_ns(self, member: str) -> int:
        """As the member's own transport measures it."""
        return self.link(member).round_trip_ns


@dataclass
class Run:
    """What a run showed."""

    suspicions: int = 0
    elections: int = 0
    heartbeats: int = 0
    heard: dict[str, list[tuple[int, int, int, int]]] = field(
        default_factory=lambda: {name: [] for name in FOLLOWERS}
    )
    """Per follower: sent, arrived, promise kept until, deadline."""


def simulate(make: Callable[[], Static | Adaptive], profile: str, hours: float, seed: int) -> Run:
    """A leader that never dies, for so many hours."""
    rng, run, windows = random.Random(seed), Run(), make()
    there = {name: PROFILES[profile](seed + i, hours) for i, name in enumerate(FOLLOWERS)}
    back = {name: PROFILES[profile](seed + 100 + i, hours) for i, name in enumerate(FOLLOWERS)}
    patience = {name: Patience(windows.settings, 0) for name in FOLLOWERS}
    deadline = dict.fromkeys(FOLLOWERS, 20 * SECOND)
    arrived: dict[tuple[str, bool], int] = {}
    agenda: list[tuple[int, int, str, str, int, int, int]] = [(0, 0, "beat", "", 0, 0, 0)]
    office = number = 0

    def later(at_ns: int, *what: str | int) -> None:
        nonlocal number
        number += 1
        heapq.heappush(agenda, (at_ns, number, *what))  # type: ignore[arg-type]

    def travel(link: Link, key: tuple[str, bool], now_ns: int) -> int:
        at_ns = now_ns + int(link.delay_s(now_ns / SECOND) * SECOND)
        arrived[key] = max(at_ns, arrived.get(key, 0))
        return arrived[key]

    while agenda:
        now_ns, _, what, name, sent_ns, promise_ns, term = heapq.heappop(agenda)
        if now_ns > hours * 3600 * SECOND:
            break
        if what == "beat":
            run.heartbeats += 1
            interval_ns, promises_ns = windows.beats(now_ns)
            for name in FOLLOWERS:
                at_ns = travel(there[name], (name, True), now_ns)
                later(at_ns, "arrive", name, now_ns, promises_ns[name], office)
            later(now_ns + interval_ns, "beat", "", 0, 0, 0)
        elif what == "arrive":
            patience[name].heard(promise_ns, now_ns, term)
            deadline[name] = patience[name].deadline_ns(
                now_ns, rng.randrange, round_trip_ns=windows.round_trip_ns(name)
            )
            later(deadline[name], "fire", name, deadline[name], 0, 0)
            run.heard[name].append(
                (sent_ns, now_ns, patience[name].promise_until_ns, deadline[name])
            )
            at_ns = travel(back[name], (name, False), now_ns)
            later(at_ns, "answer", name, sent_ns, 0, term)
        elif what == "answer":
            if term == office:
                windows.answered(name, sent_ns, now_ns)
        elif deadline[name] == sent_ns:  # fire, and nothing came meanwhile
            run.suspicions += 1
            if isinstance(windows, Adaptive):
                patience[name].doubted(office)
            other = next(follower for follower in FOLLOWERS if follower != name)
            if patience[other].may_help(now_ns):
                run.elections += 1
                office += 1
                windows = make()
            for follower in FOLLOWERS if patience[other].may_help(now_ns) else (name,):
                deadline[follower] = patience[follower].deadline_ns(now_ns, rng.randrange)
                later(deadline[follower], "fire", follower, deadline[follower], 0, 0)
    return run


def detection_s(run: Run, hours: float, seed: int) -> float:
    """Mean time from a death of the leader until an election could be won."""
    rng = random.Random(seed)
    sents = {name: [heard[0] for heard in run.heard[name]] for name in FOLLOWERS}
    times = []
    for _ in range(CRASHES):
        died_ns = int(rng.uniform(60, hours * 3600 - 60) * SECOND)
        last = [
            run.heard[name][max(0, bisect_right(sents[name], died_ns) - 1)] for name in FOLLOWERS
        ]
        first = min(heard[3] for heard in last)
        released = max(heard[2] for heard in last)
        times.append(max(first, released, died_ns) - died_ns)
    return statistics.fmean(times) / SECOND


def equal_timeout_s(goal_s: float, beat_s: float | None, profile: str, hours: float) -> float:
    """The static timeout whose mean detection time in this profile is the goal.

    Args:
        beat_s: the heartbeat interval; None for a fifth of the timeout.
    """
    low, high = 0.05, 8.0
    run: Run | None = None
    while high - low > 0.02:
        middle = (low + high) / 2
        if beat_s is not None and 2 * beat_s > middle:
            low = middle
            continue
        if run is None or beat_s is None:
            beat = beat_s or middle / 5
            run = simulate(lambda m=middle, b=beat: Static(m, b), profile, hours, SEED)
        shorter = detection_s(with_timeout(run, middle), hours, SEED) < goal_s
        low, high = (middle, high) if shorter else (low, middle)
    return (low + high) / 2


def with_timeout(run: Run, timeout_s: float) -> Run:
    """The same arrivals under another static timeout: with static windows they do not depend."""
    rng, timeout_ns = random.Random(SEED), int(timeout_s * SECOND)
    heard = {
        name: [
            (sent, at, at + timeout_ns, at + timeout_ns + rng.randrange(timeout_ns))
            for sent, at, _, _ in rows
        ]
        for name, rows in run.heard.items()
    }
    return Run(heard=heard)


# --- the tables ---------------------------------------------------------------------------------


def measure(bench: Bench) -> None:
    """Every profile: ours, then the static rivals that detect as fast."""
    hours = 12.0 if bench.options.full else 1.5 * bench.options.seconds
    bench.answer.method = (
        f"{hours:g} virtual hours of the changing link, an eighth of that for each profile alone, "
        f"seed {SEED}; no machine is measured. The static timeout is tuned, with hindsight, to "
        "detect a dead leader as soon in the mean. `--full` takes 12 hours."
    )
    bench.answer.bias = "Delay models, not a network; we wrote both sides."
    for profile in reversed(PROFILES):
        compare(bench, profile, hours if profile == "changing" else hours / 8)


def keep(bench: Bench, profile: str, kind: str, run: Run, hours: float) -> None:
    """One row."""
    figures = {
        "detected after": (detection_s(run, hours, SEED), "s", "less"),
        "beats": (run.heartbeats / hours / 3600, "per s", ""),
        "false suspicions": (run.suspicions / hours, "per h", "less"),
        "elections": (run.elections / hours, "per h", "less"),
    }
    for name, (value, unit, better) in figures.items():
        bench.figure("", kind, {"profile": profile}, name, [value], unit=unit, better=better)


def compare(bench: Bench, profile: str, hours: float) -> None:
    """Ours and its rivals in one profile."""
    bench.progress.step("windows", {"profile": profile})
    ours = simulate(Adaptive, profile, hours, SEED)
    keep(bench, profile, "mcpcore, adaptive", ours, hours)
    goal_s, beats_s = detection_s(ours, hours, SEED), hours * 3600 / ours.heartbeats
    search_hours = min(hours, 6.0) if profile == "changing" else min(hours, 0.5)
    rivals = [(beats_s, "as often")]
    if profile != "changing":
        rivals.append((None, "a fifth of it"))
    for fixed_s, name in rivals:
        timeout_s = equal_timeout_s(goal_s, fixed_s, profile, search_hours)
        beat_s = fixed_s or timeout_s / 5
        rival = simulate(lambda t=timeout_s, b=beat_s: Static(t, b), profile, hours, SEED)
        keep(bench, profile, f"static {timeout_s:.2f} s, heartbeat {name}", rival, hours)
