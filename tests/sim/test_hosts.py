"""Machines die, stop, sleep and come back as real ones do."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import sys
import time
from datetime import UTC, datetime

import pytest

from mcpcore.errors import InvalidInput
from mcpcore.sim import World


async def _forever(seen: list[str]) -> None:
    try:
        async with asyncio.timeout(1e6):
            try:
                await asyncio.sleep(1e9)
            finally:
                seen.append("finally")
    except BaseException as error:
        seen.append(type(error).__name__)
        raise


@pytest.mark.parametrize("how", ["crash", "kill"])
def test_a_dead_host_runs_no_more_code_not_even_finally(how: str) -> None:
    seen: list[str] = []
    with World() as world:
        host = world.host("a", lambda: _forever(seen))
        host.spawn(_generator(seen))
        world.run(1)
        getattr(host, how)()
        world.run(1e6)
        gc.collect()
        host.restart()
        world.run(1)
    del world, host
    gc.collect()
    # The second life ended in order when the world was left; the first one said nothing, ever.
    assert seen == ["finally", "CancelledError"]


async def _generator(seen: list[str]) -> None:
    async def numbers() -> object:
        try:
            while True:
                await asyncio.sleep(1)
                yield 1
        finally:
            seen.append("generator closed")

    async for _ in numbers():  # type: ignore[attr-defined]
        pass


def test_no_timer_of_a_dead_host_fires_in_its_next_life() -> None:
    seen: list[tuple[int, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        life = os.getpid()
        loop.call_later(5, seen.append, (life, "late"))
        await asyncio.sleep(3)
        seen.append((life, "on time"))
        await asyncio.sleep(100)

    with World() as world:
        host = world.host("a", main)
        world.run(4)
        host.crash()
        host.restart()
        world.run(10)
    assert seen == [(1001, "on time"), (1002, "on time"), (1002, "late")]


def test_a_paused_host_misses_nothing_and_its_clock_goes_on() -> None:
    ticks: list[float] = []

    async def main() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(round(time.monotonic() - 1_000, 3))

    with World() as world:
        host = world.host("a", main)
        world.run(2.5)
        assert host.pause()
        assert not host.pause(), "it is paused already"
        world.run(10)
        assert host.state == "paused"
        host.resume()
        world.run(2)
    assert ticks == [1.0, 2.0, 12.5, 13.5, 14.5][: len(ticks)]
    assert len(ticks) >= 4


def test_a_suspended_host_does_not_notice_on_its_monotonic_clock() -> None:
    seen: list[tuple[float, float]] = []

    async def main() -> None:
        before = time.time()
        await asyncio.sleep(10)
        seen.append((time.monotonic() - 1_000, time.time() - before))

    with World() as world:
        host = world.host("a", main)
        world.run(4)
        host.suspend()
        world.run(100)
        host.resume()
        world.run(5.9)
        assert seen == []
        world.run(0.2)
    ((monotonic, wall),) = seen
    assert monotonic == pytest.approx(10)
    assert wall == pytest.approx(110)


def test_a_slow_host_takes_its_time_for_each_step_and_keeps_the_order() -> None:
    seen: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        seen.append((number, round((time.monotonic() - 1_000) * 1_000)))

    with World() as world:
        host = world.host("a")
        host.slow(10_000)
        for number in range(4):
            host.spawn(one(number))
        world.run(1)
    assert seen == [(0, 0), (1, 10), (2, 20), (3, 30)]


def test_each_host_has_its_own_clock_name_process_and_randomness() -> None:
    async def look() -> tuple[object, ...]:
        return (
            socket.gethostname(),
            os.getpid(),
            datetime.now(UTC).isoformat(),
            round(time.time()),
            random.random(),
        )

    with World(seed=1) as world:
        a = world.call(world.host("a"), look())
        b = world.call(world.host("b", offset_ns=-3_600_000_000_000), look())
    assert a[:4] == ("a", 1001, "2026-01-01T00:00:00+00:00", 1767225600)
    assert b[:4] == ("b", 1001, "2025-12-31T23:00:00+00:00", 1767222000)
    assert a[4] != b[4]


def test_drift_makes_timers_early_or_late_in_true_time() -> None:
    woke: dict[str, float] = {}

    with World() as world:

        async def main(name: str) -> None:
            await asyncio.sleep(1_000)
            woke[name] = world.now_s

        world.host("fast", lambda: main("fast"), drift_ppm=1_000)
        world.host("slow", lambda: main("slow"), drift_ppm=-1_000)
        late = world.host("changed", lambda: main("changed"))
        world.run(500)
        late.drift(1_000)
        world.run(600)
    assert woke["fast"] == pytest.approx(999.001, abs=1e-3)
    assert woke["slow"] == pytest.approx(1_001.001, abs=1e-3)
    assert woke["changed"] == pytest.approx(999.5005, abs=1e-3)


def test_a_signal_runs_its_handler_and_kills_without_one() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        seen.append("asked to stop")

    with World() as world:
        host = world.host("a", main)
        world.run(1)
        host.signal(signal.SIGTERM)
        world.run(1)
        assert seen == ["asked to stop"]
        assert host.state == "running"
        host.signal(signal.SIGINT)
        assert host.state == "killed"


def test_system_exit_ends_the_process_and_not_the_world() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        sys.exit(3)

    with World() as world:
        host = world.host("a", main)
        world.run(2)
        assert host.state == "killed"
        assert host.exit_code == 3


def test_a_host_that_is_down_cannot_be_given_work() -> None:
    with World() as world:
        host = world.host("a")
        host.crash()
        assert not host.crash(), "it is down already"
        with pytest.raises(InvalidInput, match="crashed"):
            host.spawn(asyncio.sleep(1))
        host.restart()
        world.call(host, asyncio.sleep(1))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "world"])
def test_a_name_that_would_confuse_the_trace_is_refused(name: str) -> None:
    with World() as world, pytest.raises(InvalidInput):
        world.host(name)


def test_two_hosts_cannot_share_a_name() -> None:
    with World() as world:
        world.host("a")
        with pytest.raises(InvalidInput, match="already"):
            world.host("a")
