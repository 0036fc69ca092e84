"""The networks between namespaces, with sockets of the test's own on them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mcpcore.experiment.netns.bridge import Bridge
from mcpcore.experiment.netns.joints import PEER_PORT, Joint
from mcpcore.experiment.netns.network import NamespaceNetwork
from mcpcore.experiment.netns.wide_area import WideArea
from mcpcore.experiment.network import Isolation, Pair
from mcpcore.experiment.networks import obstacle
from mcpcore.experiment.shaper import Shaper
from mcpcore.sim.delay import Delay, Link
from tests.experiment.three_namespaces import skip_unless

pytestmark = pytest.mark.processes

BOTH: tuple[Pair, ...] = (("a", "b"), ("b", "a"))


def wide(**fields: object) -> WideArea:
    link = Link(**{"delay": Delay("constant", 0.0), **fields})  # type: ignore[arg-type]
    return WideArea(dict.fromkeys(BOTH, link), seed=5)


@asynccontextmanager
async def network(joint: Joint) -> AsyncIterator[NamespaceNetwork]:
    await skip_unless(Isolation.TUN)
    async with Shaper({}) as shaper:
        made = NamespaceNetwork(joint, shaper)
        await made.open(("a", "b"))
        try:
            yield made
        finally:
            await made.close()


async def connected(made: NamespaceNetwork) -> tuple[socket.socket, socket.socket, float]:
    """A TCP connection from a to b's peer port, and the seconds it took to make."""
    loop = asyncio.get_running_loop()
    with await made.namespaces["b"].socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((made.hosts["b"], PEER_PORT))
        server.listen()
        caller = await made.namespaces["a"].socket()
        began_s = time.monotonic()
        await asyncio.wait_for(loop.sock_connect(caller, (made.hosts["b"], PEER_PORT)), 20)
        took_s = time.monotonic() - began_s
        called, _ = await loop.sock_accept(server)
    called.setblocking(False)
    return caller, called, took_s


async def send(made: NamespaceNetwork, size_bytes: int) -> float:
    """Send so much from a to b, and return how long it took to arrive."""
    loop = asyncio.get_running_loop()
    caller, called, _ = await connected(made)
    with caller, called:
        began_s = time.monotonic()
        sending = asyncio.create_task(loop.sock_sendall(caller, bytes(size_bytes)))
        left = size_bytes
        while left:
            left -= len(await asyncio.wait_for(loop.sock_recv(called, 65_536), 30))
        await sending
        return time.monotonic() - began_s


async def test_the_switch_delays_every_packet() -> None:
    async with network(wide(delay=Delay("uniform", 30.0, 5.0))) as made:
        caller, called, took_s = await connected(made)
        with caller, called:
            assert 0.060 <= took_s < 1.0, "there and back"


async def test_the_switch_loses_duplicates_and_reorders_and_tcp_copes() -> None:
    joint = wide(loss=0.05, duplicate=0.1, reorder=0.1, reorder_ms=3.0)
    async with network(joint) as made:
        await send(made, 500_000)
        for what in ("lost", "duplicated", "reordered"):
            assert await joint.counted(BOTH, what) > 0


async def test_a_narrow_link_is_narrow_while_it_is_bent_and_no_longer() -> None:
    async with network(wide()) as made:
        bend = await made.bend(BOTH, {"bandwidth_bps": 4_000_000})
        assert bend is not None
        narrow_s = await send(made, 500_000)
        assert narrow_s >= 0.9, "a second for 4 million bits"
        assert await bend.effects() > 300
        await bend.lift()
        assert await send(made, 500_000) < narrow_s / 2


async def test_bends_add_up_and_come_off_in_any_order() -> None:
    async with network(wide()) as made:
        first = await made.bend(BOTH, {"extra_ms": 40.0})
        second = await made.bend(BOTH, {"extra_ms": 20.0})
        assert first is not None
        assert second is not None
        caller, called, took_s = await connected(made)
        assert took_s >= 0.120
        caller.close(), called.close()
        await first.lift()
        await first.lift()
        caller, called, took_s = await connected(made)
        assert 0.040 <= took_s < 0.120
        caller.close(), called.close()


async def test_packets_above_the_mtu_vanish_and_are_counted() -> None:
    async with network(wide()) as made:
        caller, called, _ = await connected(made)
        with caller, called:
            bend = await made.bend(BOTH, {"mtu": 600})
            assert bend is not None
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(caller, bytes(100))
            assert len(await asyncio.wait_for(loop.sock_recv(called, 1000), 5)) == 100
            await loop.sock_sendall(caller, bytes(1000))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(called, 1000), 0.5)
            assert await bend.effects() > 0


@pytest.mark.parametrize("joint", [Bridge({}), wide()], ids=["bridge", "switch"])
async def test_cuts_add_up_count_and_come_off(joint: Joint) -> None:
    async with network(joint) as made:
        caller, called, _ = await connected(made)
        loop = asyncio.get_running_loop()
        with caller, called:
            first = await made.cut([("a", "b")])
            second = await made.cut(BOTH)
            await loop.sock_sendall(caller, b"held")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(called, 10), 0.5)
            await second.lift()
            assert await second.effects() > 0
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(called, 10), 0.3)
            await first.lift()
            assert await asyncio.wait_for(loop.sock_recv(called, 10), 10) == b"held"
            assert await first.effects() >= await second.effects()


@pytest.mark.parametrize("joint", [Bridge({}), wide()], ids=["bridge", "switch"])
async def test_a_reset_breaks_connections_and_no_more(joint: Joint) -> None:
    async with network(joint) as made:
        caller, called, _ = await connected(made)
        loop = asyncio.get_running_loop()
        with caller, called:
            resetting = asyncio.create_task(made.reset(BOTH))
            await asyncio.sleep(0.3)
            await loop.sock_sendall(caller, b"x")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(loop.sock_recv(caller, 10), 5)
            assert await resetting > 0
        caller, called, _ = await connected(made)
        caller.close(), called.close()


async def test_a_bridge_loses_by_statistic_from_the_beginning_and_on_demand() -> None:
    joint = Bridge({("a", "b"): 0.1})
    async with network(joint) as made:
        bend = await made.bend((("b", "a"),), {"loss": 0.2})
        assert bend is not None
        await send(made, 100_000)
        assert await bend.effects() > 0
        await bend.lift()
        saved = await made.namespaces["b"].run("iptables-save")
        assert "--probability 0.10000000009" in saved, "what the scenario says of the link stays"
        assert "DROP" not in await made.namespaces["a"].run("iptables-save")


async def test_a_bridge_says_what_it_cannot_do() -> None:
    async with network(Bridge({})) as made:
        assert await made.bend(BOTH, {"extra_ms": 10.0}) is None
        assert await made.bend(BOTH, {"loss": 0.1, "burst": 0.8}) is None


async def test_an_obstacle_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await obstacle(Isolation.LOOPBACK) == ""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert await obstacle(Isolation.TUN) == "network namespaces need root"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "ip, iptables, iptables-restore" in await obstacle(Isolation.NETNS)


def test_isolation_of_simulated_nodes_is_refused_in_words() -> None:
    command = ("mcpcore.ctl", "experiment", "run", "bridge", "--isolation", "netns")
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "mcpctl: --isolation: only processes are kept apart. Add --world processes\n"
    )
