"""Those who knock at the door and must not come in, with and without TLS."""

import asyncio
import ssl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcpcore.errors import HandshakeRefused, InvalidInput, Unreachable
from mcpcore.node.addresses import Address
from mcpcore.node.connection import Connection
from mcpcore.node.dialing import connect_client
from mcpcore.node.framing import encode_frame
from mcpcore.node.handshake import GOODBYE, Hello, Versions
from mcpcore.node.identity import Role
from mcpcore.node.security import Plaintext, Tls
from tests.node.transport.town import SHORT, Node, Town, introduce, until

NOBODY = Address("127.0.0.1", 9)


async def stays_well(node: Node, town: Town, tls: bool) -> None:
    """The node still serves those who belong here."""
    security = town.tls("client-app") if tls else Plaintext(allow_plaintext=True)
    connection = await connect_client(node.address, security, cluster="north", name="app")
    connection.send(b"hello")
    await until(lambda: node.heard.client_frames == [("app", b"hello")])
    connection.close()


async def knock(node: Node, data: bytes, tls: Tls | None = None) -> bytes:
    """Send bytes, and return what came back until the node hung up."""
    context = tls.client_context() if tls else None
    reader, writer = await asyncio.open_connection(
        node.address.host, node.address.port, ssl=context, server_hostname="" if tls else None
    )
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 100,
        (1 << 31).to_bytes(4, "big"),
        encode_frame(bytes(5000)),
        encode_frame(b""),
        encode_frame(b"\x80"),
        encode_frame(b"\xc1"),
        encode_frame(b"garbage"),
        encode_frame(b"\x81\xa5magic\xa7mcpcore"),
    ],
    ids=["http", "ff", "huge", "long", "ping", "empty-map", "goodbye", "garbage", "bare-magic"],
)
async def test_garbage_is_let_go_with_a_logged_reason(town: Town, caplog, data: bytes, tls: bool):
    b = await town.node("b", tls=tls)
    b.transport.add_peer("a", NOBODY)
    await knock(b, data, town.tls("node-a") if tls else None)
    await until(lambda: b.transport.refused_calls == 1)
    assert "came to nothing" in caplog.text
    assert b.heard.events == []
    await stays_well(b, town, tls)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=50) | st.binary(max_size=50).map(encode_frame), max_size=5))
def test_whatever_a_stranger_sends_the_node_stays_well(pieces):
    """The same parser, judge and connection as in a node, without the network in between."""

    async def scene() -> None:
        heard: list[str] = []
        connection = Connection(_NeverOpens(heard), Plaintext(allow_plaintext=True), SHORT, set())
        stream = _Stream()
        connection.connection_made(stream)
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        assert len(heard) == 1, "its end is reported once"

    asyncio.run(scene())


class _NeverOpens:
    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def judge(self, theirs, certified):
        raise AssertionError("none of these is a hello")

    def opened(self, connection):
        raise AssertionError("none of these opens anything")

    def ended(self, connection, parting):
        self.heard.append(parting.why)


