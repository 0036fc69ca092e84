"""Two nodes on loopback: sessions, their ends, and what waits for a peer that is slow."""

import asyncio
import gc
import logging

import pytest

from mcpcore.errors import InvalidInput
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.connection import Agreement, Connection
from mcpcore.node.transport.dialing import dial
from mcpcore.node.transport.framing import encode_frame
from mcpcore.node.transport.handshake import Goodbye, Hello, Versions
from mcpcore.node.transport.identity import Identity, Role
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Plaintext
from tests.node.transport.town import SHORT, Recorder, Town, introduce, until


@pytest.mark.parametrize("tls", [False, True])
async def test_what_is_sent_arrives_in_order_in_both_directions(town: Town, tls: bool):
    a, b = await town.pair(tls=tls)
    payloads = [bytes([1]) * size for size in (1, 64, 1024, 300_000, 2_000_000, 7)]
    for payload in payloads:
        assert a.transport.send("b", payload)
        assert b.transport.send("a", payload)
    await until(lambda: len(a.heard.frames) == len(b.heard.frames) == len(payloads))
    assert a.heard.frames == [("b", 1, payload) for payload in payloads]
    assert b.heard.frames == [("a", 1, payload) for payload in payloads]


async def test_the_node_with_the_smaller_id_calls_and_one_connection_serves_both(town: Town):
    a, b = await town.pair()
    await asyncio.sleep(0.1)
    assert a.heard.kinds == b.heard.kinds == ["connected"]
    assert a.transport.stats()["b"].reconnects == b.transport.stats()["a"].reconnects == 0


async def test_all_frames_of_one_loop_turn_leave_in_one_write(town: Town, monkeypatch):
    a, b = await town.pair()
    (connection,) = a.transport._connections
    stream, writes = connection._transport, []
    assert stream is not None

    class Counting:
        def write(self, data: bytes) -> None:
            writes.append(data)
            stream.write(data)

        def __getattr__(self, name: str) -> object:
            return getattr(stream, name)

    monkeypatch.setattr(connection, "_transport", Counting())
    for number in range(100):
        a.transport.send("b", b"%d" % number)
    await until(lambda: len(b.heard.frames) == 100)
    assert len([data for data in writes if len(data) > 4]) == 1


async def test_flush_does_not_wait_for_the_end_of_the_loop_turn(town: Town):
    a, _ = await town.pair()
    a.transport.send("b", b"now")
    assert a.transport.stats()["b"].queued_frames == 1
    a.transport.flush()
    assert a.transport.stats()["b"].queued_frames == 0


async def test_a_peer_that_restarts_is_a_new_session_with_a_new_incarnation(town: Town):
    a, b = await town.pair()
    await b.transport.close()
    await until(lambda: a.heard.kinds == ["connected", "disconnected"])
    assert not a.transport.send("b", b"to nobody")

    reborn = await town.node("b", listen=b.address)
    introduce(a, reborn)
    await until(lambda: len(a.heard.events) == 3)

    (_, _, first, old_life), (_, _, ended, why), (_, _, second, new_life) = a.heard.events
    assert (first, ended, second) == (1, 1, 2)
    assert old_life != new_life == reborn.transport.config.incarnation
    assert "b is closing down" in why
    assert a.transport.stats()["b"].refused == 1


async def test_a_caller_that_restarts_is_a_new_session_too(town: Town):
    a, b = await town.pair()
    await a.transport.close()
    reborn = await town.node("a", listen=a.address)
    introduce(reborn, b)
    await until(lambda: b.heard.kinds == ["connected", "disconnected", "connected"])
    assert [event[2] for event in b.heard.events] == [1, 1, 2]


async def test_the_newest_connection_of_a_peer_replaces_the_one_before(town: Town):
    b = await town.node("b")
    b.transport.add_peer("a", Address("127.0.0.1", 9))
    first = await call(b.address, Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER, 1))
    second = await call(b.address, Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER, 2))
    assert "connected anew" in (await first.over).why
    assert b.heard.kinds == ["connected", "disconnected", "connected"]
    assert b.transport.send("a", b"to the newest")
    second.abort("end of test")


async def test_a_delayed_call_does_not_replace_a_newer_connection(town: Town):
    """The network may hand over an old attempt after the one that followed it."""
    b = await town.node("b")
    b.transport.add_peer("a", Address("127.0.0.1", 9))
    newer = await call(b.address, Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER, 2))
    delayed = await call(b.address, Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER, 1))
    assert "overtaken" in (await delayed.over).why
    assert not newer.over.done()
    assert b.heard.kinds == ["connected"]
    newer.abort("end of test")


