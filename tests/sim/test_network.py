"""Streams are TCP under trouble, and paths break as asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.sim import Delay, Link, NetworkLimits, World

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def serve(handler: Handler, port: int = 7) -> Callable[[], Awaitable[None]]:
    async def main() -> None:
        server = await asyncio.start_server(handler, "0.0.0.0", port)
        async with server:
            await server.serve_forever()

    return main


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


links = st.builds(
    Link,
    delay=st.builds(
        Delay,
        st.sampled_from(Delay.KINDS),
        st.floats(0, 50),
        st.floats(0, 50),
        st.floats(0.1, 1),
    ),
    loss=st.floats(0, 0.5),
    burst=st.floats(0, 0.5),
    fragment=st.floats(0, 1),
    bandwidth_bps=st.sampled_from([0, 1_000_000]),
)


@settings(deadline=None, max_examples=25)
@given(links, st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20), st.integers())
def test_whatever_the_link_a_stream_delivers_every_byte_once_and_in_order(
    link: Link, parts: list[bytes], seed: int
) -> None:
    sent = b"".join(parts)

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection("server", 7)
            except TimeoutError:  # half of the packets lost: some attempts fail, as they should
                continue

    async def main() -> bytes:
        reader, writer = await dial()
        for part in parts:
            writer.write(part)
        got = await reader.readexactly(len(sent))
        writer.close()
        await writer.wait_closed()
        return got

    with World(seed) as world:
        world.network.default = link
        world.host("server", serve(echo))
        world.run(0.1)
        assert world.call(world.host("client"), main(), within_s=1e6) == sent


def test_a_partition_delays_a_stream_and_loses_nothing() -> None:
    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("server", 7)
        await asyncio.sleep(2)
        writer.write(b"across")
        got = await reader.readexactly(6)
        writer.close()
        return got

    with World() as world:
        world.host("server", serve(echo))
        task = world.host("client").spawn(main())
        world.run(1)
        paths = world.network.partition(["server"], ["client"])
        world.run(60)
        assert not task.done()
        world.network.mend(paths)
        world.run(1)
        assert task.result() == b"across"


def test_data_on_its_way_when_the_path_is_cut_waits_too() -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10))
        writer.close()

    async def main() -> None:
        _, writer = await asyncio.open_connection("server", 7)
        writer.write(b"late")
        await asyncio.sleep(100)
        writer.close()

    with World() as world:
        world.network.default = Link(Delay("constant", 100))
        world.host("server", serve(hear))
        world.run(0.1)
        world.host("client").spawn(main())
        world.run(0.25)  # handshake done, data under way
        world.network.partition(["server"], ["client"])
        world.run(10)
        assert heard == []
        world.network.repair()
        world.run(2)
        assert heard == [b"late"]


def test_a_lossy_link_costs_a_stream_time_and_no_data() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("server", 7)
        before = loop.time()
        for _ in range(50):
            writer.write(b"x")
            await reader.readexactly(1)
        writer.close()
        return loop.time() - before

    def took(loss: float) -> float:
        with World() as world:
            world.network.default = Link(Delay("constant", 1), loss=loss)
            world.host("server", serve(echo))
            world.run(1)
            seconds: float = world.call(world.host("client"), main())
            return seconds

    assert took(0) < 0.2
    assert took(0.2) > 0.2 * 10, "about twenty of a hundred packets wait 200 ms or longer"


def test_an_unanswered_stream_is_given_up_in_the_end() -> None:
    async def main() -> str:
        reader, writer = await asyncio.open_connection("server", 7)
        await asyncio.sleep(1)
        writer.write(b"anybody?")
        try:
            await reader.read(1)
        except OSError as error:
            return type(error).__name__
        finally:
            writer.close()
        return "end of file"

    with World(limits=NetworkLimits(give_up_s=30)) as world:
        world.host("server", serve(echo))
        task = world.host("client").spawn(main())
        world.run(0.5)
        world.network.isolate("server")
        world.run(30)
        assert not task.done()
        world.run(2)
        assert task.result() == "TimeoutError"


def test_dialling_a_closed_port_is_refused_and_a_silent_host_times_out() -> None:
    async def dial(name: str) -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is the question
            await asyncio.open_connection(name, 99)
        return type(caught.value).__name__, round(loop.time() - before)

    with World() as world:
        world.host("server", serve(echo))
        world.host("dead").crash()
        client = world.host("client")
        assert world.call(client, dial("server")) == ("ConnectionRefusedError", 0)
        assert world.call(client, dial("dead")) == ("TimeoutError", 127)
        assert world.call(client, dial("10.9.9.9")) == ("OSError", 0)
        assert world.call(client, dial("nobody")) == ("gaierror", 0)


def test_dialling_succeeds_at_the_next_attempt_once_the_path_is_mended() -> None:
    async def dial() -> float:
        _, writer = await asyncio.open_connection("server", 7)
        writer.close()
        return asyncio.get_running_loop().time() - 1_000

    with World() as world:
        world.host("server", serve(echo))
        task = world.host("client").spawn(dial())
        world.network.isolate("server")
        world.run(4)
        world.network.repair()
        world.run(10)
        assert task.result() == pytest.approx(7, abs=0.1)  # attempts at 0, 1, 3, 7 s


def test_a_one_way_cut_lets_requests_through_and_answers_not() -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.append(data)
            writer.write(b"yes")
        writer.close()

    async def main() -> None:
        reader, writer = await asyncio.open_connection("server", 7)
        try:
            await asyncio.sleep(1)
            writer.write(b"hello?")
            await reader.read(3)
        finally:
            writer.close()

    with World() as world:
        world.host("server", serve(hear))
        task = world.host("client").spawn(main())
        world.run(0.5)
        world.network.one_way(["server"], ["client"])
        world.run(20)
        assert heard == [b"hello?"]
        assert not task.done()
        world.network.repair()
        world.run(2)
        assert task.done()


def test_a_killed_process_closes_its_connections_and_a_dead_machine_does_not() -> None:
    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("server", 7)
        try:
            return await reader.read(1)
        finally:
            writer.close()

    for how, told in (("kill", True), ("crash", False)):
        with World() as world:
            server = world.host("server", serve(echo))
            task = world.host("client").spawn(main())
            world.run(1)
            getattr(server, how)()
            world.run(100)
            assert task.done() is told, how


def test_a_machine_that_lost_its_power_resets_old_connections_when_it_is_back() -> None:
    async def main() -> str:
        reader, writer = await asyncio.open_connection("server", 7)
        await asyncio.sleep(2)
        writer.write(b"still there?")
        try:
            await reader.read(1)
        except ConnectionResetError:
            return "reset"
        finally:
            writer.close()
        return "closed"

    with World() as world:
        server = world.host("server", serve(echo))
        task = world.host("client").spawn(main())
        world.run(1)
        server.crash()
        world.run(5)
        assert not task.done(), "half-open: nobody told us"
        server.restart()
        world.run(1)
        assert task.result() == "reset"


def test_a_slow_reader_makes_the_writer_wait() -> None:
    progress: list[int] = []

    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)
        while await reader.read(65_536):  # noqa: ASYNC110 - it sips
            await asyncio.sleep(0.01)
        writer.close()

    async def main() -> None:
        _, writer = await asyncio.open_connection("server", 7)
        for number in range(64):
            writer.write(bytes(32_768))
            await writer.drain()
            progress.append(number)
        writer.close()
        await writer.wait_closed()

    with World() as world:
        world.host("server", serve(sip))
        task = world.host("client").spawn(main())
        world.run(5)
        assert 8 <= len(progress) < 24, "the window, both buffers, and no more"
        world.run(60)
        assert task.done()
        assert len(progress) == 64


def test_half_closing_sends_the_end_of_file_and_still_receives() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(b"%d" % len(data))
        writer.close()

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("server", 7)
        writer.write(bytes(100_000))
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    with World() as world:
        world.host("server", serve(count))
        world.run(1)
        assert world.call(world.host("client"), main()) == b"100000"


def test_bandwidth_makes_large_messages_slow() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("server", 7)
        before = loop.time()
        writer.write(bytes(125_000))
        await reader.readexactly(125_000)
        writer.close()
        return loop.time() - before

    with World() as world:
        world.network.default = Link(Delay("constant", 1), bandwidth_bps=1_000_000)
        world.host("server", serve(echo))
        world.run(1)
        assert 1 < world.call(world.host("client"), main()) < 2.1


def test_loopback_and_localhost_stay_on_the_host() -> None:
    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 7)
        reader, writer = await asyncio.open_connection("localhost", 7)
        writer.write(b"me")
        answer = await reader.readexactly(2)
        writer.close()
        server.close()
        return answer

    async def intrude() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("a", 7)

    with World() as world:
        a, b = world.host("a"), world.host("b")
        task = a.spawn(main())
        world.call(b, intrude())
        world.run(1)
        assert task.result() == b"me"


def test_two_servers_cannot_listen_on_one_port() -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "0.0.0.0", 7)
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(echo, "0.0.0.0", 7)
        server.close()
        await server.wait_closed()
        again = await asyncio.start_server(echo, "0.0.0.0", 7)
        assert again.sockets[0].getsockname() == ("0.0.0.0", 7)
        again.close()
        with pytest.raises(OSError, match="Cannot assign"):
            await asyncio.start_server(echo, "10.9.9.9", 7)

    with World() as world:
        world.call(world.host("a"), main())


def test_regions_have_links_of_their_own() -> None:
    async def trip(name: str) -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        _, writer = await asyncio.open_connection(name, 7)
        writer.close()
        return round(loop.time() - before, 3)

    with World() as world:
        world.network.link_regions("eu", "us", Link(Delay("constant", 40)))
        world.network.link_regions("eu", "eu", Link(Delay("constant", 1)))
        world.host("paris", serve(echo), region="eu")
        world.host("virginia", serve(echo), region="us")
        here = world.host("rome", region="eu")
        world.run(1)
        assert world.call(here, trip("paris")) == 0.002
        assert world.call(here, trip("virginia")) == 0.080


def test_cuts_add_up_and_each_needs_its_own_mending() -> None:
    with World() as world:
        for name in "abc":
            world.host(name)
        (path,) = world.network.between(["a"], ["b"])
        first = world.network.partition(["a"], ["b", "c"])
        second = world.network.isolate("a")
        world.network.mend(first)
        assert path.is_cut
        world.network.mend(second)
        assert not path.is_cut


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda net: net.partition(["a"]), "two sides"),
        (lambda net: net.partition(["a"], ["a"]), "on two sides"),
        (lambda net: net.isolate("x"), "no host 'x'"),
        (lambda net: net.bend(net.between("a", "b"), hue=1), "hue"),
        (lambda net: Link(loss=1.5), "link.loss"),
        (lambda net: Delay("gamma"), "gamma"),
        (lambda net: Link.from_mapping({"los": 1}), "los"),
    ],
)
def test_nonsense_is_refused_with_an_explanation(wrong: Callable[[Any], Any], message: str) -> None:
    with World() as world:
        world.host("a")
        world.host("b")
        with pytest.raises(InvalidInput, match=message):
            wrong(world.network)
