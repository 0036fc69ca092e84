"""The link shaper: what a program on a bad network would see, on loopback."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.experiment.links import THREE_CLOUDS, Link, LinkQuality, both_ways
from mcpcore.experiment.shaper import Shaper
from mcpcore.node.addresses import Address
from mcpcore.node.certificates import Authority, write_pairs
from mcpcore.node.identity import CertifiedRole
from mcpcore.node.security import Tls

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def network(
    quality: LinkQuality, serve: Serve = echo, **options: int
) -> AsyncIterator[tuple[Shaper, Address]]:
    """Two sites, a program at "there", and the address at which callers "here" reach it."""
    serving: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with suppress(ConnectionError):
                await serve(reader, writer)
        finally:
            serving.discard(task)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    real = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    async with Shaper(both_ways({("here", "there"): quality}), **options) as shaper:
        yield shaper, await shaper.forward("here", "there", real)
    server.close()
    await asyncio.gather(*serving)
    await asyncio.sleep(0)


_called: list[asyncio.StreamWriter] = []


async def call(address: Address) -> Streams:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    _called.append(writer)
    return reader, writer


@pytest.fixture(autouse=True)
async def _hang_up() -> AsyncIterator[None]:
    yield
    for writer in _called:
        writer.transport.abort()
    await asyncio.sleep(0)
    _called.clear()


async def round_trip_s(streams: Streams, payload: bytes = b"x") -> float:
    reader, writer = streams
    loop = asyncio.get_running_loop()
    began = loop.time()
    writer.write(payload)
    async with asyncio.timeout(5):
        assert await reader.readexactly(len(payload)) == payload
    return loop.time() - began


async def is_silent(reader: asyncio.StreamReader, for_s: float) -> bool:
    try:
        async with asyncio.timeout(for_s):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_a_round_trip_takes_the_delay_of_both_directions() -> None:
    async with network(LinkQuality(one_way_s=0.05)) as (_, address):
        streams = await call(address)
        await round_trip_s(streams)  # the call itself takes one more
        taken = await round_trip_s(streams)
        assert 0.1 <= taken < 0.2


async def test_calling_takes_a_round_trip_before_anything_arrives() -> None:
    async with network(LinkQuality(one_way_s=0.05)) as (_, address):
        streams = await call(address)
        assert await round_trip_s(streams) >= 0.2


async def test_a_cut_holds_bytes_back_and_healing_lets_them_flow() -> None:
    async with network(LinkQuality(one_way_s=0.01)) as (shaper, address):
        reader, writer = streams = await call(address)
        await round_trip_s(streams)
        delivered = shaper.link("here", "there").bytes_delivered
        shaper.isolate("there")
        writer.write(b"held")
        assert await is_silent(reader, 0.15)
        assert shaper.link("here", "there").bytes_delivered == delivered
        shaper.rejoin("there")
        async with asyncio.timeout(2):
            assert await reader.readexactly(4) == b"held"


async def test_a_cut_link_is_not_even_read_from() -> None:
    """As with a cut cable: what a program sends meanwhile stays in its own kernel."""
    async with network(LinkQuality()) as (shaper, address):
        streams = await call(address)
        await round_trip_s(streams)
        shaper.isolate("there")
        streams[1].write(bytes(100_000))
        await asyncio.sleep(0.05)
        (relay,) = shaper._relays
        assert relay.pipes[0].queued_bytes == 0


async def test_what_was_under_way_when_the_cut_came_arrives_one_delay_after_healing() -> None:
    async with network(LinkQuality(one_way_s=0.1)) as (shaper, address):
        reader, writer = streams = await call(address)
        await round_trip_s(streams)
        writer.write(b"x")
        await asyncio.sleep(0.02)
        shaper.cut("here", "there")
        await asyncio.sleep(0.3)
        shaper.heal("here", "there")
        began = asyncio.get_running_loop().time()
        assert await reader.readexactly(1) == b"x"
        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_cut_in_one_direction_leaves_the_other_open() -> None:
    """The one-way partition: what we say arrives, and we hear nothing."""
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.extend(data)
            writer.write(data)

    async with network(LinkQuality(), listen) as (shaper, address):
        reader, writer = streams = await call(address)
        await round_trip_s(streams, b"before")
        shaper.cut("there", "here")
        writer.write(b"-during")
        assert await is_silent(reader, 0.1)
        assert heard == b"before-during"
        shaper.heal_all()
        assert await reader.readexactly(7) == b"-during"


async def test_a_call_during_a_cut_is_neither_answered_nor_refused_until_it_heals() -> None:
    async with network(LinkQuality()) as (shaper, address):
        shaper.isolate("there")
        reader, writer = await call(address)
        writer.write(b"hello")
        assert await is_silent(reader, 0.1)
        shaper.rejoin("there")
        async with asyncio.timeout(2):
            assert await reader.readexactly(5) == b"hello"


async def test_a_caller_who_gives_up_during_a_cut_is_forgotten() -> None:
    async with network(LinkQuality()) as (shaper, address):
        shaper.isolate("there")
        for _ in range(20):
            _, writer = await call(address)
            writer.transport.abort()
        assert shaper.link("here", "there").connections
        await asyncio.sleep(0.05)
        assert shaper.link("here", "there").connections == 0


async def test_reset_breaks_the_connections_and_new_ones_come_at_once() -> None:
    async with network(LinkQuality()) as (shaper, address):
        streams = await call(address)
        await round_trip_s(streams)
        shaper.reset("here", "there")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await streams[0].readexactly(1)
        again = await call(address)
        await round_trip_s(again)


async def test_nobody_listening_looks_like_a_reset() -> None:
    async with Shaper(both_ways({("here", "there"): LinkQuality()})) as shaper:
        address = await shaper.forward("here", "there", Address("127.0.0.1", 1))
        reader, _ = await call(address)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_closing_is_heard_after_all_that_was_said() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"last words")

    async with network(LinkQuality(one_way_s=0.02, jitter_s=0.01), greet) as (shaper, address):
        reader, writer = await call(address)
        async with asyncio.timeout(2):
            assert await reader.read() == b"last words"
        writer.close()
        async with asyncio.timeout(2):
            while shaper.link("here", "there").connections:  # noqa: ASYNC110 (no event to wait for)
                await asyncio.sleep(0.01)


async def test_half_a_connection_may_close_before_the_other() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        writer.write(question.upper())

    async with network(LinkQuality(one_way_s=0.01), answer_at_the_end) as (_, address):
        reader, writer = await call(address)
        writer.write(b"question")
        writer.write_eof()
        async with asyncio.timeout(2):
            assert await reader.read() == b"QUESTION"


async def test_a_receiver_that_does_not_read_slows_the_sender_and_memory_stays_bounded() -> None:
    wake = asyncio.Event()
    received = 0

    async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await wake.wait()
        while data := await reader.read(1 << 20):
            received += len(data)

    async with network(LinkQuality(), sleepy, window_bytes=64 * 1024) as (shaper, address):
        _, writer = await call(address)
        total = 64 << 20
        writer.write(bytes(total))
        for _ in range(20):
            await asyncio.sleep(0.01)
            shaper.check()
        unsent = writer.transport.get_write_buffer_size()
        assert unsent > total // 2, "the sender was not slowed"
        wake.set()
        writer.write_eof()
        async with asyncio.timeout(20):
            while received < total:
                await asyncio.sleep(0.01)
                shaper.check()
        assert received == total


async def test_a_narrow_link_takes_its_time_and_is_shared() -> None:
    quality = LinkQuality(bandwidth_bytes_per_s=1_000_000)
    async with network(quality) as (_, address):
        began = asyncio.get_running_loop().time()
        both = [await call(address), await call(address)]
        await asyncio.gather(*(round_trip_s(streams, bytes(100_000)) for streams in both))
        taken = asyncio.get_running_loop().time() - began
        assert 0.2 <= taken < 1.0, "200,000 bytes at a megabyte a second, each way overlapping"


async def test_jitter_never_reorders_a_stream() -> None:
    quality = LinkQuality(one_way_s=0.001, jitter_s=0.005)
    async with network(quality, seed=3) as (_, address):
        reader, writer = await call(address)
        sent = bytearray()
        for number in range(300):
            piece = number.to_bytes(4, "big")
            writer.write(piece)
            sent += piece
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        async with asyncio.timeout(5):
            assert await reader.readexactly(len(sent)) == sent


async def test_tls_passes_untouched(tmp_path: Path) -> None:
    authority = Authority.create("test")
    write_pairs(
        {
            tmp_path / "ca": authority.pair,
            tmp_path / "node": authority.issue(CertifiedRole.NODE, "a", ["127.0.0.1"]),
        }
    )
    tls = Tls(tmp_path / "ca.crt", tmp_path / "node.crt", tmp_path / "node.key")
    complaints: list[str] = []
    server = await asyncio.start_server(
        echo, "127.0.0.1", 0, ssl=tls.server_context(complaints.append)
    )
    real = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    async with Shaper(both_ways({("x", "y"): LinkQuality(one_way_s=0.01)})) as shaper:
        address = await shaper.forward("x", "y", real)
        context: ssl.SSLContext = tls.client_context()
        streams = await asyncio.open_connection(
            address.host, address.port, ssl=context, server_hostname=""
        )
        await round_trip_s(streams, bytes(range(256)) * 100)
        streams[1].close()
        await streams[1].wait_closed()
    server.close()
    assert not complaints


async def test_closing_the_shaper_breaks_what_is_open_and_frees_its_ports() -> None:
    async with network(LinkQuality(one_way_s=0.01)) as (shaper, address):
        streams = await call(address)
        await round_trip_s(streams)
        await call(address)  # one that still waits for its answer
        await shaper.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await streams[0].readexactly(1)
        with pytest.raises(ConnectionRefusedError):
            await call(address)


# --- laws of a link ---------------------------------------------------------------------------


@settings(deadline=None)
@given(
    one_way_s=st.floats(0, 1),
    jitter_s=st.floats(0, 1),
    bandwidth=st.none() | st.floats(1, 1e9),
    entries=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10_000)), max_size=30),
    seed=st.integers(0, 100),
)
def test_nothing_arrives_sooner_than_the_link_allows(
    one_way_s: float,
    jitter_s: float,
    bandwidth: float | None,
    entries: list[tuple[float, int]],
    seed: int,
) -> None:
    quality = LinkQuality(one_way_s=one_way_s, jitter_s=jitter_s, bandwidth_bytes_per_s=bandwidth)
    link = Link("a", "b", quality, random.Random(seed))
    twin = Link("a", "b", quality, random.Random(seed))
    now_s, sent = 0.0, 0
    for wait_s, size in entries:
        now_s += wait_s
        sent += size
        arrival_s = link.arrival_s(now_s, size)
        assert arrival_s >= now_s + one_way_s
        assert jitter_s or bandwidth or arrival_s == now_s + one_way_s
        if bandwidth is not None:
            assert arrival_s >= sent / bandwidth * (1 - 1e-9)
        assert twin.arrival_s(now_s, size) == arrival_s, "one seed, one sequence of delays"


def test_jitter_adds_its_mean_and_has_an_end() -> None:
    link = Link("a", "b", LinkQuality(one_way_s=1.0, jitter_s=0.1), random.Random(1))
    delays = [link.delay_s() for _ in range(20_000)]
    assert sum(delays) / len(delays) == pytest.approx(1.1, abs=0.005)
    assert max(delays) <= 1.8


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"one_way_s": -0.1}, "one_way_s"),
        ({"jitter_s": float("nan")}, "jitter_s"),
        ({"one_way_s": float("inf")}, "one_way_s"),
        ({"bandwidth_bytes_per_s": 0}, "bandwidth"),
        ({"bandwidth_bytes_per_s": float("nan")}, "bandwidth"),
    ],
)
def test_a_link_that_makes_no_sense_is_refused_by_name(
    values: dict[str, float], where: str
) -> None:
    with pytest.raises(InvalidInput, match=where):
        LinkQuality(**values)


def test_unknown_sites_and_half_links_are_refused_by_name() -> None:
    shaper = Shaper(THREE_CLOUDS)
    with pytest.raises(InvalidInput, match="us-east-1 -> mars"):
        shaper.cut("us-east-1", "mars")
    with pytest.raises(InvalidInput, match="mars"):
        shaper.isolate("mars")
    with pytest.raises(InvalidInput, match="a -> b"):
        Shaper({("a", "b"): LinkQuality()})


def test_isolating_a_site_cuts_its_links_and_no_others() -> None:
    shaper = Shaper(THREE_CLOUDS)
    shaper.isolate("hangzhou")
    assert {str(link) for link in shaper.links if not link.is_cut} == {
        "us-east-1 -> edge",
        "edge -> us-east-1",
    }