async def test_the_wrong_side_calling_is_refused(town: Town):
    a = await town.node("a")
    a.transport.add_peer("b", Address("127.0.0.1", 9))
    connection = await call(
        a.address, Hello(Versions(1, 1), "north", "b", "0" * 16, Role.PEER, 1), wait=False
    )
    assert "a calls b, not the other way" in (await connection.over).why


async def test_a_node_that_is_no_peer_is_refused(town: Town):
    a, b = await town.node("a"), await town.node("b")
    a.transport.add_peer("b", b.address)
    await until(lambda: "is no peer of b" in a.transport.stats()["b"].problem)
    b.transport.add_peer("a", a.address)
    await until(lambda: a.heard.kinds == ["connected"])


async def test_a_peer_that_is_removed_and_added_again_is_reached_at_the_first_call(town: Town):
    """Calls are numbered through all of a life, whatever links come and go meanwhile."""
    a, b = await town.pair()
    a.transport._links["b"].dials += 1000  # as after a bad day
    b.transport._links["a"]._their_dial += 1000
    await a.transport.remove_peer("b")
    await until(lambda: b.heard.kinds[-1] == "disconnected")
    a.transport.add_peer("b", b.address)
    await until(lambda: b.heard.kinds[-1] == "connected", within_s=0.3)


async def test_a_removed_peer_is_told_and_not_called_again(town: Town):
    a, b = await town.pair()
    await a.transport.remove_peer("b")
    await until(lambda: b.heard.kinds == ["connected", "disconnected"])
    assert "no peer of a any more" in b.heard.reasons[0]
    await asyncio.sleep(0.2)
    assert b.heard.kinds == ["connected", "disconnected"]
    assert not a.transport.send("b", b"x")
    await a.transport.remove_peer("b")


async def test_versions_are_negotiated_and_two_releases_run_together(town: Town):
    a = await town.node("a", versions=Versions(1, 2))
    b = await town.node("b", versions=Versions(2, 3))
    introduce(a, b)
    await until(lambda: a.heard.kinds == b.heard.kinds == ["connected"])
    assert a.transport.stats()["b"].version == b.transport.stats()["a"].version == 2


async def test_without_a_common_version_both_sides_say_so_and_go_on_trying(town: Town, caplog):
    a = await town.node("a", versions=Versions(1, 2))
    b = await town.node("b", versions=Versions(3, 4))
    introduce(a, b)
    await until(lambda: b.transport.refused_calls >= 2)
    assert "a speaks protocol versions 1 to 2, b speaks 3 to 4" in a.transport.stats()["b"].problem
    said = [record.message for record in caplog.records if "1 to 2" in record.message]
    assert len(said) == 2, "each side says it once, however often it happens"


async def test_another_cluster_is_refused(town: Town):
    a, b = await town.node("a", cluster="north"), await town.node("b", cluster="south")
    introduce(a, b)
    await until(lambda: "a is of cluster north, b of south" in a.transport.stats()["b"].problem)
    assert b.heard.events == []


async def test_an_address_of_another_node_is_noticed(town: Town):
    a, c = await town.node("a"), await town.node("c")
    c.transport.add_peer("a", a.address)
    a.transport.add_peer("b", c.address)
    await until(lambda: "c answers where b is expected" in a.transport.stats()["b"].problem)
    assert a.heard.events == []


async def test_a_malformed_payload_closes_its_connection_and_harms_nothing_else(town: Town, caplog):
    a, b = await town.pair()
    c = await town.node("c")
    introduce(b, c)
    await until(lambda: len(b.heard.events) == 2)

    a.transport.send("b", b"malformed")
    a.transport.send("b", b"behind it")
    await until(lambda: "disconnected" in b.heard.kinds)

    assert "this payload is malformed" in b.heard.reasons[0]
    assert "this payload is malformed" in caplog.text
    assert ("a", 1, b"behind it") not in b.heard.frames
    assert b.transport.stats()["c"].connected
    await until(lambda: a.transport.stats()["b"].session == 2)  # and the peer may try again


async def test_half_open_when_the_other_side_falls_silent_the_caller_gives_up_and_calls_again(
    town: Town,
):
    silent = await SilentNode.listen()
    a = await town.node("a")
    a.transport.add_peer("b", silent.address)
    await until(lambda: len(silent.connections) >= 2)
    assert a.heard.kinds[:2] == ["connected", "disconnected"]
    assert "nothing was received" in a.heard.reasons[0]
    await silent.close()


