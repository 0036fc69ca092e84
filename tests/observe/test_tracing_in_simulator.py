"""Traces of what becomes of entries when the network is cut: on real nodes in virtual time."""

from __future__ import annotations

from opentelemetry.trace import StatusCode

from mcpcore.node.kv.commands import Put, encode_command
from mcpcore.sim import World
from tests.node.simulated_cluster import SimulatedCluster
from tests.observe.spans import Spans, told


def test_an_entry_that_a_cut_off_leader_appended_in_vain_ends_its_span_as_failed() -> None:
    spans = Spans()
    with World(seed=11) as world:
        cluster = SimulatedCluster(world, tracing=spans.tracing)
        world.run_until(lambda: bool(cluster.leader()), within_s=30)
        old = cluster.leader()

        async def propose(name: str, key: bytes) -> None:
            group = cluster.nodes[name].group("main")
            with spans.provider.get_tracer("program").start_as_current_span(key.decode()):
                group.propose(encode_command(Put(key, b"v"))).add_done_callback(
                    lambda done: done.cancelled() or done.exception()
                )

        world.call(old, propose(old, b"before"))
        world.run_until(lambda: len(spans.named("raft follow")) == 2, within_s=10)
        world.network.isolate(old)
        world.call(old, propose(old, b"in vain"))
        world.run_until(lambda: cluster.leader() not in ("", old), within_s=60)
        new = cluster.leader()
        world.call(new, propose(new, b"after"))
        world.run(5)
        open_at_old = len(cluster.nodes[old].group("main").trail or ())
        world.network.repair()
        world.run_until(cluster.agreed, within_s=60)
        world.run(1)
        left = [len(cluster.nodes[name].group("main").trail or ()) for name in cluster.names]

    assert open_at_old == 1, "its fate is not known while the cut lasts"
    assert left == [0, 0, 0]
    before, vain, after = spans.named("raft commit")
    assert (told(before)["node"], told(vain)["node"], told(after)["node"]) == (old, old, new)
    assert [each.status.status_code for each in (before, vain, after)] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert "place" in (vain.status.description or "")
