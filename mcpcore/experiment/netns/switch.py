"""The switch between namespaces, as a process: packets in from one TUN device, out at another.

This module exists so that real TCP meets delay, jitter, loss, duplication, reordering and narrow
links on a kernel that has no netem. It is a process of its own, since the experiment's own work
would otherwise show up as jitter. It decides nothing: see `mcpcore.experiment.netns.crossing`.

Usage: python -m mcpcore.experiment.netns.switch CHANNEL-FD SEED NAME=HOST=TUN-FD...

The channel speaks like that of `holder.py`. Errands: ``link`` (sets what some directions are like)
and ``counts``.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from mcpcore.errors import InvalidInput
from mcpcore.experiment.netns.crossing import Crossing
from mcpcore.sim.delay import Delay, Link

_PACKET_BYTES_MAX: Final = 65_536
_MESSAGE_BYTES_MAX: Final = 1 << 20
_UNDER_WAY_MAX: Final = 100_000
"""Packets; beyond it, what enters is lost, and counted."""

_PERFECT: Final = Link(delay=Delay("constant", 0.0))
_BATCH: Final = 64
"""Packets read from one device before others get a turn."""


class Switch:
    """Joins devices by the address of the packets' destinations (IPv4).

    Args:
        devices: descriptor of each node's TUN device, non-blocking.
        hosts: address of each node.
        seed: of every direction's chances.
    """

    def __init__(self, devices: Mapping[str, int], hosts: Mapping[str, str], seed: int) -> None:
        self.turned_away = 0
        """Packets that found too many under way, or for which there was no direction."""
        self._fds = {socket.inet_aton(hosts[name]): fd for name, fd in devices.items()}
        self._crossings = {
            (a, b): Crossing(_PERFECT, random.Random(f"{seed}:{a}>{b}"))
            for a in devices
            for b in devices
            if a != b
        }
        at = {name: socket.inet_aton(host) for name, host in hosts.items()}
        self._by_address = {
            (at[a], at[b]): crossing for (a, b), crossing in self._crossings.items()
        }
        self._under_way: list[tuple[int, int, int, bytes]] = []
        self._entered = 0

    def link(self, pairs: list[tuple[str, str]], fields: Mapping[str, Any]) -> None:
        """Say what some directions are like from now on.

        Raises:
            InvalidInput: the fields make no link.
        """
        link = Link.from_mapping(fields)
        for a, b in pairs:
            self._crossings[a, b].link = link

    def counts(self) -> list[tuple[str, str, dict[str, int]]]:
        """What every direction has done so far."""
        return [(a, b, asdict(each.counts)) for (a, b), each in self._crossings.items()]

    def take_in(self, fd: int, now_ns: int) -> None:
        """Read what a device has, and decide when each packet comes out."""
        for _ in range(_BATCH):
            try:
                packet = os.read(fd, _PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            source, target = packet[12:16], packet[16:20]
            crossing = self._by_address.get((source, target))
            if crossing is None or len(self._under_way) >= _UNDER_WAY_MAX:
                self.turned_away += 1  # IPv6 multicast of a new device, for one
                continue
            for due_ns in crossing.enter(now_ns, len(packet)):
                self._entered += 1
                entry = (due_ns, self._entered, self._fds[target], packet)
                heapq.heappush(self._under_way, entry)

    def give_out(self, now_ns: int) -> int | None:
        """Write what is due; return when the next packet is, if any is under way."""
        under_way = self._under_way
        while under_way and under_way[0][0] <= now_ns:
            _, _, fd, packet = heapq.heappop(under_way)
            try:
                os.write(fd, packet)
            except OSError:  # the device is down or its queue is full: a lost packet
                self.turned_away += 1
        return under_way[0][0] if under_way else None


def serve(switch: Switch, devices: list[int], channel: socket.socket) -> None:
    """Carry packets and run errands until the channel is closed."""
    watched: list[Any] = [channel, *devices]
    while True:
        due_ns = switch.give_out(time.monotonic_ns())
        wait_s = None if due_ns is None else max(0, due_ns - time.monotonic_ns()) / 1e9
        ready, _, _ = select.select(watched, (), (), wait_s)
        now_ns = time.monotonic_ns()
        for each in ready:
            if each is not channel:
                switch.take_in(each, now_ns)
            elif not _run_errand(switch, channel):
                return


def _run_errand(switch: Switch, channel: socket.socket) -> bool:
    message = channel.recv(_MESSAGE_BYTES_MAX)
    if not message:
        return False
    errand = json.loads(message)
    answer: dict[str, Any] = {"ok": True}
    if errand["do"] == "link":
        try:
            switch.link([(a, b) for a, b in errand["pairs"]], errand["fields"])
        except InvalidInput as error:
            answer = {"ok": False, "why": str(error)}
    else:
        answer["counts"] = switch.counts()
        answer["turned_away"] = switch.turned_away
    channel.send(json.dumps(answer).encode())
    return True


def main() -> None:
    """Read the arguments, say that we are ready, and serve."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    devices: dict[str, int] = {}
    hosts: dict[str, str] = {}
    for argument in sys.argv[3:]:
        name, host, fd = argument.split("=")
        devices[name], hosts[name] = int(fd), host
    channel.send(json.dumps({"ok": True}).encode())
    serve(Switch(devices, hosts, int(sys.argv[2])), list(devices.values()), channel)


if __name__ == "__main__":
    main()
