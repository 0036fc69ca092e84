"""Two versions of the protocol together, through an upgrade of all nodes one by one, under load."""

from __future__ import annotations

import random
from pathlib import Path

import msgpack
import pytest

from mcpcore.errors import ChangeRefused, InvalidInput
from mcpcore.node.transport.handshake import SPOKEN, Versions
from mcpcore.sim import World
from tests.node.local_cluster import LocalCluster, kv, until
from tests.node.membership_world import Town, Writer

OLD = Versions(1, 1)


def test_all_nodes_are_upgraded_one_by_one_under_load_and_nothing_is_lost() -> None:
    with World(seed=1) as world:
        town = Town(world, versions=dict.fromkeys("abc", OLD), newcomers="d")
        writer = Writer(town)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        for name in "abc":
            world.run(2)
            with pytest.raises(ChangeRefused, match="Upgrade every member first"):
                town.change(town.newcomer("d"))
            town.hosts[name].crash()
            world.run(0.5)
            del town.versions[name]
            town.hosts[name].restart()
            world.run_until(lambda: bool(town.leader()) and town.voters() == "abc", within_s=30)
        world.run(3)
        town.add("d")  # what needs all members at the new version works from now on
        world.run_until(
            lambda: all(
                town.nodes[n].group("main").applying.watch.newest is not None for n in "abcd"
            ),
            within_s=30,
        )
        writer.finish()


def test_nodes_of_the_old_version_are_sent_nothing_that_they_would_not_understand() -> None:
    with World(seed=2) as world:
        town = Town(world, versions={"a": OLD})
        sent: list[int] = []
        writer = Writer(town)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        old = town.nodes["a"]
        hear = old.on_frame

        def listen(peer: str, session: int, payload: bytes) -> None:
            sent.append(len(msgpack.unpackb(payload)))
            hear(peer, session, payload)

        for link in old.parts.transport._links.values():
            assert link.connection is not None
            link.connection.on_frame = lambda payload, link=link: listen(link.name, 1, payload)
        world.run(6)
        assert sent
        assert set(sent) == {2}, "readings of time and messages, no notes"
        writer.finish()


async def test_on_real_sockets_too_a_mixed_cluster_serves_and_is_upgraded(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    cluster.versions = dict.fromkeys("abc", OLD)
    async with cluster, cluster.client() as client:
        store = kv(client)
        await store.put("begun", "with the old")
        for name in "abc":
            await cluster.nodes[name].stop()
            del cluster.versions[name]
            await cluster.start(name, rng=random.Random(f"{name}, upgraded"))  # another life
            await cluster.leader()
            await store.put(f"upgraded/{name}", "yes")
        await cluster.agree()

        def spoken() -> set[int]:
            statuses = [node.status() for node in cluster.nodes.values()]
            return {peer["version"] for status in statuses for peer in status["peers"].values()}

        await until(lambda: spoken() == {SPOKEN.newest})
        assert [record.key async for record in store.scan("upgraded/")] == [
            b"upgraded/a", b"upgraded/b", b"upgraded/c",
        ]  # fmt: skip


async def test_a_node_that_is_pinned_to_what_this_release_does_not_speak_is_refused(
    tmp_path: Path,
) -> None:
    cluster = LocalCluster(tmp_path)
    cluster.versions = {"a": Versions(1, 9)}
    with pytest.raises(InvalidInput, match="this release speaks protocol versions 1 to 2"):
        cluster.config("a")


async def test_without_a_version_in_common_both_sides_say_which_one_is_to_be_upgraded(
    tmp_path: Path,
) -> None:
    cluster = LocalCluster(tmp_path, "ab")
    cluster.versions = {"a": OLD, "b": Versions(2, 2)}
    async with cluster:

        def told(name: str, peer: str) -> str:
            return str(cluster.nodes[name].status()["peers"][peer]["problem"])

        words = "upgrade the older one step by step"
        await until(lambda: words in told("a", "b"))
        assert "versions 1 to 1" in told("a", "b")
        assert "2 to 2" in told("a", "b")
