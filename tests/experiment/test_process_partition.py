"""The articles' test: real nodes, cut off at the peer port by iptables."""

from __future__ import annotations

import pytest

from mcpcore.experiment.process_cluster import ProcessCluster
from mcpcore.node.kv.client import KeyValueClient
from tests.experiment.three_namespaces import three_namespaces, until

__all__ = ["three_namespaces"]

pytestmark = pytest.mark.processes


async def test_a_leader_cut_off_at_the_peer_port_loses_office_and_the_others_elect(
    three_namespaces: ProcessCluster,
) -> None:
    cluster = three_namespaces
    old = await cluster.leader()
    others = [name for name in cluster.nodes if name != old]
    client = await cluster.client(None)
    store = KeyValueClient(client)
    await store.put("before", "1")

    cut = await cluster.isolate(old)
    seen = await until(
        cluster,
        lambda found: (
            found[old]["role"] != "leader"
            and found[others[0]]["leader"] == found[others[1]]["leader"] in others
        ),
        "the old leader resigns and the others follow one of their own",
    )
    assert seen[others[0]]["term"] > seen[old]["term"] or seen[old]["leader"] != old
    await store.put("during", "2")
    await until(
        cluster,
        lambda found: (
            found[old]["verdict"]["state"] == "read_only"
            and all(found[name]["verdict"]["state"] == "healthy" for name in others)
        ),
        "the side without a quorum says that it is read-only, the other that all is well",
    )
    assert await cut.effects() > 0, "iptables dropped nothing"

    await cluster.heal()
    counted = await cut.effects()
    await until(
        cluster,
        lambda found: (
            len({(each["term"], each["leader"]) for each in found.values()}) == 1
            and len({each["applied"] for each in found.values()}) == 1
            and {each["verdict"]["state"] for each in found.values()} == {"healthy"}
            and len(found) == 3
        ),
        "all three agree again",
    )
    assert await cut.effects() == counted, "a lifted cut counts no more"
    await client.close()


async def test_what_is_cut_one_way_is_counted_on_that_way_only(
    three_namespaces: ProcessCluster,
) -> None:
    cluster = three_namespaces
    leader = await cluster.leader()
    deaf = next(name for name in cluster.nodes if name != leader)
    cut = await cluster.cut(leader, deaf, one_way=True)
    await until(cluster, lambda found: found[deaf]["leader"] != leader, "it misses its leader")
    rules = await cluster.network.namespaces[deaf].run("iptables-save")
    assert rules.count("-j DROP") == 2
    for name in (leader, *(n for n in cluster.nodes if n not in (leader, deaf))):
        rules = await cluster.network.namespaces[name].run("iptables-save")
        assert "DROP" not in rules
    assert await cut.effects() > 0
    await cluster.heal()
    rules = await cluster.network.namespaces[deaf].run("iptables-save")
    assert "DROP" not in rules, "the cut was not taken away"