class _Stream(asyncio.Transport):
    """A byte stream to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing


@pytest.mark.parametrize("tls", [False, True])
async def test_a_silent_caller_is_let_go(town: Town, tls: bool):
    b = await town.node("b", tls=tls)
    assert await knock(b, b"", town.tls("node-a") if tls else None) == b""
    assert b.transport.refused_calls == 1


async def test_a_caller_that_drips_its_hello_is_let_go_all_the_same(town: Town):
    """Each byte is a sign of life; the handshake must end in time nevertheless."""
    b = await town.node("b")
    hello = encode_frame(Hello(Versions(1, 1), "north", "app", "0" * 16, Role.CLIENT).encode())
    _, writer = await asyncio.open_connection(b.address.host, b.address.port)
    for byte in hello[:-1]:
        if b.transport.refused_calls:
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    assert b.transport.refused_calls == 1
    writer.transport.abort()
    await asyncio.sleep(0)


async def test_a_caller_that_never_begins_tls_is_let_go(town: Town):
    b = await town.node("b", tls=True)
    assert await knock(b, b"") == b""
    await stays_well(b, town, True)


async def test_plaintext_to_a_tls_port(town: Town, caplog):
    b = await town.node("b", tls=True)
    with pytest.raises(Unreachable, match=r"before the handshake|reset"):
        await connect_client(
            b.address, Plaintext(allow_plaintext=True), cluster="north", name="app", limits=SHORT
        )
    await until(lambda: b.transport.tls_failures == 1)
    assert "does not speak TLS" in caplog.text
    await stays_well(b, town, True)


async def test_tls_to_a_plaintext_port(town: Town, caplog):
    b = await town.node("b")
    with pytest.raises(Unreachable):
        await connect_client(
            b.address, town.tls("client-app"), cluster="north", name="app", limits=SHORT
        )
    await until(lambda: b.transport.refused_calls == 1)
    assert "the sender uses TLS, and here it is switched off" in caplog.text
    await stays_well(b, town, False)


async def test_a_certificate_of_another_authority_is_refused_by_both_sides(town: Town, caplog):
    b = await town.node("b", tls=True)
    with pytest.raises(Unreachable, match="certificate is of another authority"):
        await connect_client(b.address, town.tls("others/client-app"), cluster="north", name="app")
    # A caller that does not care whom it talks to is stopped by the other side.
    careless = town.tls("others/client-app").client_context()
    careless.verify_mode = ssl.CERT_NONE
    assert await knock_with(b, careless) in (b"", "refused")
    await until(lambda: "another authority" in caplog.text)
    assert b.transport.refused_calls == 0, "they never got as far as a handshake"
    await stays_well(b, town, True)


async def knock_with(node: Node, context: ssl.SSLContext) -> bytes | str:
    try:
        reader, writer = await asyncio.open_connection(
            node.address.host, node.address.port, ssl=context, server_hostname=""
        )
    except OSError:
        return "refused"
    try:
        hello = Hello(Versions(1, 1), "north", "app", "0" * 16, Role.CLIENT)
        writer.write(encode_frame(hello.encode()))
        return await reader.read()
    except OSError:
        return "refused"
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_caller_without_a_certificate_is_refused(town: Town, caplog):
    b = await town.node("b", tls=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(town.certificates / "ca.crt")
    assert await knock_with(b, context) in (b"", "refused")
    await until(lambda: b.transport.tls_failures == 1)
    assert "gave no certificate" in caplog.text


async def test_tls_older_than_1_3_is_refused(town: Town):
    b = await town.node("b", tls=True)
    context = town.tls("client-app").client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await knock_with(b, context) == "refused"


async def test_an_expired_certificate_is_refused_and_its_owner_is_told_why(town: Town, caplog):
    a = await town.node("a", security=town.tls("expired-a"))
    b = await town.node("b", tls=True)
    introduce(a, b)
    await until(lambda: "refuses our certificate" in a.transport.stats()["b"].problem)
    await until(lambda: "the other side's certificate has expired" in caplog.text)
    assert b.heard.events == []


async def test_a_node_with_the_wrong_name_is_refused(town: Town):
    """Node c holds a genuine certificate of its own, and says it is node a."""
    b = await town.node("b", tls=True)
    b.transport.add_peer("a", NOBODY)
    hello = Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER)
    answer = await knock(b, encode_frame(hello.encode()), town.tls("node-c"))
    assert b"claims to be a" in answer
    assert b.heard.events == []


@pytest.mark.parametrize("who", ["client-a", "admin-ops"])
async def test_neither_client_nor_admin_speaks_the_peer_protocol(town: Town, who: str):
    b = await town.node("b", tls=True)
    name = who.partition("-")[2]
    b.transport.add_peer(name, NOBODY) if name < "b" else None
    hello = Hello(Versions(1, 1), "north", name, "0" * 16, Role.PEER)
    answer = await knock(b, encode_frame(hello.encode()), town.tls(who))
    assert b"not peer" in answer
    assert b.heard.events == []


async def test_a_client_is_no_admin(town: Town):
    b = await town.node("b", tls=True)
    with pytest.raises(HandshakeRefused, match="not admin") as refusal:
        await connect_client(
            b.address, town.tls("client-app"), cluster="north", name="app", role=Role.ADMIN
        )
    assert refusal.value.code == "role"


@pytest.mark.parametrize("role", [Role.CLIENT, Role.ADMIN])
async def test_an_admin_may_be_a_client_too(town: Town, role: Role):
    b = await town.node("b", tls=True)
    connection = await connect_client(
        b.address, town.tls("admin-ops"), cluster="north", name="ops", role=role
    )
    (served,) = b.heard.clients
    assert (served.role, served.name) == (role, "ops")
    assert str(served.certified) == "mcpcore://north/admin/ops"
    connection.close()


async def test_a_nodes_certificate_opens_no_clients_door(town: Town):
    b = await town.node("b", tls=True)
    with pytest.raises(HandshakeRefused, match="not client"):
        await connect_client(b.address, town.tls("node-a"), cluster="north", name="a")


async def test_a_client_does_not_talk_to_a_client_in_a_nodes_place(town: Town):
    """A stolen client key must not be enough to play a node; TLS itself sees to it."""
    thief = town.tls("client-app").server_context(lambda why: None)
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=thief)
    address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(Unreachable, match="not for this use"):
        await connect_client(address, town.tls("client-app"), cluster="north", name="app")
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


async def test_a_node_refuses_a_certificate_that_bears_another_name(town: Town):
    with pytest.raises(InvalidInput, match=r"node/a, and this node is .*node/b"):
        await town.node("b", security=town.tls("node-a"))
    with pytest.raises(InvalidInput, match="client/a"):
        await town.node("a", security=town.tls("client-a"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost", "example.net"])
async def test_plaintext_leaves_the_machine_nowhere(town: Town, host: str):
    security = Plaintext(allow_plaintext=True)
    with pytest.raises(InvalidInput, match="plaintext is refused"):
        await town.node("a", security=security, listen=Address(host, 7400))
    with pytest.raises(InvalidInput, match="plaintext is refused"):
        await connect_client(Address(host, 7400), security, cluster="north", name="app")
    a = await town.node("a")
    with pytest.raises(InvalidInput, match="plaintext is refused"):
        a.transport.add_peer("b", Address(host, 7400))


def test_plaintext_must_be_asked_for():
    with pytest.raises(InvalidInput, match="nobody can be told from anybody else"):
        Plaintext(allow_plaintext=False)


async def test_nobody_at_the_address_is_said_plainly():
    with pytest.raises(Unreachable, match=r"127.0.0.1:9 cannot be reached: .*refused"):
        await connect_client(
            NOBODY, Plaintext(allow_plaintext=True), cluster="north", name="app", limits=SHORT
        )


async def test_an_oversized_frame_ends_the_session_and_harms_nothing_else(town: Town):
    b = await town.node("b")
    b.transport.add_peer("a", NOBODY)
    hello = Hello(Versions(1, 1), "north", "a", "0" * 16, Role.PEER)
    answer = await knock(
        b, encode_frame(hello.encode()) + encode_frame(b"fine") + b"\x7f\xff\xff\xff"
    )
    assert bytes([GOODBYE]) in answer
    assert b"2147483647 bytes is announced" in answer
    assert b.heard.kinds == ["connected", "disconnected"]
    assert b.heard.frames == [("a", 1, b"fine")]
    await stays_well(b, town, False)


async def test_dialling_a_name_that_cannot_be_resolved_is_unreachable(town: Town):
    for host in ("no-such-host.invalid", "x" * 63 + "." + "y" * 63):
        with pytest.raises(Unreachable):
            await connect_client(
                Address(host, 1), town.tls("client-app"), cluster="north", name="app", limits=SHORT
            )


async def test_a_dial_that_is_cancelled_leaves_nothing_behind(town: Town):
    b = await town.node("b", tls=True)
    for wait_s in (0.0, 0.001, 0.003, 0.01):
        task = asyncio.create_task(
            connect_client(b.address, town.tls("client-app"), cluster="north", name="app")
        )
        await asyncio.sleep(wait_s)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, Connection):
            outcome.close()
    await until(lambda: not b.transport._connections)
