"""A cluster of real nodes over real sockets and files, in one process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mcpcore.errors import (
    ClusterUnavailable,
    CommandRefused,
    GroupReadOnly,
    InvalidInput,
    LeaseUnavailable,
    NotLeader,
    NotPermitted,
    OutcomeUnknown,
    ProposalTooLarge,
    Rejected,
    StorageFailed,
    TransferRefused,
)
from mcpcore.node.client.client import Client
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.group import Consistency
from mcpcore.node.kv.commands import Get, Put, encode_command, encode_request
from mcpcore.node.kv.results import Found, NotSwapped, Swapped, decode_result
from mcpcore.node.node import GroupConfig, NodeConfig
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.identity import Role
from mcpcore.node.transport.limits import Limits
from mcpcore.raft.sessions import register_session
from mcpcore.raft.types import EntryKind
from tests.node.local_cluster import SECURITY, SETTINGS, LocalCluster, kv


async def test_what_is_put_can_be_read_from_every_node(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        await kv(client).put("greeting", "hello")
        for name in cluster.addresses:
            found = await cluster.group(name).read(encode_request(Get(b"greeting")))
            answer = decode_result(found.answer)
            assert isinstance(answer, Found)
            assert answer.record is not None
            assert answer.record.value == b"hello"


async def test_the_key_value_client_does_what_its_methods_say(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        store = kv(client)
        first = await store.put("a/1", "one")
        assert isinstance(await store.compare_and_set("a/1", expected=first, value="uno"), Swapped)
        lost = await store.compare_and_set("a/1", expected="one", value="eins")
        assert isinstance(lost, NotSwapped)
        assert lost.current is not None
        assert lost.current.value == b"uno"
        for number in range(2, 12):
            await store.put(f"a/{number}", str(number))
        assert len([record async for record in store.scan("a/")]) == 11
        assert len([record async for record in store.scan("a/", limit=3)]) == 3
        assert await store.delete("a/1")
        assert not await store.delete("a/1")
        assert await store.get("a/1") is None
        assert await store.delete_prefix("a/") == 10
        with pytest.raises(CommandRefused, match="1 to 4096 bytes"):
            await store.put("", "no key")


async def test_acknowledged_writes_survive_the_loss_of_the_leader(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        store = kv(client)
        for number in range(20):
            await store.put(f"k{number}", str(number))
        leader = await cluster.leader()
        await cluster.nodes[leader].stop()
        for number in range(20, 40):
            await store.put(f"k{number}", str(number))
        assert await cluster.leader() != leader
        await cluster.start(leader)
        await cluster.agree()
        records = [record async for record in store.scan("k")]
        assert {record.key: record.value for record in records} == {
            f"k{number}".encode(): str(number).encode() for number in range(40)
        }


async def test_a_whole_cluster_restarts_with_its_data_and_its_terms(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        await kv(client).put("kept", "yes")
        before = cluster.group(await cluster.leader()).raft.state.term
        incarnations = {name: n.status()["incarnation"] for name, n in cluster.nodes.items()}
        for node in cluster.nodes.values():
            await node.stop()
        for name in cluster.addresses:
            await cluster.start(name)
        record = await kv(client).get("kept")
        assert record is not None
        assert record.value == b"yes"
        assert cluster.group(await cluster.leader()).raft.state.term > before
        after = {name: n.status()["incarnation"] for name, n in cluster.nodes.items()}
        assert after == incarnations, "a node that kept its disk is the same life"


async def test_a_retried_proposal_is_applied_once_and_answered_alike(tmp_path: Path) -> None:
    """Thesis §6.3: the connection breaks after the command left; the client sends it again."""
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        store = kv(client)
        await store.put("counter", "0")
        for expected in range(30):
            pending = asyncio.ensure_future(
                store.compare_and_set("counter", expected=str(expected), value=str(expected + 1))
            )
            await asyncio.sleep(0)
            for endpoint in client._endpoints:  # break every connection while it is under way
                if endpoint._connection is not None:
                    endpoint._connection.abort("cut by the test")
            assert isinstance(await pending, Swapped), "a second application would find it changed"


async def test_reads_say_how_consistent_they_are(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        await kv(client).put("k", "v")
        leader = await cluster.leader()
        follower = next(name for name in cluster.addresses if name != leader)
        request = encode_request(Get(b"k"))
        await cluster.clocks_agree()
        await cluster.group(leader).read(request, Consistency.LEASE)
        with pytest.raises(NotLeader) as refused:
            cluster.group(follower).read(request, Consistency.LEASE)
        assert refused.value.leader == leader
        stale = await cluster.group(follower).read(request, Consistency.STALE)
        assert stale.applied <= cluster.group(leader).applied


async def test_a_leader_without_a_quorum_refuses_instead_of_lying(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client(timeout_s=1.0) as client:
        await kv(client).put("k", "v")
        leader = await cluster.leader()
        for name in cluster.addresses:
            if name != leader:
                await cluster.nodes[name].stop()
        await asyncio.sleep(0.5)
        with pytest.raises((NotLeader, LeaseUnavailable)):
            cluster.group(leader).read(encode_request(Get(b"k")), Consistency.LEASE)
        with pytest.raises((ClusterUnavailable, GroupReadOnly, OutcomeUnknown)):
            await kv(client).put("k", "w")
        with pytest.raises((ClusterUnavailable, GroupReadOnly)):
            await kv(client).get("k")
        assert await kv(client).get("k", consistency=Consistency.STALE) is not None


async def test_leadership_can_be_handed_over_without_losing_a_write(tmp_path: Path) -> None:
    async with (
        LocalCluster(tmp_path) as cluster,
        cluster.client() as client,
        cluster.client(role=Role.ADMIN) as admin,
    ):
        store = kv(client)
        await store.put("n", "0")
        for round_ in range(5):
            leader = await cluster.leader()
            target = next(name for name in cluster.addresses if name != leader)
            await admin.transfer_leadership(target)
            changed = await store.compare_and_set("n", expected=str(round_), value=str(round_ + 1))
            assert isinstance(changed, Swapped)
            assert await cluster.leader() == target
        with pytest.raises(TransferRefused, match="not a voter"):
            await admin.transfer_leadership("nobody")
        with pytest.raises(NotPermitted, match="administrator"):
            await client.transfer_leadership("a")


async def test_a_watch_hears_every_change_once_though_its_node_is_lost(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        store = kv(client)
        await store.put("w/0", "0")
        heard: list[bytes] = []

        async def listen() -> None:
            async for event in store.watch("w/", prefix=True, after_revision=0):
                heard.append(event.record.value)
                if len(heard) == 30:
                    return

        listening = asyncio.create_task(listen())
        for number in range(1, 30):
            await store.put(f"w/{number % 3}", str(number))
            if number == 10:
                await cluster.nodes[await cluster.leader()].stop()
        async with asyncio.timeout(10):
            await listening
        assert heard == [str(number).encode() for number in range(30)]


async def test_a_lease_that_is_not_renewed_takes_its_keys_with_it(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        store = kv(client)
        lease = await store.lease_grant(0.4)
        await store.put("owner", "me", lease=lease)
        for _ in range(4):
            await asyncio.sleep(0.2)
            assert await store.lease_keep_alive(lease) == 0.4
        assert await store.get("owner") is not None, "it was renewed for twice its time"
        await asyncio.sleep(0.9)
        assert await store.get("owner") is None
        with pytest.raises(CommandRefused, match="no lease"):
            await store.lease_keep_alive(lease)


async def test_a_lease_outlives_its_leader(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        store = kv(client)
        lease = await store.lease_grant(1.0)
        await store.put("owner", "me", lease=lease)
        await cluster.nodes[await cluster.leader()].stop()
        assert await store.get("owner") is not None
        await cluster.leader()
        await asyncio.sleep(1.5)
        assert await store.get("owner") is None, "the new leader counts it again, then ends it"


async def test_a_proposal_too_large_is_refused_at_once(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, "a") as cluster, cluster.client() as client:
        await cluster.leader()
        with pytest.raises(ProposalTooLarge, match="split it"):
            await client.propose(encode_command(Put(b"k", b"v" * (3 << 20))))


async def test_a_single_node_serves_alone(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, "a") as cluster, cluster.client() as client:
        await kv(client).put("k", "v")
        await cluster.clocks_agree()
        record = await kv(client).get("k", consistency=Consistency.LEASE)
        assert record is not None


async def test_groups_of_one_node_share_log_and_connections_and_nothing_else(
    tmp_path: Path,
) -> None:
    groups = tuple(f"g{number}" for number in range(8))
    async with LocalCluster(tmp_path, groups=groups) as cluster, cluster.client() as client:
        await asyncio.gather(*(kv(client, group).put("k", group) for group in groups))
        for group in groups:
            record = await kv(client, group).get("k")
            assert record is not None
            assert record.value == group.encode()
        with pytest.raises(InvalidInput, match="no group 'other' on"):
            await client.query(encode_request(Get(b"k")), group="other")


class _DyingDisk(FileDisk):
    """Real files, until ``dead`` is set: from then on every sync fails."""

    dead = False

    def open(self, path: str, *, create: bool = False):  # type: ignore[no-untyped-def]
        file = super().open(path, create=create)
        write = file.write

        async def write_or_die(offset: int, data: bytes, *, sync: bool) -> None:
            if self.dead:
                raise OSError(5, "Input/output error")
            await write(offset, data, sync=sync)

        file.write = write_or_die  # type: ignore[method-assign]
        return file


async def test_a_node_whose_disk_fails_stops_and_the_others_go_on(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    disks = {name: _DyingDisk() for name in cluster.addresses}
    for name in cluster.addresses:
        await cluster.start(name, disk=disks[name])
    try:
        async with cluster.client() as client:
            await kv(client).put("k", "v")
            leader = await cluster.leader()
            disks[leader].dead = True
            await kv(client).put("k", "w")
            async with asyncio.timeout(5):
                await cluster.nodes[leader].stopped.wait()
            assert isinstance(cluster.nodes[leader].failure, StorageFailed)
            assert await cluster.leader() != leader
    finally:
        await cluster.__aexit__(None, None, None)
        for disk in disks.values():
            disk.close()


async def test_status_tells_of_every_node_also_of_one_that_does_not_answer(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        await kv(client).put("k", "v")
        leader = await cluster.leader()
        gone = next(name for name in cluster.addresses if name != leader)
        await cluster.nodes[gone].stop()
        answers = await client.status()
        assert isinstance(answers[str(cluster.addresses[gone])], Rejected)
        status = answers[str(cluster.addresses[leader])]
        assert isinstance(status, dict)
        assert status["node"] == leader
        assert status["groups"]["main"]["leader"] == leader


async def test_a_voter_without_an_address_is_refused_when_configured() -> None:
    with pytest.raises(InvalidInput, match="c cannot be reached"):
        NodeConfig(
            cluster="test",
            name="a",
            listen=Address("127.0.0.1", 1),
            peers={"b": Address("127.0.0.1", 2)},
            data="unused",
            security=SECURITY,
            groups={"main": GroupConfig(("a", "b", "c"))},
        )


async def test_a_client_of_another_cluster_is_refused_with_both_names(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, "a") as cluster:
        stranger = Client(list(cluster.addresses.values()), cluster="other", security=SECURITY)
        async with stranger:
            with pytest.raises(Rejected, match="other"):
                await kv(stranger).get("k")


async def test_futures_of_a_stopping_node_end_with_what_is_known(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster:
        leader = await cluster.leader()
        for name in cluster.addresses:
            if name != leader:
                await cluster.nodes[name].stop()
        group = cluster.group(leader)
        proposed = group.propose(register_session(), EntryKind.SESSION)
        asked = group.read(encode_request(Get(b"k")))
        await cluster.nodes[leader].stop()
        with pytest.raises(OutcomeUnknown, match="stopping"):
            await proposed
        with pytest.raises(Rejected):
            await asked
        with pytest.raises(Rejected, match="has stopped"):
            group.propose(b"late")


async def test_a_client_that_was_closed_says_nothing_more_when_closed_again(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path) as cluster:
        client = cluster.client()
        await kv(client).put("k", "v")
        await client.close()
        await cluster.agree()
        before = cluster.group(await cluster.leader()).raft.state.log.last_index
        await client.close()
        await asyncio.sleep(0.1)
        assert cluster.group(await cluster.leader()).raft.state.log.last_index == before


async def test_a_stop_that_is_cancelled_still_lets_go_of_the_log(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    node = await cluster.start("a")
    stopping = asyncio.create_task(node.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await node.stopped.wait()
    again = await cluster.start("a")  # a log or a port that is still open would be refused
    await again.stop()


async def test_entries_that_fit_no_frame_are_refused_when_configured() -> None:
    with pytest.raises(InvalidInput, match="at least twice max_append_bytes"):
        NodeConfig(
            cluster="test",
            name="a",
            listen=Address("127.0.0.1", 1),
            peers={},
            data="unused",
            security=SECURITY,
            groups={"main": GroupConfig(("a",))},
            limits=Limits(max_frame_bytes=3 << 20),
        )


async def test_a_group_that_the_configuration_no_longer_names_is_kept_and_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = LocalCluster(tmp_path, "a", groups=("old", "main"))
    async with cluster, cluster.client() as client:
        await kv(client, "old").put("k", "kept")
    cluster.groups = ("main",)
    await (await cluster.start("a")).stop()
    assert "holds group old, which the configuration does not name" in caplog.text
    cluster.groups = ("old", "main")
    async with cluster, cluster.client() as client:
        record = await kv(client, "old").get("k")
        assert record is not None
        assert record.value == b"kept"


async def test_what_many_groups_have_to_say_at_once_travels_in_frames_that_fit(
    tmp_path: Path,
) -> None:
    """Sixteen groups with 7 kB each for every peer, where a frame holds 20 kB."""
    groups = tuple(f"g{number}" for number in range(16))
    settings = replace(SETTINGS, max_append_bytes=8_000, max_proposal_bytes=8_000)
    limits = Limits(max_frame_bytes=20_000)
    cluster = LocalCluster(tmp_path, groups=groups, settings=settings, limits=limits)
    async with cluster, cluster.client() as client:
        await asyncio.gather(*(kv(client, group).put("k", b"x" * 7_000) for group in groups))
        for _ in range(5):
            await asyncio.gather(*(kv(client, group).put("k", b"y" * 7_000) for group in groups))
        for group in groups:
            await cluster.agree(group)
        for node in cluster.nodes.values():
            assert all(peer["reconnects"] == 0 for peer in node.status()["peers"].values())


async def test_a_node_far_behind_catches_up_on_large_entries_of_many_groups(tmp_path: Path) -> None:
    """All of it at once would not fit one frame."""
    groups = tuple(f"g{number}" for number in range(6))
    async with LocalCluster(tmp_path, groups=groups) as cluster, cluster.client() as client:
        leader = await cluster.leader("g0")
        gone = next(name for name in cluster.addresses if name != leader)
        await cluster.nodes[gone].stop()
        value = b"v" * (900 << 10)
        for number in range(8):
            await asyncio.gather(*(kv(client, g).put(f"k{number}", value) for g in groups))
        await cluster.start(gone)
        for group in groups:
            await cluster.agree(group)
