"""Datagrams promise nothing, and break that promise as the link says."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from mcpcore.sim import Delay, Link, World
from mcpcore.sim.entropy import stream


class Ear(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.heard.append(data)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)


def shout(link: Link, count: int = 200, size: int = 4, seed: int = 0) -> tuple[list[bytes], World]:
    ear = Ear()

    async def listen() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: ear, local_addr=("0.0.0.0", 9)
        )
        await asyncio.sleep(1e6)

    async def speak() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("ear", 9)
        )
        for number in range(count):
            transport.sendto(number.to_bytes(size, "big"))
            await asyncio.sleep(0.001)
        transport.close()

    with World(seed) as world:
        world.network.default = link
        world.host("ear", listen)
        world.run(1)
        world.host("mouth", speak)
        world.run(100)
        return ear.heard, world


def numbers(heard: list[bytes]) -> list[int]:
    return [int.from_bytes(data, "big") for data in heard]


def test_datagrams_arrive_over_a_good_link() -> None:
    heard, _ = shout(Link())
    assert numbers(heard) == list(range(200))


def test_datagrams_get_lost_doubled_and_reordered_as_the_link_says() -> None:
    assert 60 < len(shout(Link(loss=0.5))[0]) < 140
    doubled = numbers(shout(Link(duplicate=0.5))[0])
    assert 260 < len(doubled) < 340
    assert set(doubled) == set(range(200))
    mixed = numbers(shout(Link(reorder=0.5))[0])
    assert sorted(mixed) == list(range(200))
    assert mixed != sorted(mixed)


def test_no_packet_lives_longer_than_two_minutes() -> None:
    wild = Delay("pareto", 1, 1_000, 0.05)
    draw = stream(0, "test")
    assert max(wild.draw_ns(draw) for _ in range(100)) == 120_000_000_000


def test_losses_in_bursts_come_in_runs() -> None:
    def longest_gap(link: Link) -> int:
        got = [-1, *numbers(shout(link, 400)[0]), 400]
        return max(b - a - 1 for a, b in pairwise(got))

    assert longest_gap(Link(loss=0.05, burst=0.9)) > 2 * longest_gap(Link(loss=0.05))


def test_a_datagram_larger_than_the_hole_vanishes() -> None:
    assert shout(Link(mtu=100), 10, size=101)[0] == []
    assert len(shout(Link(mtu=100), 10, size=100)[0]) == 10


def test_a_full_queue_drops_what_comes_too_fast() -> None:
    heard, _ = shout(Link(bandwidth_bps=80_000, queue_bytes=1_000), 200, size=100)
    assert 20 < len(heard) < 100


def test_held_datagrams_arrive_after_the_release() -> None:
    ear = Ear()

    async def open_ear() -> asyncio.DatagramTransport:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: ear, local_addr=("0.0.0.0", 9)
        )
        return transport

    async def speak() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("0.0.0.0", 8)
        )
        transport.sendto(b"held", ("ear", 9))
        transport.close()

    with World() as world:
        world.call(world.host("ear"), open_ear())
        mouth = world.host("mouth")
        paths = world.network.between(["mouth"], ["ear"])
        world.network.hold(paths)
        world.call(mouth, speak())
        world.run(5)
        assert ear.heard == []
        world.network.release(paths)
        world.run(1)
        assert ear.heard == [b"held"]


def test_a_connected_endpoint_hears_that_nobody_listens() -> None:
    ear = Ear()

    async def main() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: ear, remote_addr=("b", 9)
        )
        transport.sendto(b"x")
        await asyncio.sleep(1)
        transport.close()

    with World() as world:
        world.host("b")
        world.call(world.host("a"), main())
    assert [type(error) for error in ear.errors] == [ConnectionRefusedError]
