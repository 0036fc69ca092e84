"""Clients at the same door: what they get, how many, and what happens to those who don't read."""

import asyncio

import pytest

from mcpcore.errors import HandshakeRefused, InvalidInput
from mcpcore.node.connection import Connection
from mcpcore.node.dialing import connect_client
from mcpcore.node.handshake import Versions
from mcpcore.node.identity import Role
from mcpcore.node.limits import Limits
from mcpcore.node.security import Plaintext
from mcpcore.node.transport import ADMIN_RESERVE
from tests.node.transport.town import SHORT, Node, Town, until


async def connect(node: Node, name: str = "app", **how) -> Connection:
    how = {"cluster": "north", "limits": SHORT, **how}
    return await connect_client(node.address, Plaintext(allow_plaintext=True), name=name, **how)


async def test_a_client_asks_and_is_answered(town: Town):
    b = await town.node("b")
    answers: list[bytes] = []
    connection = await connect(b, on_frame=answers.append)
    (served,) = b.heard.clients
    served.on_frame = lambda payload: served.send(payload[::-1])
    connection.send(b"question")
    await until(lambda: answers == [b"noitseuq"])
    assert (connection.name, connection.role) == ("b", Role.CLIENT)
    assert (served.name, served.role) == ("app", Role.CLIENT)
    assert connection.incarnation == b.transport.config.incarnation
    connection.close()


async def test_both_sides_hear_of_the_end_and_why(town: Town):
    b = await town.node("b")
    first, second = await connect(b, "one"), await connect(b, "two")
    ends: list[str] = []
    second.on_close = ends.append
    b.heard.clients[0].on_close = ends.append
    first.close("enough for today")
    await until(lambda: ends == ["the other side says: enough for today"])
    assert [c.name for c in b.transport.clients] == ["two"]
    await b.transport.close()
    await until(lambda: len(ends) == 2)
    assert ends[1] == "the other side says: b is closing down"
    assert not second.send(b"to nobody")


async def test_an_idle_client_is_kept_and_a_dead_one_let_go(town: Town):
    b = await town.node("b", limits=SHORT)
    connection = await connect(b)
    await asyncio.sleep(3 * SHORT.idle_timeout_s)
    assert connection.is_open
    assert len(b.transport.clients) == 1
    connection._transport.pause_reading()
    connection._timer.cancel()  # and so it sends no more pings
    await until(lambda: not b.transport.clients)
    connection.abort("end of test")


async def test_a_full_house_refuses_clients_but_lets_administrators_in(town: Town):
    b = await town.node("b", limits=Limits(max_clients=2))
    guests = [await connect(b, f"client{n}") for n in range(2)]
    with pytest.raises(HandshakeRefused, match="b serves 2 clients already") as refusal:
        await connect(b, "one-too-many")
    assert refusal.value.code == "busy"
    guests += [await connect(b, f"admin{n}", role=Role.ADMIN) for n in range(ADMIN_RESERVE)]
    with pytest.raises(HandshakeRefused):
        await connect(b, "one-admin-too-many", role=Role.ADMIN)
    guests.pop(0).close()
    guests.pop(0).close()
    for guest in guests:
        guest.close()
    await until(lambda: not b.transport.clients)
    (await connect(b)).close()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_client_that_does_not_read_may_not_go_on_asking(town: Town, tls: bool):
    b = await town.node("b", tls=tls, limits=Limits(client_stall_timeout_s=3600.0))
    if tls:
        connection = await connect_client(
            b.address, town.tls("client-app"), cluster="north", name="app"
        )
    else:
        connection = await connect(b, limits=Limits())
    (served,) = b.heard.clients
    connection._transport.pause_reading()
    while not served.is_congested:
        served.send(bytes(100_000))
        await asyncio.sleep(0)
    heard = len(b.heard.client_frames)
    connection.send(b"another question")
    await asyncio.sleep(0.1)
    assert len(b.heard.client_frames) == heard, "not read while the answers wait"
    connection.on_frame = lambda payload: None
    connection._transport.resume_reading()
    await until(lambda: len(b.heard.client_frames) == heard + 1)
    assert not served.is_congested
    connection.close()


async def test_a_client_whose_queue_is_full_is_let_go(town: Town):
    limits = Limits(max_frame_bytes=100_000, max_client_queue_bytes=300_000)
    b = await town.node("b", limits=limits)
    connection = await connect(b, limits=Limits())
    (served,) = b.heard.clients
    connection._transport.pause_reading()
    while served.send(bytes(100_000)):
        assert served.queued_bytes <= 300_000
        await asyncio.sleep(0)
    assert served.parting.code == "slow"
    assert b.transport.clients == ()
    connection.abort("end of test")


async def test_a_client_that_reads_nothing_for_long_is_let_go(town: Town):
    limits = Limits(client_stall_timeout_s=0.3, ping_interval_s=0.1, idle_timeout_s=0.3)
    b = await town.node("b", limits=limits)
    connection = await connect(b, limits=Limits(ping_interval_s=0.05))
    (served,) = b.heard.clients
    connection._transport.pause_reading()
    while not served.is_congested:
        served.send(bytes(100_000))
        await asyncio.sleep(0)
    await until(lambda: served.parting is not None)
    assert "it has read nothing for" in served.parting.why
    connection.abort("end of test")


async def test_a_malformed_request_ends_its_own_connection_only(town: Town):
    b = await town.node("b")
    bad, good = await connect(b, "bad"), await connect(b, "good")

    def refuse(payload: bytes) -> None:
        raise InvalidInput("no such request")

    b.heard.clients[0].on_frame = refuse
    bad.send(b"?")
    assert "no such request" in (await bad.over).why
    assert good.is_open
    good.close()


async def test_nothing_is_delivered_after_the_handler_has_closed(town: Town):
    b = await town.node("b")
    connection = await connect(b)
    (served,) = b.heard.clients
    heard: list[bytes] = []

    def close_at_once(payload: bytes) -> None:
        heard.append(payload)
        served.close("one is enough")

    served.on_frame = close_at_once
    connection.send(b"one")
    connection.send(b"two, in the same packet")
    await connection.over
    assert heard == [b"one"]


async def test_a_client_of_another_cluster_or_version_is_refused(town: Town):
    b = await town.node("b")
    with pytest.raises(HandshakeRefused, match="of cluster south, b of north"):
        await connect(b, cluster="south")
    with pytest.raises(HandshakeRefused, match="speaks protocol versions 7 to 8") as refusal:
        await connect(b, versions=Versions(7, 8))
    assert refusal.value.code == "version"


async def test_a_client_cannot_ask_to_be_a_peer(town: Town):
    b = await town.node("b")
    with pytest.raises(InvalidInput, match="cannot ask to be a peer"):
        await connect(b, role=Role.PEER)


async def test_who_is_at_the_other_end_is_not_known_before_the_handshake():
    connection = Connection(None, Plaintext(allow_plaintext=True), SHORT, set())
    with pytest.raises(InvalidInput, match="has not been opened"):
        _ = connection.name
    assert not connection.send(b"x")