async def test_half_open_the_called_side_gives_up_too(town: Town):
    b = await town.node("b")
    b.transport.add_peer("a", Address("127.0.0.1", 9))
    reader, writer = await asyncio.open_connection(b.address.host, b.address.port)
    writer.write(encode_frame(Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER).encode()))
    await until(lambda: b.heard.kinds == ["connected", "disconnected"])
    assert "nothing was received" in b.heard.reasons[0]
    writer.close()
    del reader


async def test_an_idle_connection_is_kept_alive_by_pings(town: Town):
    a, b = await town.pair()
    await asyncio.sleep(3 * SHORT.idle_timeout_s)
    assert a.heard.kinds == b.heard.kinds == ["connected"]
    assert a.heard.frames == b.heard.frames == [], "a ping is nobody's payload"


async def test_a_call_into_nowhere_ends_in_time():
    """The other side accepts TCP, as a kernel does for a stopped process, and says nothing."""
    silent = await SilentNode.listen(answer=False)
    connection = await call(
        silent.address, Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER), wait=False
    )
    assert "no handshake within" in (await connection.over).why
    await silent.close()


async def test_a_slow_peer_costs_bounded_memory_and_loses_old_heartbeats_first(town: Town):
    limits = Limits(max_frame_bytes=100_000, max_queue_bytes=1_000_000, max_queue_frames=1000)
    silent = await SilentNode.listen(reads=False)
    a = await town.node("a", limits=limits)
    a.transport.add_peer("b", silent.address)
    await until(lambda: a.heard.kinds == ["connected"])

    (connection,) = a.transport._connections
    while not connection.is_congested:
        a.transport.send("b", bytes(100_000))
        await asyncio.sleep(0)
    assert a.transport.send("b", b"heartbeat 1", droppable=True)
    while a.transport.send("b", b"entry"):
        pass
    full = a.transport.stats()["b"]
    assert full.queued_bytes <= 1_000_000
    assert full.queued_frames == 1000
    assert full.dropped == 1, "the heartbeat gave way"
    assert full.refused == 1, "then nothing was left to drop"
    assert a.heard.kinds == ["connected"], "slowness alone ends nothing"
    await silent.close()


async def test_a_payload_that_no_frame_can_hold_is_the_callers_mistake(town: Town):
    a, _ = await town.pair(limits=Limits(max_frame_bytes=1000))
    assert a.transport.send("b", bytes(1000))
    for payload in (b"", bytes(1001)):
        with pytest.raises(InvalidInput, match="1 to 1000 can be sent"):
            a.transport.send("b", payload)


async def test_sending_to_nobody_is_refused_and_raises_nothing(town: Town):
    a = await town.node("a")
    assert not a.transport.send("b", b"x")
    a.transport.add_peer("b", Address("127.0.0.1", 9))
    assert not a.transport.send("b", b"x")
    assert a.transport.stats()["b"].refused == 1


async def test_a_peer_cannot_be_oneself_nor_move_silently(town: Town):
    a = await town.node("a")
    with pytest.raises(InvalidInput, match="this node itself"):
        a.transport.add_peer("a", Address("127.0.0.1", 9))
    a.transport.add_peer("b", Address("127.0.0.1", 9))
    a.transport.add_peer("b", Address("127.0.0.1", 9))
    with pytest.raises(InvalidInput, match=r"is at 127\.0\.0\.1:9 already"):
        a.transport.add_peer("b", Address("127.0.0.1", 10))


async def test_a_taken_port_is_reported_with_a_remedy(town: Town):
    a = await town.node("a")
    with pytest.raises(InvalidInput, match=r"cannot listen on .*another process"):
        await town.node("b", listen=a.address)


async def test_each_change_of_state_is_one_line_of_log(town: Town, caplog):
    caplog.set_level(logging.INFO, "mcpcore.node.transport")
    a, b = await town.pair()
    await b.transport.close()
    await until(lambda: a.transport.stats()["b"].problem.startswith("connection refused"))
    await asyncio.sleep(0.3)
    lines = [r.message for r in caplog.records if r.message.startswith("peer b: ")]
    assert [line.split(":")[1].split()[0] for line in lines] == ["connected", "session", "no"]


