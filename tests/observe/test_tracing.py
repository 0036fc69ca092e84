"""One call is one trace: from the client over the leader to the followers, and only if asked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgpack
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from mcpcore.errors import InvalidInput
from mcpcore.node.client.client import Client
from mcpcore.node.client.endpoint import Endpoint
from mcpcore.node.notes import NOTES_PER_FRAME, Note, Traced
from mcpcore.node.requests import Op, decode_request, encode_request, encode_traced
from mcpcore.node.trails import FOLLOWED_PER_GROUP, Trails
from mcpcore.node.transport.identity import Role
from mcpcore.observe.tracing import OpenTelemetry, traceparent
from tests.node.local_cluster import SECURITY, LocalCluster, kv, until
from tests.observe.spans import Spans, child_of, events, told, traced_cluster

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_proposal_is_one_trace_from_the_client_over_the_leader_to_the_followers(
    tmp_path: Path,
) -> None:
    spans = Spans()
    async with traced_cluster(tmp_path, spans) as cluster:
        leader = await cluster.leader()
        async with cluster.client(tracing=spans.tracing) as client:
            await kv(client).put("warm", "up")
            tracer = spans.provider.get_tracer("program")
            with tracer.start_as_current_span("order"):
                applied = await client.propose(b"\x80")
            at = {"group": "main", "index": applied.index, "term": applied.term}
            commit = await spans.one("raft commit", node=leader, **at)
            follow = [
                await spans.one("raft follow", node=name, peer=leader, **at)
                for name in sorted(cluster.addresses.keys() - {leader})
            ]
    (order,) = (span for span in spans.all() if span.name == "order")
    asked = next(span for span in spans.named("propose") if child_of(span, order))
    answered = next(span for span in spans.named("propose") if child_of(span, asked))

    assert (asked.kind, answered.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert told(asked) == {"group": "main", "index": applied.index, "term": applied.term}
    assert told(answered)["index"] == applied.index
    assert told(answered)["node"] == leader
    assert child_of(commit, answered)
    assert events(commit)[-2:] == ["committed", "applied"]
    held = next(event for event in commit.events if event.name == "committed").attributes
    holders = held["mcpcore.held_by"].split(",")
    assert holders[0]  # a quorum is two of three
    for each in follow:
        assert child_of(each, commit)
        assert events(each)[-2:] == ["committed", "applied"]
        # Whoever is slow may hear that an entry is committed before its own disk is done.
        assert "stored" in events(each) or told(each)["node"] not in holders
        assert each.status.status_code is StatusCode.UNSET


async def test_a_query_is_a_span_at_the_client_and_one_at_the_node_that_answers(
    tmp_path: Path,
) -> None:
    spans = Spans()
    async with traced_cluster(tmp_path, spans) as cluster:
        async with cluster.client(tracing=spans.tracing) as client:
            await kv(client).put("k", "v")
            assert await kv(client).get("k") is not None
        asked, answered = spans.named("query")[-2:]
    assert child_of(answered, asked)
    assert "sent" in events(asked)
    assert spans.named("raft commit")
    assert not any(child_of(span, answered) for span in spans.all())


async def test_a_node_that_does_not_lead_tells_so_and_the_trace_goes_on_at_the_leader(
    tmp_path: Path,
) -> None:
    spans = Spans()
    async with traced_cluster(tmp_path, spans) as cluster:
        leader = await cluster.leader()
        others = [n for n in sorted(cluster.addresses) if n != leader]
        addresses = [cluster.addresses[name] for name in (others[0], leader)]
        async with Client(
            addresses, cluster="test", security=SECURITY, tracing=spans.tracing
        ) as client:
            for endpoint in client._endpoints:
                await endpoint.connect()
            client._preferred["main"] = client._endpoints[0]
            await client.propose(b"\x80")
    refused = [
        span for span in spans.named("propose") if span.status.status_code is StatusCode.ERROR
    ]
    assert refused
    assert {told(span)["node"] for span in refused} == {others[0]}
    assert {told(span)["error.type"] for span in refused} == {"NotLeader"}


async def test_what_is_not_sampled_is_recorded_nowhere(tmp_path: Path) -> None:
    """The decision travels: the nodes themselves would keep everything."""
    spans, off = Spans(), Spans(sampler=ParentBased(ALWAYS_OFF))
    async with (
        traced_cluster(tmp_path, spans) as cluster,
        cluster.client(tracing=off.tracing) as client,
    ):
        await kv(client).put("k", "v")
        await kv(client).get("k")
        await cluster.agree()
        assert [len(cluster.group(name).trail or ()) for name in cluster.addresses] == [0, 0, 0]
        assert spans.all() == off.all() == []


async def test_without_an_sdk_everything_works_and_nothing_is_recorded(tmp_path: Path) -> None:
    """The API alone: spans that are none."""

    class Nothing:
        tracing = OpenTelemetry(trace.NoOpTracerProvider())

    async with traced_cluster(tmp_path, Nothing()) as cluster:  # type: ignore[arg-type]
        async with cluster.client(tracing=Nothing.tracing) as client:
            await kv(client).put("k", "v")
            assert (await kv(client).get("k")).value == b"v"
        assert [len(cluster.group(name).trail or ()) for name in cluster.addresses] == [0, 0, 0]


async def test_clients_that_trace_and_nodes_that_do_not_understand_each_other(
    tmp_path: Path,
) -> None:
    """As during an upgrade: a node that traces nothing may be one that knows no traces."""
    spans = Spans()
    async with traced_cluster(tmp_path, spans, untraced="abc") as cluster:
        async with cluster.client(tracing=spans.tracing) as client:
            await kv(client).put("k", "v")
        assert all(cluster.group(name).trail is None for name in cluster.addresses)
    assert {span.kind for span in spans.all()} == {SpanKind.CLIENT}


async def test_followers_that_trace_nothing_skip_the_note(tmp_path: Path) -> None:
    spans = Spans()
    async with traced_cluster(tmp_path, spans, untraced="a") as cluster:
        async with cluster.client(tracing=spans.tracing) as client:
            await kv(client).put("k", "v")
        await cluster.agree()
        links = {
            name: [stats.session for stats in node.parts.transport.stats().values()]
            for name, node in cluster.nodes.items()
        }
    assert all(count == 1 for each in links.values() for count in each), links


@pytest.mark.parametrize(
    "bad",
    ["", "no trace", PARENT[:-1], "00-" + "0" * 32 + PARENT[35:], PARENT.upper(), "ff" + PARENT[2:],
     PARENT + "-more", "01" + PARENT[2:] + "x" * 200, "\ud800".encode("utf-8", "replace").decode()],
)  # fmt: skip
async def test_a_bad_traceparent_from_the_network_is_ignored(tmp_path: Path, bad: str) -> None:
    assert decode_request(encode_traced(bad, 7, Op.STATUS, "")).traceparent == ""

    spans = Spans()
    cluster = LocalCluster(tmp_path, "a")
    node = await cluster.start("a", tracing=spans.tracing)
    try:
        await cluster.leader()
        node.parts.arrivals._trails.heard("a", Traced("main", 1, 10**6, bad))
        assert len(cluster.group("a").trail or ()) == 0
    finally:
        await node.stop()


@pytest.mark.parametrize("known", [PARENT, "01" + PARENT[2:], "cc" + PARENT[2:] + "-more"])
def test_a_traceparent_of_this_and_of_later_versions_is_read(known: str) -> None:
    """W3C Trace Context, section 3.2.4, "Versioning of traceparent"."""
    assert decode_request(encode_traced(known, 7, Op.QUERY, "main", b"q", "lease")) == (
        *decode_request(encode_request(7, Op.QUERY, "main", b"q", "lease"))[:4],
        known,
    )


@pytest.mark.parametrize(
    "row",
    [
        (1, 61, "main"),
        (1, 61, "main", PARENT),
        (1, 61, "main", 7, 3),
        (1, 61, "main", PARENT, 61, PARENT, 3),
        (1, 61, "main", PARENT, 1, 2),
        (1, 61, 5, PARENT, 3),
    ],
)
def test_a_traced_request_that_makes_no_sense_is_invalid_input(row: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInput):
        decode_request(msgpack.packb(row))


async def test_entries_that_never_come_are_let_go_of_and_strangers_are_not_heard(
    tmp_path: Path,
) -> None:
    spans = Spans()
    cluster = LocalCluster(tmp_path, "a")
    node = await cluster.start("a", tracing=spans.tracing)
    try:
        await cluster.leader()
        trail = cluster.group("a").trail
        assert trail is not None
        await until(lambda: cluster.group("a").applied > 0)
        trail.heard("stranger", Traced("main", 9, 1000, PARENT))
        assert len(trail) == 0
        for index in range(1000, 1000 + 2 * FOLLOWED_PER_GROUP):
            trail.heard("a", Traced("main", 9, index, PARENT))
        assert len(trail) == FOLLOWED_PER_GROUP
        assert len(spans.named("raft follow")) == FOLLOWED_PER_GROUP
        trail.heard("a", Traced("main", 9, 1, PARENT))  # applied long ago
        assert len(trail) == FOLLOWED_PER_GROUP
    finally:
        await node.stop()
    follow = spans.named("raft follow")
    assert len(follow) == 2 * FOLLOWED_PER_GROUP
    assert {span.status.status_code for span in follow} == {StatusCode.ERROR}


async def test_notes_of_a_loop_turn_leave_in_one_frame_that_anything_else_may_displace() -> None:
    told: list[tuple[str, int, bool]] = []

    def tell(peer: str, notes: Sequence[Note], *, droppable: bool) -> None:
        told.append((peer, len(notes), droppable))

    trails = Trails("a", Spans().tracing, tell, lambda name: None)
    for index in range(1, 1000):
        trails.tell(["b", "c"], Traced("main", 1, index, PARENT))
    await asyncio.sleep(0)
    trails.tell(["b"], Traced("main", 1, 1000, PARENT))
    await asyncio.sleep(0)

    assert told == [("b", NOTES_PER_FRAME, True), ("c", NOTES_PER_FRAME, True), ("b", 1, True)]


async def test_an_entry_of_another_term_in_its_place_ends_a_trail_as_failed(tmp_path: Path) -> None:
    spans = Spans()
    cluster = LocalCluster(tmp_path, "a")
    node = await cluster.start("a", tracing=spans.tracing)
    try:
        await cluster.leader()
        trail = cluster.group("a").trail
        assert trail is not None
        following = node.group("main").applied + 1
        trail.heard("a", Traced("main", 77, following, PARENT))
        await node.group("main").propose(b"\x80")
        await until(lambda: len(trail) == 0)
    finally:
        await node.stop()
    (span,) = spans.named("raft follow")
    assert span.status.status_code is StatusCode.ERROR
    assert "stands in its place" in (span.status.description or "")


async def test_a_client_that_hangs_up_leaves_no_span_open(tmp_path: Path) -> None:
    spans = Spans()
    cluster = LocalCluster(tmp_path, "abc")
    node = await cluster.start("a", tracing=spans.tracing)  # alone: there is no quorum
    try:
        endpoint = Endpoint(
            cluster.addresses["a"], SECURITY, cluster="test", name="x", role=Role.CLIENT
        )
        node.group("main").raft.state.leader = "b"  # so that it waits for an answer from there
        asking = asyncio.create_task(endpoint.call(Op.QUERY, "main", b"", "linearizable"))
        served = node._service
        await until(lambda: any(each._spans for each in served._served) or bool(spans.all()))
        await endpoint.close()
        await asyncio.wait([asking])
        asking.exception()
        span = await spans.one("query")
    finally:
        await node.stop()
    assert span.status.status_code is StatusCode.ERROR


def test_nothing_of_opentelemetry_is_imported_by_nodes_and_clients() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import mcpcore.node.node, mcpcore.node.client.client, sys;"
         "sys.exit('opentelemetry' in sys.modules)"],
        check=False,
    )  # fmt: skip
    assert found.returncode == 0


def test_what_is_current_can_be_handed_on() -> None:
    spans = Spans()
    assert traceparent() == ""
    with spans.provider.get_tracer("t").start_as_current_span("x") as span:
        assert f"{span.get_span_context().trace_id:032x}" in traceparent()
