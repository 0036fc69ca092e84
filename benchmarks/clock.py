"""What a hybrid timestamp costs, beside a bare ``time.time_ns()`` and beside its peers.

Run ``python -m benchmarks.clock``; install ``hlcpy`` and ``accordsync-core`` to see them measured
too. Rounds of all contestants are interleaved, so that a busy machine disturbs them alike; the
figure is the fastest round, and the ratio is to the fastest round of ``time.time_ns()``.
"""

from __future__ import annotations

import importlib.util
import platform
import time
import timeit
from collections.abc import Callable

from mcpcore.clock import Exchange, HybridClock, NodeClock

ROUNDS = 200
ROUND_NS = 1_000_000
"""Short rounds, so that on a busy machine some of them run undisturbed."""
HOUR_NS = 3_600_000_000_000


def contestants() -> dict[str, Callable[[], object]]:
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

    found: dict[str, Callable[[], object]] = {
        "`time.time_ns()`": time.time_ns,
        "`HybridClock.tick()`, a bare integer": ticking.tick,
        "`HybridClock.now()`": clock.now,
        "`HybridClock.observe()`, the message is behind": lambda: behind.observe(past),
        "`HybridClock.observe()`, the message is ahead": lambda: ahead.observe(future),
        "`NodeClock.hlc.now()`, on calibrated time": node.hlc.now,
        "`NodeClock.exchanged()`, one heartbeat": exchange,
    }
    if importlib.util.find_spec("hlcpy"):
        import hlcpy

        ours, local, theirs = hlcpy.HLC.from_now(), hlcpy.HLC.from_now(), hlcpy.HLC.from_now()

        def sync() -> object:
            local.sync()
            return local

        def merge() -> object:
            ours.merge(theirs)
            return ours

        found["hlcpy 0.0.2 `sync()`"] = sync
        found["hlcpy 0.0.2 `merge()`"] = merge
    if importlib.util.find_spec("accordsync_core"):
        from accordsync_core.hlc import Hlc

        state = [Hlc.initial("a")]
        remote = Hlc.initial("b").tick(time.time_ns() // 1_000_000)

        def tick() -> object:
            state[0] = state[0].tick(time.time_ns() // 1_000_000)
            return state[0]

        def receive() -> object:
            state[0] = state[0].receive(remote, time.time_ns() // 1_000_000, 60_000)
            return state[0]

        found["accordsync-core 0.3.2 `tick()`"] = tick
        found["accordsync-core 0.3.2 `receive()`"] = receive
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    found = contestants()
    best = dict.fromkeys(found, float("inf"))
    calls = {
        name: max(5, round(ROUND_NS / (timeit.timeit(call, number=50) / 50 * 1e9)))
        for name, call in found.items()
    }
    for _ in range(ROUNDS):
        for name, call in found.items():
            spent_s = timeit.timeit(call, number=calls[name])
            best[name] = min(best[name], spent_s / calls[name] * 1e9)
    base = best["`time.time_ns()`"]
    print("| call | ns | x `time.time_ns()` |\n|---|---|---|")
    for name, ns in best.items():
        print(f"| {name} | {ns:,.0f} | {ns / base:.2f} |")
    print(
        f"\n> CPython {platform.python_version()}, {platform.machine()}; fastest of {ROUNDS} "
        f"interleaved rounds of {ROUND_NS / 1e6:g} ms. Rows that are wrapped in a function here "
        "pay about 45 ns for it. We wrote the library and the benchmark; the peers were written "
        "for clarity or for other platforms' formats: milliseconds, locks, node names inside."
    )


if __name__ == "__main__":
    main()
