"""What a hybrid timestamp costs, beside a bare ``time.time_ns()`` and beside its peers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
from benchmarks.harness.programs import Program
from benchmarks.loads.calls import fastest_ns
from benchmarks.peers.foreign import foreign
from mcpcore.clock import Exchange, HybridClock, NodeClock

HOUR_NS = 3_600_000_000_000
BARE = "time.time_ns()"
FOREIGN = {
    "hlcpy": {"hlcpy sync()": "hlcpy_sync", "hlcpy merge()": "hlcpy_merge"},
    "accordsync": {
        "accordsync-core tick()": "accordsync_tick",
        "accordsync-core receive()": "accordsync_receive",
    },
}
SHARE = 0.1
"""Of the seconds asked for: one call needs less than a cluster does."""


def measure(bench: Bench) -> None:
    """All calls in turn."""
    bench.answer.method = "The fastest 1 ms of each round: nanoseconds a call."
    bench.answer.bias = (
        "Rows that are wrapped in a function here pay about 45 ns for it. The peers were written "
        "for clarity or for other platforms' formats: milliseconds, locks, node names inside."
    )
    bench.answer.references = (BARE, "hlcpy sync()", "accordsync-core tick()")
    seconds = SHARE * bench.options.seconds
    with ExitStack() as stack:
        contestants = {name: ours(call, seconds) for name, call in calls().items()}
        for peer, theirs in FOREIGN.items():
            program = foreign(bench, stack, peer, "hlc")
            if program is not None:
                contestants |= {
                    name: asked(program, call, seconds) for name, call in theirs.items()
                }
        bench.interleave("", {}, {"a call": Measure("ns", "less")}, contestants)


def ours(call: Callable[[], object], seconds: float) -> Contestant:
    """In this process."""
    return lambda: Measured({"a call": fastest_ns(call, seconds)})


def asked(program: Program, call: str, seconds: float) -> Contestant:
    """In the peer's process."""
    return lambda: Measured({"a call": program.ask({"call": call, "seconds": seconds})["ns"]})


def calls() -> dict[str, Callable[[], object]]:
    """What to measure, by name."""
    clock, ticking, behind = (HybridClock(time.time_ns) for _ in range(3))
    ahead = HybridClock(time.time_ns, max_offset_ns=HOUR_NS)
    past = clock.now()
    future = HybridClock(lambda: time.time_ns() + HOUR_NS // 2).now()
    node = NodeClock("a", ["b"], wall_ns=time.time_ns, monotonic_ns=time.monotonic_ns)
    steady = node.stamp_ns()

    def exchange() -> object:
        t1 = node.stamp_ns()
        return node.exchanged("b", Exchange(t1, t1 - steady, t1 - steady, t1 + 1_000_000))

    return {
        BARE: time.time_ns,
        "mcpcore, HybridClock.tick(), a bare integer": ticking.tick,
        "mcpcore, HybridClock.now()": clock.now,
        "mcpcore, HybridClock.observe(), the message is behind": lambda: behind.observe(past),
        "mcpcore, HybridClock.observe(), the message is ahead": lambda: ahead.observe(future),
        "mcpcore, NodeClock.hlc.now(), on calibrated time": node.hlc.now,
        "mcpcore, NodeClock.exchanged(), one heartbeat": exchange,
    }
