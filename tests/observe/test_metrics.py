"""What a node tells over HTTP, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcpcore.errors import InvalidInput
from mcpcore.node.node import Node
from mcpcore.node.transport.addresses import Address
from mcpcore.observe.endpoint import HttpServer, application
from mcpcore.observe.node_metrics import GROUPS_LABELLED
from tests.node.local_cluster import LocalCluster, kv

LOOPBACK = Address("127.0.0.1", 0)


async def get(node: Node, path: str, **options: Any) -> httpx.Response:
    page = HttpServer(application(node, **options), LOOPBACK)
    await page.start()
    try:
        async with httpx.AsyncClient(trust_env=False) as browser:
            return await browser.get(f"http://{page.address}{path}")
    finally:
        await page.close()


async def samples(node: Node, **options: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    response = await get(node, "/metrics", **options)
    assert response.status_code == 200
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_a_leader_and_its_followers_tell_who_leads_and_how_far_everybody_is(
    tmp_path: Path,
) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        for number in range(5):
            await kv(client).put(f"k{number}", "v")
        found = {name: await samples(node) for name, node in cluster.nodes.items()}
        leaders = [
            name for name, each in found.items() if each["mcpcore_raft_is_leader", ("main",)]
        ]
        assert len(leaders) == 1
        told = found[leaders[0]]
        assert told["mcpcore_raft_groups", ("leader",)] == 1
        assert told["mcpcore_raft_groups_leaderless", ()] == 0
        verdicts = {labels[0]: v for (n, labels), v in told.items() if "verdict_groups" in n}
        assert len(verdicts) == 6
        assert sum(verdicts.values()) == 1  # which one depends on how young the group is
        assert not verdicts["split"]
        assert told["mcpcore_raft_applied_index", ("main",)] >= 6
        assert told["mcpcore_raft_proposal_seconds_count", ()] >= 1
        assert told["mcpcore_storage_sync_seconds_count", ()] >= 5
        assert (
            told["mcpcore_storage_sync_seconds_bucket", ("+Inf",)]
            == told["mcpcore_storage_sync_seconds_count", ()]
        )
        lag = [v for (n, _), v in told.items() if n == "mcpcore_raft_follower_lag_entries"]
        assert len(lag) == 2
        assert all(0 <= each <= 5 for each in lag)
        assert sum(v for (n, _), v in told.items() if n == "mcpcore_peer_connected") == 2


async def test_buckets_never_fall_and_counts_never_go_back(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        node = next(iter(cluster.nodes.values()))
        before = await samples(node)
        await kv(client).put("a", "b")
        after = await samples(node)
        for (name, labels), value in after.items():
            if name.endswith(("_total", "_bucket", "_count")):
                assert value >= before.get((name, labels), 0), name
        buckets = [v for (n, _), v in after.items() if n == "mcpcore_storage_sync_seconds_bucket"]
        assert buckets == sorted(buckets)


async def test_thousands_of_groups_make_no_thousands_of_lines(tmp_path: Path) -> None:
    names = tuple(f"g{number:03}" for number in range(GROUPS_LABELLED + 8))
    async with LocalCluster(tmp_path, groups=names) as cluster:
        node = next(iter(cluster.nodes.values()))
        every = await samples(node)
        assert sum(v for (n, _), v in every.items() if n == "mcpcore_raft_groups") == len(names)
        assert not [labels for n, labels in every if n == "mcpcore_raft_term"]
        some = await samples(node, groups=("g003", "g005"))
        terms = [labels for n, labels in some if n == "mcpcore_raft_term"]
        assert terms == [("g003",), ("g005",)]


async def test_what_clients_were_refused_is_counted_by_the_name_of_the_error(
    tmp_path: Path,
) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        await kv(client).put("a", "b")
        with pytest.raises(InvalidInput):
            await kv(client, "nosuch").get("a")
        counted = [await samples(node) for node in cluster.nodes.values()]
        refused = [
            labels
            for each in counted
            for n, labels in each
            if n == "mcpcore_requests_refused_total"
        ]
        assert ("UnknownGroup",) in refused


async def test_a_node_without_a_leader_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster:
        name, node = next(iter(cluster.nodes.items()))
        async with asyncio.timeout(20):
            while not node.group("main").raft.leader:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await get(node, "/readyz")).status_code == 200
        for other in list(cluster.nodes):
            if other != name:
                await cluster.nodes[other].stop()
        async with asyncio.timeout(30):
            while (answer := await get(node, "/readyz")).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert answer.status_code == 503
        assert answer.json() == {"ok": False, "reasons": ["group main: no leader is known"]}
        assert (await get(node, "/healthz")).json() == {"ok": True, "reasons": []}
        await node.stop()


async def test_an_address_that_is_taken_is_refused_with_a_remedy(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster:
        node = next(iter(cluster.nodes.values()))
        first = HttpServer(application(node), LOOPBACK)
        await first.start()
        with pytest.raises(InvalidInput, match=r"cannot listen there.*Choose another port"):
            await HttpServer(application(node), first.address).start()
        await first.close()
