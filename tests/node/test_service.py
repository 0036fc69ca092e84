"""What a node does for its clients: hostile ones, greedy ones, slow ones, and answers too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mcpcore.errors import (
    AnswerTooLarge,
    ConnectionLost,
    InvalidInput,
    OutcomeUnknown,
    Rejected,
    UnknownGroup,
)
from mcpcore.node import service
from mcpcore.node.group import Consistency
from mcpcore.node.kv.commands import Watch
from mcpcore.node.kv.commands import encode_request as encode_question
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.requests import Op, Status, decode_reply, encode_request
from mcpcore.node.transport.connection import Connection
from mcpcore.node.transport.dialing import connect_client
from mcpcore.node.transport.limits import Limits
from mcpcore.raft.settings import MILLISECOND, RaftSettings
from mcpcore.raft.types import EntryKind
from tests.node.local_cluster import SECURITY, LocalCluster, kv, until
from tests.node.test_group import Notes

SMALL = Limits(max_frame_bytes=20_000, max_queue_bytes=1 << 20, max_client_queue_bytes=1 << 20)
SHORT = RaftSettings(
    election_timeout_ns=500 * MILLISECOND,
    heartbeat_ns=100 * MILLISECOND,
    max_proposal_bytes=8_000,
    max_append_bytes=8_000,
)


class Echo(Notes):
    """Answers with as many bytes as it is asked for; its watches give what they are told to."""

    def apply(self, index: int, command: bytes) -> bytes:
        self.notes.append(command)
        return b"x" * int(command)

    def query(self, request: bytes) -> bytes:
        return b"x" * int(request)

    def watching(self, request: bytes, wake: Callable[[], None]) -> Stream:
        return Stream(int(request))


class Stream:
    """A watch of a hundred events of some size, and then no more; size 0: of one that raises."""

    def __init__(self, size: int) -> None:
        self.size, self.left, self.cancelled = size, 100, False

    def take(self) -> tuple[list[bytes], bool]:
        if not self.size:
            raise ZeroDivisionError("a bug of the machine")
        self.left -= 10
        return [b"e" * self.size] * 10, self.left == 0

    def cancel(self) -> None:
        self.cancelled = True


def single(tmp_path: Path, machine: Callable[[str], Any] = lambda group: Echo()) -> LocalCluster:
    return LocalCluster(tmp_path, "a", machine=machine, settings=SHORT, limits=SMALL)


def key_value(group: str) -> KeyValueNode:
    return KeyValueNode()


class Raw:
    """A client's connection without a client."""

    def __init__(self) -> None:
        self.replies: list[Any] = []

    async def connect(self, cluster: LocalCluster) -> Connection:
        return await connect_client(
            cluster.addresses["a"],
            SECURITY,
            cluster="test",
            name="raw",
            on_frame=lambda payload: self.replies.append(decode_reply(payload)),
        )

    async def has(self, count: int) -> None:
        await until(lambda: len(self.replies) >= count)


