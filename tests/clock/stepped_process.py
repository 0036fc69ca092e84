"""A real process whose system clock is stepped under it; prints what happened as JSON.

Run as ``python stepped_process.py STEP_SECONDS``. Nothing here is simulated but the step: the
timers are asyncio's, the monotonic clock is the kernel's, and so is the system clock that the
step is added to.
"""

import asyncio
import json
import sys
import time
from itertools import pairwise

from mcpcore.clock import ClockSettings, Exchange, NodeClock
from mcpcore.node.commit_wait import wait_until_past

MS = 1_000_000


async def main(step_ns: int) -> dict[str, object]:
    stepped = 0

    def wall_ns() -> int:
        return time.time_ns() + stepped

    settings = ClockSettings(settle_ns=300 * MS)
    clock = NodeClock(
        "a", ["b", "c"], wall_ns=wall_ns, monotonic_ns=time.monotonic_ns, settings=settings
    )
    peers = {
        name: NodeClock(
            name, ["a"], wall_ns=time.time_ns, monotonic_ns=time.monotonic_ns, settings=settings
        )
        for name in "bc"
    }
    stamps = []

    async def heartbeats() -> None:
        while True:
            for name, peer in peers.items():
                t1 = clock.stamp_ns()
                t2 = peer.stamp_ns()
                await asyncio.sleep(0)
                clock.exchanged(name, Exchange(t1, t2, t2, clock.stamp_ns()))
                stamps.append(clock.now())
                peer.received("a", stamps[-1])  # raises if it is refused
                stamps.append(clock.received(name, peer.now()))
            await asyncio.sleep(0.005)

    async def timer(seconds: float) -> float:
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        return time.monotonic() - begun

    async def commit_wait() -> float:
        begun = time.monotonic()
        future = type(stamps[-1])(clock.now() + (200 * MS << 32))
        await wait_until_past(clock, future, limit_ns=5_000 * MS)
        return time.monotonic() - begun

    beating = asyncio.create_task(heartbeats())
    await asyncio.sleep(0.1)
    healthy = clock.health().state.value
    waits = [asyncio.create_task(timer(0.3)), asyncio.create_task(commit_wait())]
    await asyncio.sleep(0.05)
    stepped = step_ns
    at_step = clock.health()
    timer_s, commit_s = await asyncio.gather(*waits)
    await asyncio.sleep(0.3)
    settled = clock.health()
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    return {
        "issued": len(stamps),
        "ordered": all(a < b for a, b in pairwise(stamps)),
        "span_s": (stamps[-1].physical_ns - stamps[0].physical_ns) / 1e9,
        "timer_s": timer_s,
        "commit_s": commit_s,
        "before": healthy,
        "at_step": [at_step.state.value, at_step.may_lease, *at_step.reasons],
        "settled": [settled.state.value, settled.may_lease, *settled.reasons],
        "beating_failed": not beating.cancelled(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(round(float(sys.argv[1]) * 1e9)))))
