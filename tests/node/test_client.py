"""The client's promise: a result, "nothing happened" or "nobody knows", and never the wrong one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import (
    ClusterUnavailable,
    ConnectionLost,
    CoordinationError,
    HandshakeRefused,
    InvalidInput,
    NotLeader,
    OutcomeUnknown,
    ProposalTooLarge,
    QueueFull,
    Rejected,
    Superseded,
    UnknownGroup,
    Unreachable,
    WatchOverrun,
)
from mcpcore.node.client.attempts import Attempts
from mcpcore.node.client.client import Client
from mcpcore.node.client.event_buffer import EventBuffer
from mcpcore.node.client.sequences import WINDOW
from mcpcore.node.requests import Op
from mcpcore.raft.sessions import SessionAnswer, SessionTable
from mcpcore.raft.types import EntryKind
from tests.node.local_cluster import SECURITY, LocalCluster, kv

Step = Callable[["Cluster", bytes], Any]
"""What one node does with one proposal: commits it or not, answers or raises."""


class Cluster:
    """A log and its sessions, and nodes that follow a script instead of Raft."""

    def __init__(self, *scripts: list[Step]) -> None:
        self.log: list[bytes] = []
        self.sessions = SessionTable()
        self.applied: list[bytes] = []
        self.client = Client(
            [f"127.0.0.1:{port}" for port in range(1, len(scripts) + 1)],
            cluster="test",
            security=SECURITY,
            timeout_s=2.0,
            attempt_s=0.05,
            rng=random.Random(1),
        )
        for number, (endpoint, script) in enumerate(
            zip(self.client._endpoints, scripts, strict=True)
        ):
            endpoint.node = "abc"[number]
            node = _Scripted(self, script)
            endpoint.connect = node.connect  # type: ignore[method-assign,assignment]
            endpoint.call = node.call  # type: ignore[method-assign,assignment]
        self.client._preferred["main"] = self.client._endpoints[0]

    def commit(self, data: bytes) -> tuple[int, int, bytes]:
        self.log.append(data)

        def apply(index: int, command: bytes) -> bytes:
            self.applied.append(command)
            return b"done"

        return 1, len(self.log), self.sessions.apply(len(self.log), data, apply)


class _Scripted:
    def __init__(self, cluster: Cluster, script: list[Step]) -> None:
        self.cluster, self.script = cluster, script

    async def connect(self) -> None:
        if self.script and self.script[0] in (refuses, hangs):
            await self.script.pop(0)(self.cluster, b"")

    async def call(self, op: Op, group: str, kind: int, data: bytes) -> Any:
        assert (op, kind) == (Op.PROPOSE, EntryKind.SESSION)
        if data == b"\x00" or not self.script:
            return self.cluster.commit(data)  # a registration, or the script is over
        answer = self.script.pop(0)(self.cluster, data)
        return await answer if asyncio.iscoroutine(answer) else answer


def answers(cluster: Cluster, data: bytes) -> Any:
    return cluster.commit(data)


def commits_and_is_lost(cluster: Cluster, data: bytes) -> Any:
    cluster.commit(data)
    raise ConnectionLost("a", "cut")


def is_lost(cluster: Cluster, data: bytes) -> Any:
    raise ConnectionLost("a", "cut")


async def commits_and_keeps_silent(cluster: Cluster, data: bytes) -> Any:
    cluster.commit(data)
    await asyncio.sleep(10)


async def hangs(cluster: Cluster, data: bytes) -> Any:
    await asyncio.sleep(10)


async def refuses(cluster: Cluster, data: bytes) -> Any:
    raise HandshakeRefused("cluster", "of another cluster")


def says(error: CoordinationError) -> Step:
    def step(cluster: Cluster, data: bytes) -> Any:
        raise error

    step.__name__ = type(error).__name__
    return step


def babbles(cluster: Cluster, data: bytes) -> Any:
    cluster.commit(data)
    return {"not": "an answer"}


def forgets(cluster: Cluster, data: bytes) -> Any:
    """All sessions expire, then the command comes."""
    cluster.sessions = SessionTable()
    return cluster.commit(data)


STEPS = [
    answers,
    commits_and_is_lost,
    is_lost,
    commits_and_keeps_silent,
    hangs,
    refuses,
    babbles,
    forgets,
    says(NotLeader("main", "b")),
    says(NotLeader("main", None)),
    says(Superseded("main", 1)),
    says(QueueFull("main", "q", 1)),
    says(ProposalTooLarge("main", 2, 1)),
    says(UnknownGroup("main", "a", ())),
    says(InvalidInput("no")),
    says(Unreachable("a", "gone")),
    says(OutcomeUnknown("stopping")),
]


@given(st.lists(st.lists(st.sampled_from(STEPS), max_size=4), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_rejected_means_never_applied_and_a_result_means_applied_once(
    scripts: list[list[Step]],
) -> None:
    async def law() -> None:
        cluster = Cluster(*[list(script) for script in scripts])
        try:
            applied = await cluster.client.propose(b"command", timeout_s=0.3)
        except (Rejected, InvalidInput):
            assert cluster.applied == []
        except OutcomeUnknown:
            assert len(cluster.applied) <= 1
        else:
            assert (applied.result, cluster.applied) == (b"done", [b"command"])

    asyncio.run(law())


@pytest.mark.parametrize(
    "last",
    [
        says(ProposalTooLarge("main", 2, 1)),
        says(UnknownGroup("main", "a", ())),
        says(InvalidInput("no")),
        refuses,
    ],
    ids=lambda step: step.__name__,
)
@pytest.mark.parametrize("first", [commits_and_is_lost, commits_and_keeps_silent, babbles])
async def test_a_refusal_after_an_attempt_that_was_lost_under_way_leaves_the_outcome_unknown(
    first: Step, last: Step
) -> None:
    cluster = Cluster([first, *[last] * 50])
    with pytest.raises(OutcomeUnknown, match="may have been applied"):
        await cluster.client.propose(b"command")
    assert cluster.applied == [b"command"]


async def test_a_node_that_refuses_us_or_has_no_such_group_does_not_have_the_last_word() -> None:
    for first in (refuses, says(UnknownGroup("main", "a", ()))):
        cluster = Cluster([first], [answers])
        assert (await cluster.client.propose(b"command")).result == b"done"


async def test_what_every_node_refuses_for_good_is_said_at_once_in_its_own_words() -> None:
    cluster = Cluster([refuses] * 9, [refuses] * 9)
    async with asyncio.timeout(0.4):
        with pytest.raises(HandshakeRefused, match="another cluster"):
            await cluster.client.propose(b"command")


async def test_a_node_that_cannot_be_connected_to_has_not_been_sent_anything() -> None:
    cluster = Cluster([hangs] * 50)
    with pytest.raises(ClusterUnavailable):
        await cluster.client.propose(b"command")


async def test_two_nodes_that_name_each_other_as_leader_are_not_asked_in_a_tight_loop() -> None:
    asked = 0

    def names(other: str) -> Step:
        def step(cluster: Cluster, data: bytes) -> Any:
            nonlocal asked
            asked += 1
            raise NotLeader("main", other)

        return step

    cluster = Cluster([names("b")] * 10_000, [names("a")] * 10_000)
    with pytest.raises(ClusterUnavailable, match="not the leader"):
        await cluster.client.propose(b"command")
    assert asked < 60


async def test_an_expired_session_is_opened_anew_once_for_all_commands_under_way() -> None:
    cluster = Cluster([])
    await cluster.client.propose(b"first")
    cluster.sessions = SessionTable()
    before = len(cluster.log)
    await asyncio.gather(*(cluster.client.propose(b"%d" % n) for n in range(20)))
    assert sorted(cluster.applied[1:]) == sorted(b"%d" % n for n in range(20))
    assert list(cluster.log[before:]).count(b"\x00") == 1


async def test_a_call_ends_by_its_deadline_though_the_window_is_full() -> None:
    cluster = Cluster([])
    await cluster.client.propose(b"first")
    sequences = cluster.client._sessions["main"]
    with ExitStack() as under_way:
        for _ in range(WINDOW):
            under_way.enter_context(sequences.next())
        async with asyncio.timeout(0.4):
            with pytest.raises(ClusterUnavailable, match="too many commands"):
                await cluster.client.propose(b"late", timeout_s=0.1)


async def test_cancelling_a_call_gives_its_number_up_and_a_late_copy_is_not_applied() -> None:
    cluster = Cluster([])
    await cluster.client.propose(b"first")
    late: list[bytes] = []

    async def delays(cluster: Cluster, data: bytes) -> Any:
        late.append(data)
        await asyncio.sleep(10)

    cluster.client._endpoints[0].call.__self__.script.append(delays)  # type: ignore[attr-defined]
    task = asyncio.create_task(cluster.client.propose(b"given up"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cluster.client.propose(b"second")
    answer = SessionAnswer.decode(cluster.commit(late[0])[2])
    assert answer.status.name == "ANSWER_NOT_KEPT"
    assert cluster.applied == [b"first", b"second"]


@pytest.mark.parametrize("field", ["timeout_s", "attempt_s"])
def test_a_time_that_is_none_is_refused_when_the_client_is_made(field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        Client(["127.0.0.1:1"], cluster="test", security=SECURITY, **{field: 0.0})


# --- closing, over real sockets ---------------------------------------------------------------


async def test_closing_ends_calls_under_way_at_once_with_what_is_known(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    async with cluster:
        client = cluster.client(timeout_s=30.0, attempt_s=30.0)
        await kv(client).put("k", "v")
        leader = await cluster.leader()
        for name in cluster.addresses:
            if name != leader:
                await cluster.nodes[name].stop()
        writing = asyncio.create_task(kv(client).put("k", "w"))
        reading = asyncio.create_task(kv(client).get("k"))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await client.close()
            await client.close()
            with pytest.raises(OutcomeUnknown):
                await writing
            with pytest.raises(Rejected):
                await reading
            with pytest.raises(Rejected, match="closed"):
                await kv(client).put("k", "late")


async def test_closing_while_connecting_is_no_cancellation_of_the_caller() -> None:

    async def keeps_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keeps_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client([f"127.0.0.1:{port}"], cluster="test", security=SECURITY)
    calling = asyncio.create_task(client.query(b""))
    await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises(Rejected, match="closed"):
        await calling
    server.close()
    await asyncio.sleep(0.05)


# --- events -----------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.binary(max_size=50), st.none(), st.just("take")), max_size=60))
@settings(deadline=None)
def test_events_come_out_in_order_until_the_first_that_had_no_room(steps: list[Any]) -> None:
    async def law() -> None:
        buffer, put, taken = EventBuffer(300), [], []
        for step in steps:
            if step == "take":
                if len(taken) < len(put):
                    taken.append(await buffer.get())
            elif step is None:
                buffer.end(None)
            else:
                before = buffer.ended
                buffer.put(step)
                if not before and not buffer.ended:
                    put.append(step)
            buffer.check()
        while len(taken) < len(put):
            taken.append(await buffer.get())
        assert taken == put
        if buffer.ended:
            with contextlib.suppress(WatchOverrun):
                assert await buffer.get() is None

    asyncio.run(law())


def test_what_an_earlier_attempt_was_told_is_not_hidden_by_a_last_one_without_an_answer() -> None:
    attempts = Attempts(idempotent=True)
    attempts.note(TimeoutError(), sent=True)
    assert "no answer in time" in str(attempts.give_up("main", "time ran out"))
    attempts.note(Unreachable("a:1", "its certificate is of another authority"), sent=False)
    attempts.note(TimeoutError(), sent=True)
    assert "of another authority" in str(attempts.give_up("main", "time ran out"))
