"""One node of ours, with whoever proposes and reads inside its process.

Usage: python -m benchmarks.loads.node SETTINGS, where SETTINGS is JSON: name, ports by name,
directory, and optionally groups, election_ms, heartbeat_ms, quiet_ms and snapshots.

Plaintext on loopback; the log goes to real files and is synced. Commands are puts into the
key-value machine, encoded anew each time, as a program would.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.loads import orders
from benchmarks.loads.latencies import Done, drive
from mcpcore.node.config import GroupConfig, NodeConfig
from mcpcore.node.group import Group
from mcpcore.node.kv import Get, Put, encode_command, encode_request
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.node import Node
from mcpcore.node.snapshots.settings import SnapshotSettings
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.security import Plaintext
from mcpcore.node.waiting import Consistency
from mcpcore.raft.settings import MILLISECOND, RaftSettings

KEYS = 10_000
CLUSTER = "bench"
WINDOWS = {
    "election_ms": "election_timeout_ns",
    "heartbeat_ms": "heartbeat_ns",
    "quiet_ms": "quiet_after_ns",
}


def configuration(told: dict[str, Any]) -> NodeConfig:
    """From the settings given on the command line."""
    ports: dict[str, int] = told["ports"]
    windows = {
        field: told[name] * MILLISECOND
        for name, field in (
            ("election_ms", "election_timeout_ns"),
            ("heartbeat_ms", "heartbeat_ns"),
        )
        if name in told
    }
    group = GroupConfig(tuple(ports), RaftSettings(**windows))
    return NodeConfig(
        cluster=CLUSTER,
        name=told["name"],
        listen=Address("127.0.0.1", ports[told["name"]]),
        peers={
            name: Address("127.0.0.1", port) for name, port in ports.items() if name != told["name"]
        },
        data=told["directory"],
        security=Plaintext(allow_plaintext=True),
        groups=dict.fromkeys(told.get("groups", ["main"]), group),
        snapshots=SnapshotSettings(**told.get("snapshots", {})),
        bootstrap=True,
    )


class Loaded:
    """A running node and its orders."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def handle(self, order: dict[str, Any]) -> dict[str, Any]:
        match order["do"]:
            case "brief":
                return self._brief()
            case "put":
                groups = [self.node.group(name) for name in self.node.groups if self._leads(name)]
                fire = putting(groups, order["value_bytes"])
                return await drive(fire, order["in_flight"], order["seconds"])
            case "get":
                fire = getting(self.node.group("main"), Consistency.parse(order["consistency"]))
                return await drive(fire, order["in_flight"], order["seconds"])
            case "fill":
                return await fill(self.node.group("main"), order)
            case "applied":
                group = self.node.group("main")
                digest = group.state.digest().hex() if order.get("digest") else ""
                return {"index": group.applied, "digest": digest}
            case "usage":
                used = resource.getrusage(resource.RUSAGE_SELF)
                return {"cpu_s": used.ru_utime + used.ru_stime, "rss_kib": rss_kib()}
            case other:
                return {"error": f"unknown order {other}"}

    def _brief(self) -> dict[str, Any]:
        groups = [self.node.group(name) for name in self.node.groups]
        return {
            "leads": any(group.name == "main" and group.raft.is_leader for group in groups),
            "led": sum(group.raft.is_leader for group in groups),
            "asleep": sum(group.raft.state.quiet for group in groups),
        }

    def _leads(self, name: str) -> bool:
        return self.node.group(name).raft.is_leader


def rss_kib() -> int:
    """What this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def putting(groups: list[Group], value_bytes: int) -> Callable[[Done], None]:
    """Puts into the groups in turn."""
    if not groups:
        raise ValueError("this node leads no group")
    value, numbers, turn = b"v" * value_bytes, itertools.count(), itertools.cycle(groups)

    def fire(done: Done) -> None:
        command = encode_command(Put(b"key/%08d" % (next(numbers) % KEYS), value))
        future = next(turn).propose(command)
        future.add_done_callback(lambda ended: done(ended.exception()))

    return fire


def getting(group: Group, consistency: Consistency) -> Callable[[Done], None]:
    """Reads of one key after the other."""
    numbers = itertools.count()

    def fire(done: Done) -> None:
        request = encode_request(Get(b"key/%08d" % (next(numbers) % KEYS)))
        future = group.read(request, consistency)
        future.add_done_callback(lambda ended: done(ended.exception()))

    return fire


async def fill(group: Group, order: dict[str, Any]) -> dict[str, Any]:
    """So many puts of distinct keys, as fast as they are taken; answers how long that took."""
    count, value = order["count"], b"v" * order["value_bytes"]
    first, in_flight = order.get("first", 0), order.get("in_flight", 512)
    began_s = time.perf_counter()
    numbers = iter(range(first, first + count))

    async def some() -> None:
        for number in numbers:
            await group.propose(encode_command(Put(b"key/%012d" % number, value)))

    await asyncio.gather(*(some() for _ in range(in_flight)))
    return {"seconds": time.perf_counter() - began_s, "index": group.applied}


async def main() -> None:
    """Run the node until stdin ends."""
    began_s = time.perf_counter()
    async with Node(configuration(json.loads(sys.argv[1])), lambda _: KeyValueNode()) as node:
        started_s = time.perf_counter() - began_s
        orders.answer({"listens": True, "started_s": started_s})
        await orders.serve(Loaded(node).handle)


if __name__ == "__main__":
    orders.run(main)