async def test_a_thousand_rapid_reconnects_leak_nothing(town: Town):
    b = await town.node("b")
    b.transport.add_peer("a", Address("127.0.0.1", 9))

    async def calls(first: int, last: int) -> None:
        for number in range(first, last):
            hello = Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER, number)
            connection = await call(b.address, hello)
            connection.close()
        await until(lambda: not b.transport._connections)

    await calls(1, 100)
    gc.collect()
    before = sum(isinstance(thing, Connection) for thing in gc.get_objects())
    tasks = len(asyncio.all_tasks())
    await calls(100, 1100)
    gc.collect()
    after = sum(isinstance(thing, Connection) for thing in gc.get_objects())
    assert after <= before + 2
    assert len(asyncio.all_tasks()) == tasks
    assert b.transport.stats()["a"].session == 1099
    assert b.heard.kinds == ["connected", "disconnected"] * 1099


async def test_closing_leaves_no_task_behind(town: Town):
    before = asyncio.all_tasks()
    a, b = await town.pair()
    a.transport.add_peer("c", Address("127.0.0.1", 9))
    await asyncio.sleep(0.05)
    await asyncio.gather(a.transport.close(), b.transport.close())
    await a.transport.close()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("tls", [False, True])
def test_the_same_code_runs_on_uvloop(certificates, tls: bool):
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed here")

    async def scene() -> None:
        town = Town(certificates)
        a, b = await town.pair(tls=tls)
        for number in range(1000):
            assert a.transport.send("b", b"%d" % number)
        await until(lambda: len(b.heard.frames) == 1000)
        assert [int(payload) for _, _, payload in b.heard.frames] == list(range(1000))
        await asyncio.sleep(2 * SHORT.idle_timeout_s)
        assert a.heard.kinds == ["connected"]
        await b.transport.close()
        await until(lambda: a.heard.kinds == ["connected", "disconnected"])
        assert "b is closing down" in a.heard.reasons[0]
        await a.transport.close()

    uvloop.run(scene())


# --- makeshift ends of a connection -------------------------------------------------------------


class Stub:
    """An owner of connections that takes whoever answers."""

    def __init__(self) -> None:
        self.heard = Recorder()
        self.is_open = asyncio.Event()

    def judge(self, theirs: Hello, certified: Identity | None):
        return Agreement(1, Role.PEER, theirs.name, theirs.incarnation), None

    def opened(self, connection: Connection) -> None:
        self.is_open.set()
        connection.on_frame = lambda payload: None

    def ended(self, connection: Connection, parting: Goodbye) -> None:
        self.is_open.set()


async def call(address: Address, hello: Hello, *, wait: bool = True) -> Connection:
    """Call as whoever ``hello`` says, and wait for the answer."""
    stub, security = Stub(), Plaintext(allow_plaintext=True)
    connection = await dial(
        lambda: Connection(stub, security, SHORT, set(), first_words=hello), address, None, SHORT
    )
    if wait:
        await stub.is_open.wait()
    return connection


class SilentNode:
    """Node b behind a half-open connection: it answers the handshake, then nothing; or it lives
    (it pings) and does not read.
    """

    def __init__(self, answer: bool, reads: bool) -> None:
        self.answer, self.reads = answer, reads
        self.connections: list[asyncio.Transport] = []

    @classmethod
    async def listen(cls, *, answer: bool = True, reads: bool = True) -> "SilentNode":
        node = cls(answer, reads)
        loop = asyncio.get_running_loop()
        node.server = await loop.create_server(lambda: SilentEnd(node), "127.0.0.1", 0)
        node.address = Address("127.0.0.1", node.server.sockets[0].getsockname()[1])
        return node

    async def close(self) -> None:
        for transport in self.connections:
            transport.abort()
        self.server.close()
        await asyncio.sleep(0.1)


class SilentEnd(asyncio.Protocol):
    def __init__(self, node: SilentNode) -> None:
        self.node = node
        self.may_answer = node.answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.node.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        if self.may_answer:
            hello = Hello(Versions(1, 1), "north", "b", "0" * 16, Role.PEER)
            self.transport.write(encode_frame(hello.encode()))
            self.may_answer = False
        if not self.node.reads:
            self.transport.pause_reading()
            self.ping()

    def ping(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(encode_frame(b""))
            asyncio.get_running_loop().call_later(0.1, self.ping)


async def test_a_node_that_stops_while_it_shakes_hands_stops_in_order(town: Town):
    """Waiting for the end of a connection was cancelled with its end itself, which then came."""
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    a = await town.node("a")
    port = silent.sockets[0].getsockname()[1]
    a.transport.add_peer("b", Address("127.0.0.1", port))
    await accepted.wait()
    [calling] = [task for task in asyncio.all_tasks() if task.get_name() == "call peer b"]
    await a.transport.close()
    assert calling.cancelled()
    silent.close()
    await silent.wait_closed()