@pytest.mark.parametrize(
    "request_",
    [
        (1, {}, "main"),
        (1, [{}], "main"),
        (1, Op.PROPOSE, "main", 1),
        (-1, Op.STATUS, ""),
        (1, Op.QUERY, b"main", b"1", "stale"),
        "hello",
        {1: 2},
    ],
    ids=repr,
)
async def test_a_client_that_speaks_garbage_is_let_go_and_nobody_else_notices(
    tmp_path: Path, request_: object
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with single(tmp_path) as cluster, cluster.client() as client:
        raw = Raw()
        connection = await raw.connect(cluster)
        connection.send(msgpack.packb(request_))
        async with asyncio.timeout(5):
            parting = await connection.over
        assert parting.code == "malformed"
        assert (await client.propose(b"3")).result == b"xxx"
    assert complaints == []


async def test_clients_cannot_propose_what_only_the_protocol_may(tmp_path: Path) -> None:
    async with single(tmp_path) as cluster:
        await cluster.leader()
        raw = Raw()
        connection = await raw.connect(cluster)
        for number, kind in enumerate((EntryKind.NOOP, EntryKind.CONFIG, 99)):
            connection.send(encode_request(number, Op.PROPOSE, "main", int(kind), b""))
        await raw.has(3)
        assert {type(reply.body) for reply in raw.replies} == {InvalidInput}
        connection.close()


async def test_a_group_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    async with single(tmp_path) as cluster, cluster.client() as client:
        with pytest.raises(UnknownGroup, match="no group 'other' on a; known: main"):
            await client.query(b"1", group="other")


async def test_an_answer_longer_than_a_frame_is_refused_and_not_kept_back(tmp_path: Path) -> None:
    async with single(tmp_path) as cluster, cluster.client(timeout_s=2.0) as client:
        assert len((await client.query(b"19000")).answer) == 19_000
        async with asyncio.timeout(1):
            with pytest.raises(AnswerTooLarge, match="ask for less") as refused:
                await client.query(b"20000")
        assert refused.value.limit_bytes == 20_000


async def test_a_result_longer_than_a_frame_says_that_the_command_was_applied(
    tmp_path: Path,
) -> None:
    async with single(tmp_path) as cluster, cluster.client(timeout_s=2.0) as client:
        with pytest.raises(OutcomeUnknown, match="was applied at index"):
            await client.propose(b"30000")
        machine = cluster.group("a").state.machine
        assert isinstance(machine, Echo)
        assert machine.notes == [b"30000"], "sent again and again, and applied once"


async def test_a_request_over_which_the_node_fails_is_answered(tmp_path: Path) -> None:
    """`int(b"?")` raises in the machine: a bug, for which nobody should have to wait."""
    async with single(tmp_path) as cluster, cluster.client() as client:
        with pytest.raises(Rejected, match="ValueError"):
            await client.query(b"?")
        with pytest.raises(Rejected, match="ValueError"):
            await client.query(b"?", consistency=Consistency.STALE)


async def test_more_requests_than_one_client_may_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_REQUESTS_PER_CLIENT", 5)
    async with single(tmp_path) as cluster:
        await cluster.leader()
        raw = Raw()
        connection = await raw.connect(cluster)
        for number in range(8):
            connection.send(encode_request(number, Op.PROPOSE, "main", 1, b"1"))
        await raw.has(8)
        refused = [reply.number for reply in raw.replies if reply.status is Status.ERROR]
        assert refused == [5, 6, 7]
        connection.send(encode_request(9, Op.PROPOSE, "main", 1, b"1"))
        await raw.has(9)
        assert raw.replies[-1].status is Status.OK, "room is given back"
        connection.close()


async def test_nothing_is_kept_for_a_client_that_has_gone(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    async with cluster:
        leader = await cluster.leader()
        group = cluster.group(leader)
        for name in cluster.addresses:
            if name != leader:
                await cluster.nodes[name].stop()
        raw = Raw()
        connection = await connect_client(
            cluster.addresses[leader], SECURITY, cluster="test", name="raw"
        )
        connection.on_frame = raw.replies.append
        connection.send(encode_request(1, Op.PROPOSE, "main", 1, b"1"))
        await asyncio.sleep(0.1)
        (served,) = cluster.nodes[leader]._service._served
        (future,) = served._under_way
        connection.abort("gone")
        await until(future.done)
        assert future.cancelled()
        assert not served._under_way
        assert not cluster.nodes[leader]._service._served
        assert group.failure is None


# --- watches ----------------------------------------------------------------------------------


async def test_all_events_of_a_watch_arrive_and_then_its_end(tmp_path: Path) -> None:
    """Two megabytes through a queue that lets a client go at one: events wait for the client."""
    async with single(tmp_path) as cluster, cluster.client() as client:
        async with asyncio.timeout(10):
            events = [event async for event in client.watch(b"19000")]
        assert [len(event) for event in events] == [19_000] * 100


async def test_an_event_that_cannot_be_sent_ends_the_watch_and_is_not_left_out(
    tmp_path: Path,
) -> None:
    async with single(tmp_path) as cluster, cluster.client() as client:
        async with asyncio.timeout(5):
            with pytest.raises(InvalidInput, match="a payload of"):
                [event async for event in client.watch(b"20000")]


async def test_a_watch_of_a_machine_that_raises_ends_with_an_error(tmp_path: Path) -> None:
    async with single(tmp_path) as cluster, cluster.client() as client:
        async with asyncio.timeout(5):
            with pytest.raises(OutcomeUnknown, match="ZeroDivisionError"):
                [event async for event in client.watch(b"0")]


async def test_a_watch_that_was_given_up_is_given_up_at_the_node_too(tmp_path: Path) -> None:
    async with single(tmp_path, key_value) as cluster, cluster.client() as client:
        store, machine = kv(client), cluster.group("a").state.machine
        assert isinstance(machine, KeyValueNode)
        await store.put("k", "v")
        async for event in store.watch("k", after_revision=0):
            assert event.record.value == b"v"
            assert len(machine.watch) == 1
            break
        await until(lambda: not len(machine.watch))
        assert client._endpoints[0]._watches == {}


async def test_a_watch_ends_with_the_connection(tmp_path: Path) -> None:
    async with single(tmp_path, key_value) as cluster, cluster.client() as client:
        await kv(client).put("k", "v")
        listening = asyncio.ensure_future(anext(client.watch(encode_question(Watch(b"k")))))
        await asyncio.sleep(0.2)
        connection = client._endpoints[0]._connection
        assert connection is not None
        connection.abort("cut by the test")
        with pytest.raises(ConnectionLost, match="the watch ended"):
            await listening
