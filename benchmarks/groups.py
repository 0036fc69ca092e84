"""What groups cost a node that has many of them and nothing to do.

``python -m benchmarks.groups [--groups 1,10,100,1000] [--seconds 20] [--awake] [--wheel]``

Three real processes on loopback, over plaintext, on real files; groups are made at run time, as
``mcpctl group create`` does. CPU and memory are the processes' own, from /proc; a group's memory is
the growth of the resident set over that of a node with one group. ``--awake`` keeps groups from
sleeping, to show what sleep saves. ``--wheel`` measures only the set of deadlines against a heap
of them.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mcpcore.node.client.client import Client
from mcpcore.node.client.groups import list_groups
from mcpcore.node.requests import Op
from mcpcore.node.timer_wheel import TimerWheel
from mcpcore.node.transport.identity import Role
from mcpcore.node.transport.security import Plaintext

NAMES = ("a", "b", "c")
PLAIN = Plaintext(allow_plaintext=True)
QUIET_S = 5


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise SystemExit("no VmRSS in /proc")


class Nodes:
    """Three processes; ``with`` ends them."""

    def __init__(self, directory: Path) -> None:
        ports = dict(zip(NAMES, free_ports(3), strict=True))
        self.endpoints = [f"127.0.0.1:{port}" for port in ports.values()]
        self.processes = []
        peers = "\n".join(f'{name} = "127.0.0.1:{port}"' for name, port in ports.items())
        for name, port in ports.items():
            file = directory / f"{name}.toml"
            file.write_text(
                f'cluster = "bench"\nnode = "{name}"\nlisten = "127.0.0.1:{port}"\n'
                f'data = "data-{name}"\nplaintext = true\n[peers]\n{peers}\n'
                f'[groups.main]\nvoters = ["a", "b", "c"]\nquiet_after_s = {QUIET_S}\n'
            )
            command = [sys.executable, "-m", "mcpcore.ctl", "serve", str(file)]
            self.processes.append(
                subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.DEVNULL)
            )

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(30)


async def settle(client: Client, count: int, awake: bool, within_s: float = 180) -> None:
    """Wait until all groups are led, and sleep if they may."""
    end_s = time.monotonic() + within_s
    while True:
        survey = await list_groups(client, timeout_s=30)
        seen = [group for hosted in survey.nodes for group in hosted.groups.values()]
        led = len(seen) == 3 * count and all(group["leader"] for group in seen)
        if led and (awake or all(group["asleep"] for group in seen)):
            return
        if time.monotonic() > end_s:
            asleep = sum(group["asleep"] for group in seen)
            raise SystemExit(f"{len(seen)} replicas, {asleep} of them asleep, after {within_s} s")
        await asyncio.sleep(0.5)


async def make(client: Client, first: int, last: int, awake: bool) -> None:
    settings = {"quiet_after_ns": 0 if awake else QUIET_S * 10**9}
    for number in range(first, last):
        told = await client.ask_each(
            Op.CREATE_GROUP, f"group-{number}", list(NAMES), settings, timeout_s=30
        )
        for answer in told.values():
            if answer is not None:
                raise SystemExit(f"group-{number}: {answer}")


async def measure(counts: list[int], seconds: float, awake: bool) -> None:
    with tempfile.TemporaryDirectory() as directory, Nodes(Path(directory)) as nodes:
        pids = [process.pid for process in nodes.processes]
        client = Client(nodes.endpoints, cluster="bench", security=PLAIN, role=Role.ADMIN)
        async with client:
            await asyncio.sleep(2)
            made, base = 1, 0
            print("groups   CPU per node (least, most)   memory of a node   KiB per group")
            for count in counts:
                await make(client, made, count, awake)
                made = max(made, count)
                await settle(client, made, awake)
                await asyncio.sleep(2)
                before = [cpu_s(pid) for pid in pids]
                started_s = time.monotonic()
                await asyncio.sleep(seconds)
                lasted_s = time.monotonic() - started_s
                cpu = sorted((cpu_s(p) - b) / lasted_s for p, b in zip(pids, before, strict=True))
                memory = sum(map(rss_kib, pids)) // 3
                base = base or memory
                each = (memory - base) / max(1, made - 1)
                print(
                    f"{made:6}   {cpu[0]:8.2%} {cpu[-1]:8.2%}           "
                    f"{memory / 1024:8.1f} MiB   {each:14.1f}"
                )


class HeapOfDeadlines:
    """What the wheel is compared with: a heap, and lazy deletion."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._due: dict[int, int] = {}

    def set(self, key: int, due_ns: int) -> None:
        self._due[key] = due_ns
        heapq.heappush(self._heap, (due_ns, key))

    def due(self, now_ns: int) -> list[int]:
        due = []
        while self._heap and self._heap[0][0] <= now_ns:
            due_ns, key = heapq.heappop(self._heap)
            if self._due.get(key) == due_ns:
                del self._due[key]
                due.append(key)
        return due


def wheel(rounds: int = 200, keys: int = 1000) -> None:
    """A beat of a thousand groups: every deadline set twice (it moves), then all collected."""
    for name, moments in (
        ("one moment", [10**9] * keys),
        ("random", random.sample(range(10**9), keys)),
    ):
        for kind in (TimerWheel, HeapOfDeadlines):
            best = float("inf")
            for _ in range(rounds):
                timers = kind()
                started = time.perf_counter()
                for key, due_ns in enumerate(moments):
                    timers.set(key, due_ns // 2)
                for key, due_ns in enumerate(moments):
                    timers.set(key, due_ns)
                assert len(timers.due(2 * 10**9)) == keys
                best = min(best, time.perf_counter() - started)
            print(f"{name:12} {kind.__name__:16} {best * 1e3:6.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", default="1,10,100,1000")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--awake", action="store_true")
    parser.add_argument("--wheel", action="store_true")
    options = parser.parse_args()
    if options.wheel:
        wheel()
        return
    counts = sorted(int(count) for count in options.groups.split(","))
    asyncio.run(measure(counts, options.seconds, options.awake))


if __name__ == "__main__":
    main()
